import contextlib
import shutil
import tracemalloc

import numpy as np
import pydicom
import pytest
from made.masks import (
    codes,
    contour_points,
    made_grid,
    made_labels,
    made_rtstruct,
    made_volume,
    refusal,
    rotation,
    save,
)
from pydicom.uid import ImplicitVRLittleEndian
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.masks import polygons, read_mask
from kerasbalance.data.volume.geometry import Grid

SHAPE = (3, 220, 260)


def ellipse(centre, radii, count=200):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


def box(row, column, rows, columns):
    """A rectangle around whole pixels."""
    low, high = np.array([row, column]) - 0.5, np.array([row + rows, column + columns]) - 0.5
    return np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])


def area(points):
    """The exact area of a polygon (the shoelace formula)."""
    row, column = points.T
    return abs(row @ np.roll(column, 1) - column @ np.roll(row, 1)) / 2


def read_contours(tmp_path, rois, volume, rules=(), **options):
    path = save(made_rtstruct(rois, **options), tmp_path / "rt.dcm")
    return read_mask(path, volume, rules)


def plain_volume(grid):
    return made_volume(np.zeros(grid.shape, np.uint8), grid)


def oblique(shape=SHAPE):
    return made_grid(shape, spacing=(5.0, 0.9, 0.7), turn=rotation((0.3, -0.2, 0.25)))


@pytest.mark.parametrize("grid", [made_grid(SHAPE), oblique()], ids=["axial", "oblique"])
@pytest.mark.parametrize("radius", [20.7, 40.1, 80.2])
def test_the_area_is_that_of_the_exact_polygon_within_one_percent(tmp_path, grid, radius):
    pixels = ellipse((110.37, 120.81), (radius, radius * 1.1))
    mask = read_contours(tmp_path, {"Liver": [contour_points(grid, 1, pixels)]}, plain_volume(grid))
    assert mask.labels[1].sum() == pytest.approx(area(pixels), rel=0.01)
    assert not mask.labels[[0, 2]].any()
    assert mask.kind == "rtstruct"


def test_filling_is_unbiased_for_polygons_at_random_places():
    random = np.random.default_rng(0)
    share = []
    for _ in range(300):
        points = ellipse(random.uniform(20, 40, 2), random.uniform(2, 12, 2), count=random.integers(3, 40))
        share.append((polygons.fill_even_odd([points], (60, 60)).sum(), area(points)))
    filled, exact = np.sum(share, axis=0)
    assert filled == pytest.approx(exact, rel=0.003)


def test_filling_agrees_with_scikit_image_off_the_edges():
    random = np.random.default_rng(1)
    for _ in range(50):
        points = random.uniform(-5, 45, (random.integers(3, 12), 2))
        np.testing.assert_array_equal(
            polygons.fill_even_odd([points], (40, 38)), polygon2mask((40, 38), points)
        )


def test_polygons_side_by_side_share_no_pixel_and_leave_none_out():
    left = np.array([[2, 3], [2, 9], [10, 9], [10, 3]], float)
    right = np.add(left, [0, 6])
    one, two = (polygons.fill_even_odd([p], (20, 20)) for p in (left, right))
    assert not (one & two).any()
    assert (one | two).sum() == area(left) + area(right)


def test_contours_of_an_organ_give_back_its_mask(tmp_path):
    labels = made_labels()
    rois = {"liver": [], "spleen": []}
    volume = made_volume()
    for (_, contours), value in zip(rois.items(), (1, 2), strict=True):
        for number, plane in enumerate(labels == value):
            contours += [contour_points(volume.grid, number, p[:-1]) for p in find_contours(plane, 0.5)]
    mask = read_contours(tmp_path, rois, volume)
    np.testing.assert_array_equal(mask.labels, labels)
    assert mask.notes == ()


def test_holes_and_islands_follow_the_even_odd_rule(tmp_path):
    grid = made_grid(SHAPE)
    rings = [ellipse((110.3, 120.6), (r, r)) for r in (60.2, 40.1, 20.3)]
    exact = area(rings[0]) - area(rings[1]) + area(rings[2])
    for order in ([0, 1, 2], [2, 0, 1]):
        contours = [contour_points(grid, 1, rings[n][:: (-1) ** n]) for n in order]
        mask = read_contours(tmp_path, {"liver": contours}, plain_volume(grid))
        assert mask.labels[1].sum() == pytest.approx(exact, rel=0.01)
        assert mask.labels[1, 110, 121] == 1
        assert mask.labels[1, 110, 151] == 0


