import hypothesis
import hypothesis.strategies as st
import nibabel
import numpy as np
import pytest
from made.masks import made_grid, reoriented, rotation

from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.geometry import Grid, resample_nearest, to_canonical
from kerasbalance.data.volume.matching import match

shapes = st.tuples(*[st.integers(2, 5)] * 3)  # one slice alone does not say how thick it is
flips = st.tuples(*[st.booleans()] * 3)
angles = st.tuples(*[st.floats(-0.4, 0.4)] * 3)


def uneven(grid, offsets):
    positions = grid.positions_mm + np.array([[0, 0, z] for z in offsets])
    return Grid(grid.shape, positions, grid.row_step_mm, grid.column_step_mm)


@hypothesis.given(shape=shapes, order=st.permutations(range(3)), flip=flips, turn=angles)
def test_canonical_voxels_keep_value_and_place(shape, order, flip, turn):
    grid = made_grid(shape, turn=rotation(turn))
    values = np.arange(np.prod(shape)).reshape(shape)
    back, found = to_canonical(*reoriented(values, grid, order, flip))
    np.testing.assert_array_equal(back, values)
    np.testing.assert_allclose(found.positions_mm, grid.positions_mm, atol=1e-6)
    np.testing.assert_allclose(found.row_step_mm, grid.row_step_mm, atol=1e-9)
    np.testing.assert_allclose(found.column_step_mm, grid.column_step_mm, atol=1e-9)


@hypothesis.given(order=st.permutations(range(3)), flip=flips, turn=angles)
def test_canonical_orientation_is_nibabels_lps(order, flip, turn):
    _, turned = reoriented(np.zeros((3, 4, 5)), made_grid((3, 4, 5), turn=rotation(turn)), order, flip)
    _, grid = to_canonical(np.zeros(turned.shape), turned)
    assert nibabel.aff2axcodes(grid.affine()) == ("R", "A", "S")  # nibabel's names for growing x, y, z


def test_canonical_input_comes_back_as_it_is():
    values = np.zeros((3, 4, 5), np.uint8)
    same, _ = to_canonical(values, made_grid((3, 4, 5)))
    assert np.shares_memory(same, values)
    assert same.strides == values.strides


def test_uneven_slices_may_be_reversed_but_their_axes_not_exchanged():
    grid = uneven(made_grid((4, 5, 6)), (0, 0, 2, 9))
    values = np.arange(120).reshape(4, 5, 6)
    backwards = Grid(grid.shape, grid.positions_mm[::-1], grid.row_step_mm, grid.column_step_mm)
    back, found = to_canonical(values[::-1], backwards)
    np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(found.positions_mm, grid.positions_mm)
    sideways = Grid(grid.shape, grid.positions_mm[:, [2, 1, 0]], grid.row_step_mm, np.array([0, 0, 1.0]))
    with pytest.raises(DataError, match="UNEVEN"):
        to_canonical(values, sideways)


def test_the_normal_points_towards_growing_slices():
    grid = made_grid((3, 4, 5))
    np.testing.assert_array_equal(grid.normal, [0, 0, 1])
    backwards = Grid(grid.shape, grid.positions_mm[::-1], grid.row_step_mm, grid.column_step_mm)
    np.testing.assert_array_equal(backwards.normal, [0, 0, -1])
    np.testing.assert_allclose(backwards.depth_mm, [0, 3, 6])


def test_spacing_is_the_median_and_unknown_for_one_slice():
    assert uneven(made_grid((4, 5, 6)), (0, 0, 0, 9)).spacing_mm == (3.0, 1.5, 1.0)
    assert np.isnan(made_grid((1, 5, 6)).spacing_mm[0])


@pytest.mark.parametrize(
    ("offsets", "regular"),
    [
        ((0, 0, 0, 0), True),
        ((0, 0.01, -0.01, 0), True),
        ((0, 0, 0, 1), False),
        ((0, 0.2, 0.2, 0.2), False),
    ],
)
def test_regular_is_what_one_affine_describes(offsets, regular):
    grid = uneven(made_grid((4, 5, 6)), offsets)
    assert grid.is_regular == regular
    if regular:
        rebuilt = Grid.from_affine(grid.shape, grid.affine())
        np.testing.assert_allclose(rebuilt.positions_mm, grid.positions_mm, atol=0.05)
    else:
        with pytest.raises(DataError, match="UNEVEN"):
            grid.affine()


