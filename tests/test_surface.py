"""Surface distances: equal to MONAI's, and right where MONAI has nothing to say."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kerasbalance.evaluation.surface import SurfaceMetrics, surface_distances, surface_metrics, union_box

REAL = Path(__file__).parents[1] / "../shared/real"


def values(metrics):
    return [metrics.hd95_mm, metrics.nsd, metrics.assd_mm, metrics.mssd_mm]


def blobs(shape, seed, *, margin=0):
    """Two smooth random masks that overlap in part; with a margin they do not touch the edge."""
    rng = np.random.default_rng(seed)
    inner = tuple(size - 2 * margin for size in shape)
    masks = [np.pad(ndimage.gaussian_filter(rng.random(inner), 1.5) > 0.5, margin) for _ in range(2)]
    return masks[0], masks[1]


def ellipsoid(shape, centre, radii):
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    parts = (((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return sum(parts) < 1


def monai_values(prediction, reference, spacing, tolerance=2.0):
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": spacing}
    hd95 = metrics.compute_hausdorff_distance(*pair, percentile=95, **options)
    nsd = metrics.compute_surface_dice(*pair, class_thresholds=[tolerance], **options)
    assd = metrics.compute_average_surface_distance(*pair, symmetric=True, **options)
    mssd = metrics.compute_hausdorff_distance(*pair, **options)
    return [float(value) for value in (hd95, nsd, assd, mssd)]


MONAI_QUIRKS = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is all 0:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def monai(test):
    for mark in MONAI_QUIRKS:
        test = mark(test)
    return test


@monai
@pytest.mark.parametrize("seed", range(12))
def test_random_masks_give_what_monai_gives(seed):
    rng = np.random.default_rng((7, seed))
    spacing = tuple(rng.choice([0.4, 0.5, 0.7, 1.0, 2.5, 3.0], 3).tolist())
    prediction, reference = blobs(tuple(rng.integers(8, 24, 3)), seed, margin=1)
    found = surface_metrics(prediction, reference, spacing)
    assert values(found) == pytest.approx(monai_values(prediction, reference, spacing), rel=1e-6, abs=1e-6)


@monai
@pytest.mark.parametrize("seed", range(6))
def test_masks_that_touch_the_edge_give_monais_hd95_and_nsd(seed):
    prediction, reference = blobs((9, 14, 17), seed)
    found = surface_metrics(prediction, reference, (2.0, 0.7, 0.9))
    expected = monai_values(prediction, reference, (2.0, 0.7, 0.9))
    assert values(found)[:2] == pytest.approx(expected[:2], rel=1e-6)


@monai
def test_planes_give_what_monai_gives():
    prediction, reference = blobs((40, 50), 3, margin=1)
    found = values(surface_metrics(prediction, reference, (0.7, 0.9)))
    hd95, *others = monai_values(prediction, reference, (0.7, 0.9))
    # The percentile falls between two distances here, and MONAI weighs them with a rank in float32.
    assert found[0] == pytest.approx(hd95, rel=1e-5)
    assert found[1:] == pytest.approx(others, rel=1e-6)


@monai
def test_one_empty_mask_gives_monais_values_but_for_the_percentile_of_infinities():
    empty, full = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    full[1:3, 1:4, 2:5] = True
    hd95, nsd, assd, mssd = monai_values(empty, full, (1.0, 1.0, 1.0))
    assert (math.isnan(hd95), nsd, assd, mssd) == (True, 0.0, math.inf, math.inf)
    assert surface_metrics(empty, full, (1.0, 1.0, 1.0)) == SurfaceMetrics(math.inf, 0.0, math.inf, math.inf)


@monai
@pytest.mark.parametrize("organ", [1, 2, 5])
def test_real_masks_give_what_monai_gives(organ):
    path = REAL / "totalsegmentator/example_seg.nii.gz"
    if not path.exists():
        pytest.skip("the TotalSegmentator masks are not at hand")
    import nibabel

    image = nibabel.load(path)
    spacing = tuple(float(value) for value in image.header.get_zooms())
    reference = np.asarray(image.dataobj) == organ
    shifted = np.roll(ndimage.binary_dilation(reference, iterations=2), (1, 2, 0), (0, 1, 2))
    prediction = shifted | (np.random.default_rng(organ).random(reference.shape) < 1e-4)
    found = values(surface_metrics(prediction, reference, spacing))
    expected = monai_values(prediction, reference, spacing)
    assert found[:2] == pytest.approx(expected[:2], rel=1e-6)


LITERAL = [
    ((12, 40, 44), (6, 20, 20), (4, 11, 13), (6.5, 21, 19), (4, 12, 11), (3.0, 0.8, 0.8)),
    ((20, 30, 30), (10, 14, 14), (7, 8, 9), (9, 16, 15), (6, 9, 8), (1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (LITERAL[0], (3.0, 0.8435373902320862, 0.8959606885910034, 3.200000047683716)),
        (LITERAL[1], (3.0, 0.8101374506950378, 1.284042477607727, 3.1622776985168457)),
    ],
)
def test_ellipsoids_give_the_values_that_monai_1_6_1_gave(case, expected):
    shape, centre, radii, other_centre, other_radii, spacing = case
    masks = ellipsoid(shape, centre, radii), ellipsoid(shape, other_centre, other_radii)
    assert values(surface_metrics(*masks, spacing)) == pytest.approx(expected, rel=1e-6)


def test_two_empty_masks_have_no_distance():
    empty = np.zeros((3, 4, 5), bool)
    assert np.isnan(values(surface_metrics(empty, empty, (1, 1, 1)))).all()
    assert [len(way) for way in surface_distances(empty, empty, (1, 1, 1))] == [0, 0]


def test_equal_masks_have_distance_zero():
    mask, _ = blobs((8, 12, 12), 0)
    assert surface_metrics(mask, mask, (2.0, 1.0, 1.0)) == SurfaceMetrics(0.0, 1.0, 0.0, 0.0)


def test_two_voxels_lie_as_far_apart_as_their_centres():
    first, second = np.zeros((2, 6, 6, 6), bool)
    first[1, 1, 1] = second[3, 2, 1] = True
    metrics = surface_metrics(first, second, (1.5, 4.0, 1.0))
    assert values(metrics) == [5.0, 0.0, 5.0, 5.0]


def test_exactly_the_tolerance_counts_as_within():
    first, second = np.zeros((2, 40, 3, 3), bool)
    first[15, 1, 1] = second[10, 1, 1] = True  # 15 * 0.4 - 10 * 0.4 is not exactly 2 in float64
    assert surface_metrics(first, second, (0.4, 1, 1), tolerance_mm=2.0).nsd == 1
    assert surface_metrics(first, second, (0.4, 1, 1), tolerance_mm=1.99).nsd == 0


def test_the_cut_of_the_volume_is_no_surface_for_the_symmetric_distance():
    # As in CHAOS: erosion takes what lies outside the volume as part of the organ.
    reference, prediction = np.zeros((2, 10, 20, 20), bool)
    reference[:, 5:15, 5:15] = prediction[:, 6:15, 5:15] = True
    border = [m & ~ndimage.binary_erosion(m, border_value=1) for m in (prediction, reference)]
    ways = [ndimage.distance_transform_edt(~border[1 - n])[border[n]] for n in (0, 1)]
    assert surface_metrics(prediction, reference, (1, 1, 1)).assd_mm == pytest.approx(
        np.concatenate(ways).mean(), rel=1e-12
    )
    closed = surface_distances(prediction, reference, (1, 1, 1))
    assert np.concatenate(closed).mean() != pytest.approx(np.concatenate(ways).mean(), rel=1e-3)


def test_a_mask_that_fills_the_volume_has_no_surface_but_its_cut():
    full = np.ones((4, 5, 6), bool)
    metrics = surface_metrics(full, full, (1, 1, 1))
    assert (metrics.hd95_mm, metrics.nsd) == (0, 1)
    assert math.isnan(metrics.assd_mm)
    assert math.isnan(metrics.mssd_mm)


def test_uneven_slices_are_measured_at_their_positions():
    first, second = np.zeros((2, 4, 5, 5), bool)
    first[0, 2, 2] = second[3, 2, 2] = True
    found = surface_metrics(first, second, (2.0, 1, 1), depth_mm=np.array([0.0, 2.0, 4.0, 12.0]))
    assert found.hd95_mm == 12
    even = surface_metrics(first, second, (2.0, 1, 1), depth_mm=-2.0 * np.arange(4))
    assert even == surface_metrics(first, second, (2.0, 1, 1))


spacings = st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 2.0, 3.0])] * 3)
seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, spacing=spacings)
def test_swapping_the_masks_changes_nothing(seed, spacing):
    first, second = blobs((6, 9, 8), seed)
    expected = values(surface_metrics(second, first, spacing))
    assert values(surface_metrics(first, second, spacing)) == pytest.approx(expected, rel=1e-12, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, spacing=spacings, before=st.tuples(*[st.integers(0, 4)] * 3))
def test_shifting_both_masks_changes_nothing(seed, spacing, before):
    masks = blobs((6, 9, 8), seed, margin=1)
    moved = [np.pad(mask, [(n, 2) for n in before]) for mask in masks]
    expected = values(surface_metrics(*masks, spacing))
    assert values(surface_metrics(*moved, spacing)) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, spacing=spacings, scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_scaling_the_spacing_scales_the_distances(seed, spacing, scale):
    masks = blobs((6, 9, 8), seed)
    small = surface_metrics(*masks, spacing, tolerance_mm=1.0)
    large = surface_metrics(*masks, [scale * step for step in spacing], tolerance_mm=scale)
    assert values(large) == pytest.approx(
        [scale * small.hd95_mm, small.nsd, scale * small.assd_mm, scale * small.mssd_mm], rel=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(seed=seeds, spacing=spacings)
def test_the_distances_are_those_of_the_distance_transform(seed, spacing):
    masks = blobs((6, 9, 8), seed)
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    found = surface_distances(*masks, spacing)
    for own, other, way in zip(surfaces, surfaces[::-1], found, strict=True):
        np.testing.assert_allclose(way, ndimage.distance_transform_edt(~other, spacing)[own], atol=1e-12)


def test_the_box_is_one_voxel_wider_than_the_union_where_it_can_be():
    first, second = np.zeros((2, 10, 10, 10), bool)
    first[0, 4, 4] = second[3, 5, 9] = True
    assert union_box(first, second) == (slice(0, 5), slice(3, 7), slice(3, 11))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": np.zeros((3, 4, 6), bool)}, r"\(3, 4, 5\).*\(3, 4, 6\); expected the same grid"),
        ({"prediction": np.zeros((3, 4, 5), np.uint8)}, r"prediction of type uint8.*labels == 1"),
        ({"spacing_mm": (1.0, 1.0)}, r"spacing_mm=\(1.0, 1.0\) for 3 axes"),
        ({"spacing_mm": (math.nan, 1.0, 1.0)}, r"a positive number of mm"),
        ({"tolerance_mm": -1.0}, r"tolerance_mm=-1.0; expected 0 or more"),
        ({"depth_mm": np.array([0.0, 1.0, 1.0])}, r"depth_mm .* growing or falling"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    mask = np.ones((3, 4, 5), bool)
    given = {"prediction": mask, "reference": mask, "spacing_mm": (1.0, 1.0, 1.0)} | change
    with pytest.raises(ValueError, match=message):
        surface_metrics(**given)