def test_a_keyhole_is_a_hole(tmp_path):
    grid = made_grid(SHAPE)
    outer, inner = ellipse((110.3, 120.6), (60, 60)), ellipse((110.3, 120.6), (30, 30))
    keyhole = np.concatenate([outer, outer[:1], inner[::-1][-1:], inner[::-1], outer[:1]])
    mask = read_contours(tmp_path, {"liver": [contour_points(grid, 1, keyhole)]}, plain_volume(grid))
    assert mask.labels[1].sum() == pytest.approx(area(outer) - area(inner), rel=0.01)


def test_several_rois_of_one_organ_unite(tmp_path):
    grid = made_grid(SHAPE)
    one, two = ellipse((110, 100), (30, 30)), ellipse((110, 120), (30, 30))
    rois = {"Left Kidney": [contour_points(grid, 1, one)], "kidney_right": [contour_points(grid, 1, two)]}
    mask = read_contours(tmp_path, rois, plain_volume(grid))
    union = polygon2mask(SHAPE[1:], one) | polygon2mask(SHAPE[1:], two)
    assert mask.organs == ("kidney",)
    assert np.count_nonzero(mask.labels[1] != union) <= 8
    assert mask.notes == ()


@pytest.mark.parametrize("rule", ["target=PATIENT OUTLINE", "target=1"])
def test_rules_choose_rois_by_name_or_number(tmp_path, rule):
    grid = made_grid(SHAPE)
    rois = {"Patient outline": [contour_points(grid, 0, ellipse((100, 100), (9, 9)))], "liver": []}
    mask = read_contours(tmp_path, rois, plain_volume(grid), (parse_rule(rule),))
    assert mask.organs == ("target",)
    assert mask.labels[0].any()


def test_a_roi_without_contours_is_an_empty_organ(tmp_path):
    mask = read_contours(tmp_path, {"liver": []}, plain_volume(made_grid(SHAPE)))
    assert not mask.labels.any()
    assert [(n.code, n.loud) for n in mask.notes] == [("EMPTY", True)]


def test_roi_names_are_shown_only_when_they_are_plain(tmp_path):
    path = save(made_rtstruct({"GTV 1": [], "Jane Canary": []}), tmp_path / "rt.dcm")
    error = refusal(path, plain_volume(made_grid(SHAPE)), ())
    assert error.code == "LABEL_NAME"
    assert "ROI 1 (gtv 1), ROI 2;" in str(error)
    assert "canary" not in str(error).lower()


def test_contours_belong_to_the_nearest_slice_within_half_a_spacing(tmp_path):
    grid = made_grid(SHAPE)
    points = contour_points(grid, 1, ellipse((100, 100), (20, 20)))
    mask = read_contours(tmp_path, {"liver": [np.add(points, [0, 0, 1.2])]}, plain_volume(grid))
    assert mask.labels[1].any()
    assert mask.notes == ()
    outside = {"liver": [points, np.add(points, [0, 0, 3.0 + 1.6])]}
    mask = read_contours(tmp_path, outside, plain_volume(grid))
    assert [(n.code, n.loud) for n in mask.notes] == [("OUTSIDE", True)]
    assert not mask.labels[2].any()
    assert mask.notes[0].text.startswith("1 contours")


def test_contours_that_all_lie_elsewhere_or_cross_the_slices_are_refused(tmp_path):
    grid = made_grid(SHAPE)
    points = contour_points(grid, 1, ellipse((100, 100), (20, 20)))
    for moved in (np.add(points, [0, 0, 500]), points[:, [0, 2, 1]] + [0, 0, 130]):
        path = save(made_rtstruct({"liver": [moved]}), tmp_path / "rt.dcm")
        assert refusal(path, plain_volume(grid), ()).code == "GEOMETRY"


def test_contours_drawn_on_finer_planes_use_the_nearest_plane(tmp_path):
    grid = made_grid(SHAPE)
    points = contour_points(grid, 1, ellipse((100, 100), (20, 20)))
    planes = [np.add(points, [0, 0, z]) for z in (-1.0, 0, 1.0)]
    mask = read_contours(tmp_path, {"liver": planes}, plain_volume(grid))
    assert mask.labels[1].sum() == pytest.approx(np.pi * 400, rel=0.01)
    assert codes(mask) == ["PLANES"]


def test_slices_without_contours_inside_a_roi_are_noted(tmp_path):
    grid = made_grid(SHAPE)
    circle = ellipse((100, 100), (20, 20))
    rois = {"liver": [contour_points(grid, n, circle) for n in (0, 2)]}
    mask = read_contours(tmp_path, rois, plain_volume(grid))
    assert [(n.code, n.loud, n.text[0]) for n in mask.notes] == [("CONTOUR_GAP", True, "1")]
    assert not mask.labels[1].any()


