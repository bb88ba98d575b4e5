import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.masks import made_grid
from scipy.ndimage import map_coordinates

from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.shaping import crop_or_pad, resample_plane
from kerasbalance.data.volume.volume import AIR_HU

sizes = st.integers(8, 24)


def case(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 1000, (3, rows, columns)).astype(np.int16)
    return hu, rng.integers(0, 3, hu.shape).astype(np.uint8), made_grid(hu.shape)


def position(grid: Grid, number, row, column):
    return grid.positions_mm[number] + row * grid.row_step_mm + column * grid.column_step_mm


@given(rows=sizes, columns=sizes, size=sizes)
def test_every_voxel_keeps_its_place_when_cropped_or_padded(rows, columns, size):
    hu, labels, grid = case(rows, columns)
    new_hu, new_labels, new_grid = crop_or_pad(hu, labels, grid, size)
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
    hu, labels, _ = case(9, 9)
    assert crop_or_pad(hu, labels, made_grid(hu.shape), 3)[0][0, 1, 1] == hu[0, 4, 4]


@given(rows=sizes, columns=sizes, size=sizes)
def test_the_field_of_view_keeps_its_corners_when_resampled(rows, columns, size):
    hu, labels, grid = case(rows, columns)
    _, _, new = resample_plane(hu, labels, grid, size)
    for number in range(3):
        np.testing.assert_allclose(
            position(new, number, -0.5, -0.5), position(grid, number, -0.5, -0.5), atol=1e-9
        )
        np.testing.assert_allclose(
            position(new, number, size - 0.5, size - 0.5),
            position(grid, number, rows - 0.5, columns - 0.5),
            atol=1e-9,
        )


def test_enlarged_hu_are_interpolated_linearly_at_their_place():
    hu, labels, grid = case(12, 16)
    new_hu, _, _ = resample_plane(hu, labels, grid, 32)
    rows, columns = (np.arange(32) + 0.5) * 12 / 32 - 0.5, (np.arange(32) + 0.5) * 16 / 32 - 0.5
    wanted = map_coordinates(
        hu[0].astype(float), np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest"
    )
    assert np.abs(new_hu[0] - wanted).max() <= 0.51


@pytest.mark.parametrize("size", [8, 20, 40])
def test_labels_stay_labels_and_lie_where_the_nearest_pixel_lay(size):
    hu, labels, grid = case(20, 20)
    _, new_labels, _ = resample_plane(hu, labels, grid, size)
    assert set(np.unique(new_labels)) <= {0, 1, 2}
    if size == 20:
        np.testing.assert_array_equal(new_labels, labels)
    if size == 40:
        np.testing.assert_array_equal(new_labels, labels.repeat(2, axis=1).repeat(2, axis=2))


def test_hu_and_mask_of_a_step_stay_together():
    hu, labels, grid = case(24, 24)
    labels[:] = 0
    labels[:, :, 12:] = 1
    hu[:] = np.where(labels > 0, 100, -100)
    new_hu, new_labels, _ = resample_plane(hu, labels, grid, 48)
    np.testing.assert_array_equal(new_hu > 0, new_labels > 0)


def test_what_comes_in_is_not_changed():
    hu, labels, grid = case(12, 12)
    before = hu.copy(), labels.copy(), grid.positions_mm.copy()
    crop_or_pad(hu, labels, grid, 8), resample_plane(hu, labels, grid, 8)
    for now, then in zip((hu, labels, grid.positions_mm), before, strict=True):
        np.testing.assert_array_equal(now, then)
