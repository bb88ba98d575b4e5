import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.masks import made_grid
from nibabel.processing import resample_from_to
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from kerasbalance.data.volume.geometry import RAS_TO_LPS, Grid
from kerasbalance.data.volume.shaping import Axis, Shaping
from kerasbalance.data.volume.volume import AIR_HU

sizes = st.integers(8, 24)


def case(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 1000, (3, rows, columns)).astype(np.int16)
    return hu, rng.integers(0, 3, hu.shape).astype(np.uint8), made_grid(hu.shape)


def shaped(hu, labels, grid, shaping):
    shape = shaping.of(hu.shape[1:], grid.spacing_mm[1:])
    return shape.image(hu), shape.labels(labels), shape.grid(grid)


def position(grid: Grid, number, row, column):
    return grid.positions_mm[number] + row * grid.row_step_mm + column * grid.column_step_mm


@given(rows=sizes, columns=sizes, size=sizes)
def test_every_voxel_keeps_its_place_when_cropped_or_padded(rows, columns, size):
    hu, labels, grid = case(rows, columns)
    new_hu, new_labels, new_grid = shaped(hu, labels, grid, Shaping(crop=size))
    assert new_hu.shape == new_labels.shape == new_grid.shape == (3, size, size)
    inside = 0
    for row in range(size):
        for column in range(size):
            place = position(new_grid, 1, row, column) - grid.positions_mm[1]
            i = round(float(place @ grid.row_step_mm / (grid.row_step_mm @ grid.row_step_mm)))
            j = round(float(place @ grid.column_step_mm / (grid.column_step_mm @ grid.column_step_mm)))
            found = 0 <= i < rows and 0 <= j < columns
            inside += found
            assert new_hu[1, row, column] == (hu[1, i, j] if found else AIR_HU)
            assert new_labels[1, row, column] == (labels[1, i, j] if found else 0)
    assert inside == min(rows, size) * min(columns, size)


def test_the_centre_is_kept():
    hu, labels, grid = case(9, 9)
    assert shaped(hu, labels, grid, Shaping(crop=3))[0][0, 1, 1] == hu[0, 4, 4]


@given(rows=sizes, columns=sizes, size=sizes)
def test_the_field_of_view_keeps_its_corners_when_resampled(rows, columns, size):
    hu, labels, grid = case(rows, columns)
    _, _, new = shaped(hu, labels, grid, Shaping(resize=size))
    for number in range(3):
        np.testing.assert_allclose(
            position(new, number, -0.5, -0.5), position(grid, number, -0.5, -0.5), atol=1e-9
        )
        np.testing.assert_allclose(
            position(new, number, size - 0.5, size - 0.5),
            position(grid, number, rows - 0.5, columns - 0.5),
            atol=1e-9,
        )


@given(rows=sizes, columns=sizes, spacing=st.floats(0.3, 3))
def test_one_pixel_size_covers_the_field_of_view_about_the_same_centre(rows, columns, spacing):
    hu, labels, grid = case(rows, columns)
    new_hu, _, new = shaped(hu, labels, grid, Shaping(spacing_mm=spacing))
    assert new.spacing_mm[1:] == pytest.approx((spacing, spacing))
    for axis, length in enumerate((rows, columns), 1):
        field = length * grid.spacing_mm[axis]
        assert field - 1e-5 <= new_hu.shape[axis] * spacing < field + spacing
    middle = [(length - 1) / 2 for length in new_hu.shape[1:]]
    np.testing.assert_allclose(
        position(new, 1, *middle), position(grid, 1, (rows - 1) / 2, (columns - 1) / 2), atol=1e-9
    )


def test_pixels_that_already_have_the_size_are_kept():
    hu, labels, grid = case(12, 12)
    spacing = grid.spacing_mm[1]
    square = Grid(
        grid.shape, grid.positions_mm, grid.row_step_mm, grid.column_step_mm * spacing / grid.spacing_mm[2]
    )
    new_hu, new_labels, new = shaped(hu, labels, square, Shaping(spacing_mm=spacing))
    np.testing.assert_array_equal(new_hu, hu)
    np.testing.assert_array_equal(new_labels, labels)
    np.testing.assert_allclose(new.positions_mm, grid.positions_mm)


def test_pixels_of_1_mm_become_half_a_millimetre_at_quarters_of_the_way():
    hu = np.array([[[0, 100], [200, 300]]], np.int16)
    shape = Shaping(spacing_mm=0.5).of((2, 2), (1.0, 1.0))
    np.testing.assert_array_equal(shape.image(hu)[0], [[0, 25, 75, 100], [50, 75, 125, 150],
                                                       [150, 175, 225, 250], [200, 225, 275, 300]])  # fmt: skip


def test_finer_pixels_are_what_scipy_interpolates_at_their_places():
    hu, labels, grid = case(12, 16)
    new_hu, _, new = shaped(hu, labels, grid, Shaping(spacing_mm=0.37))
    along = [
        (np.arange(new.shape[axis]) - (new.shape[axis] - 1) / 2) * 0.37 / grid.spacing_mm[axis]
        + (hu.shape[axis] - 1) / 2
        for axis in (1, 2)
    ]
    wanted = map_coordinates(hu[0].astype(float), np.meshgrid(*along, indexing="ij"), order=1, mode="nearest")
    inside = np.logical_and.outer(
        *[(a >= -0.5) & (a <= n - 0.5) for a, n in zip(along, (12, 16), strict=True)]
    )
    assert np.abs(new_hu[0] - wanted)[inside].max() <= 0.51
    assert (new_hu[0][~inside] == AIR_HU).all()