def test_contours_beyond_the_edge_are_cut_and_counted(tmp_path):
    grid = made_grid(SHAPE)
    points = contour_points(grid, 1, ellipse((0, 0), (30, 30)))
    mask = read_contours(tmp_path, {"liver": [points]}, plain_volume(grid))
    assert mask.labels[1].sum() == pytest.approx(np.pi * 900 / 4 + 60 * 0.5, rel=0.02)
    assert codes(mask) == ["CLIPPED"]


def typed_contours(tmp_path, *kinds):
    """Read one circle for each type of contour, side by side on slice 1; None leaves the type out."""
    grid = made_grid(SHAPE)
    circles = [contour_points(grid, 1, ellipse((99, 20 + 30 * n), (9, 9))) for n in range(len(kinds))]
    dataset = made_rtstruct({"liver": circles})
    for contour, kind in zip(dataset.ROIContourSequence[0].ContourSequence, kinds, strict=True):
        if kind is None:
            del contour.ContourGeometricType
        else:
            contour.ContourGeometricType = kind
    mask = read_mask(save(dataset, tmp_path / "rt.dcm"), plain_volume(grid))
    return [bool(mask.labels[1, 99, 20 + 30 * n]) for n in range(len(kinds))], mask


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS", "ignore:The value length")
def test_contours_of_every_spelling_of_a_closed_type_are_filled(tmp_path):
    kinds = (
        "CLOSED_PLANAR",
        "closed_planar",
        "CLOSEDPLANAR",
        "INTERPOLATED_PLANAR",
        "Interpolated_Planar",
        "",
        None,
    )
    filled, mask = typed_contours(tmp_path, *kinds)
    assert filled == [True] * 7
    assert mask.notes == ()


def test_what_is_left_out_is_told_with_its_cause(tmp_path):
    kinds = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "RIDDLE", "CLOSED_PLANAR")
    filled, mask = typed_contours(tmp_path, *kinds)
    assert filled == [False, False, False, False, True]
    assert [(n.code, n.text, n.loud) for n in mask.notes] == [
        ("OPEN_CONTOUR", "1 single points enclose nothing and were left out", True),
        ("OPEN_CONTOUR", "2 open contours enclose nothing and were left out", True),
        ("OPEN_CONTOUR", "1 contours of an unknown type enclose nothing and were left out", True),
    ]


def test_closed_contours_of_two_points_are_told_as_such(tmp_path):
    grid = made_grid(SHAPE)
    rois = {
        "liver": [
            contour_points(grid, 1, ellipse((99, 99), (9, 9))),
            contour_points(grid, 1, [[5, 5], [9, 9]]),
        ]
    }
    mask = read_contours(tmp_path, rois, plain_volume(grid))
    text = "1 contours of fewer than three points enclose nothing and were left out"
    assert [(n.code, n.text) for n in mask.notes] == [("OPEN_CONTOUR", text)]


@pytest.mark.parametrize(
    ("kinds", "pixels", "code"),
    [
        (("CLOSED_PLANAR", "CLOSED_PLANAR"), 28, ["CROSSING"]),
        (("CLOSEDPLANAR_XOR", "CLOSEDPLANAR_XOR"), 24, []),
        (("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"), 24, []),
    ],
)
def test_crossing_contours_unite_unless_their_type_is_xor(tmp_path, kinds, pixels, code):
    grid = made_grid(SHAPE)
    squares = [contour_points(grid, 1, box(10, 10, 4, 4)), contour_points(grid, 1, box(12, 12, 4, 4))]
    dataset = made_rtstruct({"liver": squares})
    for contour, kind in zip(dataset.ROIContourSequence[0].ContourSequence, kinds, strict=True):
        contour.ContourGeometricType = kind
    mask = read_mask(save(dataset, tmp_path / "rt.dcm"), plain_volume(grid))
    assert mask.labels.sum() == pixels
    assert [n.code for n in mask.notes if n.loud] == code


def test_a_repeated_contour_counts_once_and_is_noted(tmp_path):
    grid = made_grid(SHAPE)
    square = box(10, 10, 4, 4)
    rois = {
        "liver": [contour_points(grid, 1, points) for points in (square, np.roll(square[::-1], 1, axis=0))]
    }
    mask = read_contours(tmp_path, rois, plain_volume(grid))
    assert mask.labels.sum() == 16
    text = "1 contours repeat another one of their ROI and slice and count once"
    assert [(n.code, n.text) for n in mask.notes] == [("REPEATED", text)]