def test_small_differences_that_add_up_are_not_regular():
    steps = np.concatenate([np.full(100, 0.02), np.full(99, -0.02)])
    grid = uneven(made_grid((200, 2, 2)), [0, *np.cumsum(steps)])
    assert not grid.is_regular


def test_matching_finds_slices_by_position():
    target = made_grid((6, 5, 6))
    source = Grid.from_affine(
        (3, 5, 6), target.affine() + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 6.0]] + [[0] * 4])
    )
    found = match(source, target)
    np.testing.assert_array_equal(found.slices, [-1, -1, 0, 1, 2, -1])
    assert (found.corner, found.off) == ((0, 0), 0.0)


@pytest.mark.parametrize(
    ("changed", "off"),
    [
        ({"origin": (-20.0, -29.87, 100.0)}, 0.087),  # rows are 1.5 mm apart
        ({"origin": (-20.0, -30.0, 100.29)}, 0.097),
        ({"origin": (-19.91, -30.0, 100.0)}, 0.09),
        ({"spacing": (3.0, 1.5, 1.018)}, 0.09),
        ({"turn": rotation((0, 0, 0.01))}, 0.06),
    ],
)
def test_matching_takes_what_is_a_tenth_of_a_voxel_off_at_most(changed, off):
    found = match(made_grid((6, 5, 6), **changed), made_grid((6, 5, 6)))
    np.testing.assert_array_equal(found.slices, range(6))
    assert found.off == pytest.approx(off, abs=0.002)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"spacing": (3.0, 1.5, 1.1)}, "drift by 0.5 voxels"),
        ({"spacing": (3.0, 1.5, 1.03)}, "0.15 voxels or more off"),
        ({"origin": (-20.0, -30.0, 101.0)}, "0.33 voxels or more off"),
        ({"origin": (-20.0, -29.8, 100.0)}, "0.13 voxels or more off"),
        ({"origin": (-19.0, -30.0, 100.0)}, "moved by 0 rows and 1 columns"),
        ({"shape": (6, 5, 4), "origin": (-21.0, -30.0, 100.0)}, "moved by 0 rows and -1 columns"),
        ({"spacing": (2.0, 1.5, 1.0)}, "off the CT's"),
        ({"turn": rotation((0, 0, 0.05))}, "drift"),
    ],
)
def test_matching_refuses_other_grids(changed, words):
    options = {"shape": (6, 5, 6), **changed}
    with pytest.raises(DataError, match="GEOMETRY") as caught:
        match(made_grid(options.pop("shape"), **options), made_grid((6, 5, 6)))
    assert words in str(caught.value)


@hypothesis.given(seed=st.integers(0, 99), turn=angles)
def test_resampling_onto_the_same_voxels_changes_nothing(seed, turn):
    labels = np.random.default_rng(seed).integers(0, 9, (4, 5, 6)).astype(np.uint8)
    grid = made_grid((4, 5, 6), turn=rotation(turn))
    np.testing.assert_array_equal(resample_nearest(labels, grid, grid), labels)


def test_resampling_agrees_with_simpleitk():
    sitk = pytest.importorskip("SimpleITK")
    labels = np.random.default_rng(0).integers(0, 9, (7, 20, 24)).astype(np.uint8)
    source, target = (
        made_grid(labels.shape),
        made_grid(
            (9, 31, 33),
            spacing=(2.3, 0.97, 0.77),
            turn=rotation((0.1, 0.2, -0.1)),
            origin=(-18.2, -27.1, 101.3),
        ),
    )
    theirs = sitk.Resample(
        itk_image(sitk, labels, source),
        itk_image(sitk, np.zeros(target.shape, np.uint8), target),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    ours = resample_nearest(labels, source, target)
    # Only the outermost half voxel may differ: ITK leaves it out or in by its own rule for the border.
    assert (ours == sitk.GetArrayFromImage(theirs)).mean() > 0.995
    assert ours.any()


def itk_image(sitk, values, grid):
    image = sitk.GetImageFromArray(values)
    between, row, column = grid.spacing_mm
    image.SetSpacing((column, row, between))
    image.SetOrigin(grid.positions_mm[0])
    image.SetDirection((grid.affine()[:3, :3] / [column, row, between]).ravel())
    return image