def test_the_new_grid_is_where_nibabel_finds_the_new_values():
    ramp = np.add.outer(np.arange(20) * 30, np.arange(24) * 7).astype(np.int16)
    hu = np.stack([ramp, ramp + 100, ramp + 200])
    grid = made_grid(hu.shape)
    new_hu, _, new = shaped(hu, np.zeros(hu.shape, np.uint8), grid, Shaping(spacing_mm=0.5, crop=16))
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.float32), RAS_TO_LPS @ grid.affine())
    found = resample_from_to(image, (new.shape[::-1], RAS_TO_LPS @ new.affine()), order=1).get_fdata()
    assert np.abs(found.transpose(2, 1, 0) - new_hu).max() <= 0.51


def test_enlarged_hu_are_interpolated_linearly_at_their_place():
    hu, labels, grid = case(12, 16)
    new_hu, _, _ = shaped(hu, labels, grid, Shaping(resize=32))
    rows, columns = (np.arange(32) + 0.5) * 12 / 32 - 0.5, (np.arange(32) + 0.5) * 16 / 32 - 0.5
    wanted = map_coordinates(
        hu[0].astype(float), np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest"
    )
    assert np.abs(new_hu[0] - wanted).max() <= 0.51


@pytest.mark.parametrize("size", [8, 11, 20, 40])
def test_resized_hu_are_what_scikit_image_resizes(size):
    hu, labels, grid = case(20, 20)
    new_hu, _, _ = shaped(hu, labels, grid, Shaping(resize=size))
    for before, after in zip(hu.astype(np.float64), new_hu, strict=True):
        wanted = resize(before, (size, size), order=1, anti_aliasing=True, preserve_range=True, mode="edge")
        assert np.abs(after - wanted).max() <= 0.51


@pytest.mark.parametrize("shaping", [Shaping(resize=8), Shaping(resize=40), Shaping(spacing_mm=1.3)])
def test_labels_stay_labels_and_the_label_that_covers_most_of_a_pixel_wins(shaping):
    _, labels, grid = case(20, 20)
    shape = shaping.of((20, 20), grid.spacing_mm[1:])
    shares = []
    for value in range(3):  # HU of 0 and 1,000 resampled are the shares of the label in thousandths
        shares.append(shape.image(np.where(labels == value, 1000, 0).astype(np.int16)))
    most = np.argmax(shares, axis=0)
    second = np.sort(shares, axis=0)[1]
    clear = (np.max(shares, axis=0) - second > 2) & (np.max(shares, axis=0) > 0)
    np.testing.assert_array_equal(shape.labels(labels)[clear], most[clear])
    assert clear.mean() > 0.9


def test_hu_and_mask_of_a_step_stay_together():
    hu, labels, grid = case(24, 24)
    labels[:] = 0
    labels[:, :, 12:] = 1
    hu[:] = np.where(labels > 0, 100, -100)
    new_hu, new_labels, _ = shaped(hu, labels, grid, Shaping(resize=48))
    np.testing.assert_array_equal(new_hu > 0, new_labels > 0)


def test_what_comes_in_is_not_changed():
    hu, labels, grid = case(12, 12)
    before = hu.copy(), labels.copy(), grid.positions_mm.copy()
    shaped(hu, labels, grid, Shaping(crop=8)), shaped(hu, labels, grid, Shaping(resize=8))
    for now, then in zip((hu, labels, grid.positions_mm), before, strict=True):
        np.testing.assert_array_equal(now, then)


ALL = [Shaping(crop=24), Shaping(resize=64), Shaping(resize=12), Shaping(crop=48, resize=32), Shaping(24, 48),
       Shaping(spacing_mm=1.5), Shaping(spacing_mm=0.6), Shaping(crop=30, spacing_mm=1.1)]  # fmt: skip


@pytest.mark.parametrize("shaping", ALL)
def test_probabilities_come_back_onto_the_ct_they_were_shaped_from(shaping):
    rows, columns = np.mgrid[:40, :36]
    ramp = (rows + 2.0 * columns)[None, ..., None] / 150
    shape = shaping.of((40, 36), (1.0, 0.8))
    there = shape.image((ramp[..., 0] * 10_000).astype(np.int16)) / 10_000
    back = shape.restored(there[..., None])
    assert back.shape == ramp.shape
    inner = np.s_[:, 10:30, 10:26]  # a ramp is its own resampled form but at the border
    np.testing.assert_allclose(back[inner], ramp[inner], atol=0.01)


def test_what_was_cropped_away_comes_back_as_probability_0():
    back = Shaping(crop=2).of((4, 4), (1.0, 1.0)).restored(np.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(back[0, ..., 0], [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])


def test_a_disc_predicted_on_an_eighth_of_the_pixels_has_a_smooth_contour_on_the_ct():
    rows, columns = np.mgrid[:128, :128] - 63.5
    radius = np.hypot(rows, columns)
    soft = np.clip((40 - radius) / 16 + 0.5, 0, 1)[None]
    shape = Shaping(resize=16).of((128, 128), (1.0, 1.0))
    coarse = shape.image((soft * 1000).astype(np.int16))[..., None] / 1000
    wrong = (shape.restored(coarse)[0, ..., 0] > 0.5) != (radius < 40)
    blocks = np.repeat(np.repeat(coarse[0, ..., 0] > 0.5, 8, 0), 8, 1) != (radius < 40)
    assert 6 * wrong.sum() < blocks.sum() == 400
    assert np.abs(radius[wrong] - 40).max(initial=0) < 0.5  # of a pixel of the CT


def test_the_way_back_undoes_the_way_there():
    axis = Axis(100, 100).resampled(37, 2.5).cropped(30)
    assert axis.inverse.inverse.start == pytest.approx(axis.start)
    assert axis.inverse.inverse.step == pytest.approx(2.5)