def test_contours_on_an_uneven_series_find_their_slices(tmp_path):
    even = made_grid((4, 60, 60))
    positions = even.positions_mm + np.array([[0, 0, z] for z in (0, 0, 4, 4)])
    grid = Grid(even.shape, positions, even.row_step_mm, even.column_step_mm)
    circle = ellipse((30, 30), (9, 9))
    mask = read_contours(
        tmp_path, {"liver": [contour_points(grid, n, circle) for n in range(4)]}, plain_volume(grid)
    )
    assert mask.labels.any(axis=(1, 2)).all()
    assert mask.notes == ()


def test_missing_references_are_tolerated_and_others_refused(tmp_path):
    grid = made_grid(SHAPE)
    rois = {"liver": [contour_points(grid, 1, ellipse((99, 99), (20, 20)))]}
    assert read_contours(tmp_path, rois, plain_volume(grid), frame=None).notes == ()
    path = save(made_rtstruct(rois, frame="1.2.3.4"), tmp_path / "rt.dcm")
    assert refusal(path, plain_volume(grid), ()).code == "FRAME_OF_REFERENCE"
    mask = read_mask(path, plain_volume(grid), allow=frozenset({"frame-of-reference"}))
    assert codes(mask) == ["FRAME_OF_REFERENCE"]


def test_the_listed_frame_of_reference_counts_where_the_rois_name_none(tmp_path):
    grid = made_grid(SHAPE)
    dataset = made_rtstruct({"liver": [contour_points(grid, 1, ellipse((99, 99), (9, 9)))]}, frame=None)
    reference = pydicom.Dataset()
    reference.FrameOfReferenceUID = "1.2.3.4"
    dataset.ReferencedFrameOfReferenceSequence = [reference]
    path = save(dataset, tmp_path / "rt.dcm")
    assert refusal(path, plain_volume(grid), ()).code == "FRAME_OF_REFERENCE"


def test_codes_of_rois_are_recognised(tmp_path):
    grid = made_grid(SHAPE)
    dataset = made_rtstruct({"X7": [contour_points(grid, 1, ellipse((99, 99), (9, 9)))]})
    observation, code = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "78961009", "SCT"
    observation.ReferencedROINumber, observation.RTROIIdentificationCodeSequence = 1, [code]
    dataset.RTROIObservationsSequence = [observation]
    assert read_mask(save(dataset, tmp_path / "rt.dcm"), plain_volume(grid)).organs == ("spleen",)


def test_a_file_without_preamble_is_read(tmp_path):
    name = pydicom.data.get_testdata_file("rtstruct.dcm", download=False)
    shutil.copy(name, tmp_path / "rt")
    grid = made_grid((3, 300, 402), spacing=(10.0, 1.0, 1.0), origin=(-200.5, -150.0, -200.0))
    rules, allow = (OrganRule("body", ("patient",)),), frozenset({"frame-of-reference"})
    mask = read_mask(tmp_path / "rt", plain_volume(grid), rules, allow=allow)
    # Of its contours the first is a whole rectangle of 400 x 300 mm.
    assert mask.labels[0].sum() == pytest.approx(400 * 300, rel=0.005)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize("bad", ["nan", "inf", "1e400", "x", ""])
def test_coordinates_that_are_no_finite_numbers_are_refused(tmp_path, bad):
    grid = made_grid(SHAPE)
    path = save(
        made_rtstruct({"liver": [contour_points(grid, 1, ellipse((99, 99), (9, 9)))]}), tmp_path / "rt.dcm"
    )
    content = path.read_bytes()
    start = content.index(b"\\", content.index(b"CLOSED_PLANAR")) + 1
    stop = content.index(b"\\", start)
    path.write_bytes(content[:start] + bad.encode().ljust(stop - start) + content[stop:])
    assert refusal(path, plain_volume(grid), ()).code == "MALFORMED"


def test_absurd_contours_are_refused_without_filling_memory(tmp_path):
    grid = made_grid(SHAPE)
    zigzag = np.tile([[0.0, 5.0], [219.0, 6.0]], (60_000, 1))
    dataset = made_rtstruct({"liver": [contour_points(grid, 1, zigzag)]})
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = save(dataset, tmp_path / "rt.dcm")
    volume = plain_volume(grid)
    tracemalloc.start()
    assert refusal(path, volume, ()).code == "TOO_LARGE"
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_a_cut_or_fuzzed_file_never_raises_anything_else(tmp_path):
    grid = made_grid(SHAPE)
    path = save(
        made_rtstruct({"liver": [contour_points(grid, 1, ellipse((99, 99), (9, 9)))]}), tmp_path / "rt.dcm"
    )
    whole, volume, random = path.read_bytes(), plain_volume(grid), np.random.default_rng(0)
    for number in range(150):
        content = bytearray(whole if number % 2 else whole[: random.integers(0, len(whole))])
        for place in random.integers(0, len(content), 3) if len(content) else ():
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            read_mask(path, volume)
