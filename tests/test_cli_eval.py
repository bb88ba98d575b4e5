"""`kerasbalance eval`: any two masks, one table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made.masks import (
    contour_points,
    made_grid,
    made_labels,
    made_rtstruct,
    made_seg,
    made_volume,
    reoriented,
    save,
    save_nifti,
)
from made.series import make_series
from PIL import Image

from kerasbalance.cli.main import main
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.evaluation.cases import METRICS, evaluate_case, keep_largest_component

REAL = Path(__file__).parents[1] / "../shared/real"
ORGANS = ("liver", "spleen")
BOTH = ("--label", "liver=1", "--label", "spleen=2")


def run(*words):
    return CliRunner().invoke(main, ["eval", *map(str, words)])


def evaluated(*words):
    """The JSON of a run that must succeed."""
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def refused(code, *words):
    """The message of a run that must fail, without any path in it."""
    done = run(*words)
    assert done.exit_code == code, done.output
    assert not [word for word in map(str, words) if word.startswith("/") and word in done.output]
    return done.output


def labels_of_reference():
    """Liver and spleen; the first and last two slices are empty."""
    return np.pad(made_labels(), ((1, 1), (0, 0), (0, 0)))


GRID = made_grid(labels_of_reference().shape)


def shifted_labels():
    """A prediction that reaches one slice further to the head than the reference, and lies aside."""
    return np.roll(labels_of_reference(), (1, 2, -1), (0, 1, 2))


def channels(labels):
    return np.stack([labels == 1, labels == 2], axis=-1)


def seg(path, labels, grid):
    return save(made_seg(channels(labels), grid), path)


def expected(prediction, reference, spacing):
    return [
        evaluate_case(prediction == n, reference == n, spacing, organ=organ)
        for n, organ in enumerate(ORGANS, 1)
    ]


def assert_cases(found, cases):
    for row, case in zip(found["cases"], cases, strict=True):
        assert row["organ"] == case.organ
        for name in (*METRICS, "reference_ml", "prediction_ml", "shared_voxels", "missed_slices"):
            assert row[name] == pytest.approx(getattr(case, name), rel=1e-9), name


@pytest.fixture
def masks(tmp_path):
    """Prediction and reference in several formats, and their CT."""
    grid = GRID
    save_nifti(tmp_path / "ct.nii.gz", made_volume(labels_of_reference()).hu, grid)
    for name, labels in (("p", shifted_labels()), ("r", labels_of_reference())):
        save_nifti(tmp_path / f"{name}.nii.gz", labels, grid)
        seg(tmp_path / f"{name}.dcm", labels, grid)
    return tmp_path


CASES = expected(shifted_labels(), labels_of_reference(), GRID.spacing_mm)
FORMATS = [("p.nii.gz", "r.nii.gz"), ("p.dcm", "r.nii.gz"), ("p.nii.gz", "r.dcm"), ("p.dcm", "r.dcm")]


@pytest.mark.parametrize(("prediction", "reference"), FORMATS)
@pytest.mark.parametrize("with_ct", [False, True])
def test_any_two_formats_give_the_same_metrics_with_and_without_ct(masks, prediction, reference, with_ct):
    ct = ("--ct", masks / "ct.nii.gz") if with_ct else ()
    found = evaluated("--prediction", masks / prediction, "--reference", masks / reference, *BOTH, *ct)
    assert_cases(found, CASES)


def test_masks_in_other_voxel_orders_are_compared_in_space(masks):
    labels, grid = reoriented(shifted_labels(), GRID, (2, 0, 1), (True, False, True))
    save_nifti(masks / "turned.nii", labels, grid)
    found = evaluated("--prediction", masks / "turned.nii", "--reference", masks / "r.nii.gz", *BOTH)
    assert_cases(found, CASES)


@pytest.mark.parametrize(
    "words",
    [
        ("--store", "s"),
        ("--model", "a:b"),
        ("--backend", "torch"),
        ("--threshold", "0.3"),
        ("--no-clean-up",),
    ],
)
def test_what_only_a_run_needs_is_refused_for_two_masks_as_it_is_typed(masks, words):
    message = refused(2, "--prediction", masks / "p.dcm", "--reference", masks / "r.nii.gz", *words)
    assert f"two masks need no model and no store: leave out {words[0]}" in " ".join(message.split())


def test_the_table_shows_what_was_found(masks):
    done = run("--prediction", masks / "p.dcm", "--reference", masks / "r.nii.gz", *BOTH, "--tolerance", "1")
    lines = done.output.splitlines()
    assert done.exit_code == 0
    assert lines[0].split()[:8] == ["organ", "Dice", "sensitivity", "precision", "HD95", "mm", "NSD", "1"]
    assert [line.split()[0] for line in lines[1:3]] == ["liver", "spleen"]
    assert lines[1].split()[1] == f"{CASES[0].dice:.4f}"
    assert lines[1].split()[8:10] == [f"{CASES[0].reference_ml:.2f}", f"{CASES[0].prediction_ml:.2f}"]


def test_tables_are_written_and_never_over_a_file(masks):
    words = ("--prediction", masks / "p.nii.gz", "--reference", masks / "r.nii.gz", *BOTH)
    done = run(*words, "--csv", masks / "cases.csv", "--slices-csv", masks / "slices.csv")
    assert done.exit_code == 0
    with (masks / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert [float(row["dice"]) for row in cases] == [case.dice for case in CASES]
    with (masks / "slices.csv").open() as file:
        slices = [row for row in csv.DictReader(file) if row["organ"] == "liver"]
    assert len(slices) == CASES[0].slices
    assert sum(int(row["shared_pixels"]) for row in slices) == CASES[0].shared_voxels
    assert "EXISTS" in refused(1, *words, "--csv", masks / "cases.csv")
    assert "NO_FOLDER" in refused(1, *words, "--slices-csv", masks / "no/slices.csv")


def test_the_prediction_may_have_other_values_in_another_order(masks):
    other = np.choose(shifted_labels(), [0, 7, 3]).astype(np.uint8)
    save_nifti(masks / "other.nii", other, GRID)
    words = ("--prediction", masks / "other.nii", "--reference", masks / "r.nii.gz", *BOTH)
    found = evaluated(*words, "--prediction-label", "spleen=3", "--prediction-label", "liver=7")
    assert_cases(found, CASES)
    message = refused(1, *words, "--prediction-label", "kidney=3")
    assert "a prediction of kidney for a reference of liver, spleen" in message


def test_an_organ_in_one_mask_only_is_infinitely_far_and_in_none_has_no_metrics(masks):
    save_nifti(masks / "none.nii", np.where(labels_of_reference() == 1, 1, 0).astype(np.uint8), GRID)
    words = ("--prediction", masks / "none.nii", "--reference", masks / "r.nii.gz", *BOTH)
    liver, spleen = evaluated(*words)["cases"]
    assert (liver["dice"], spleen["dice"], spleen["hd95_mm"], spleen["ravd_percent"]) == (1, 0, None, 100)
    line = run(*words).output.splitlines()[2].split()
    assert line[:8] == ["spleen", "0.0000", "0.0000", "-", "inf", "0.0000", "inf", "100.00"]
    words = ("--prediction", masks / "none.nii", "--reference", masks / "none.nii", *BOTH)
    assert evaluated(*words)["cases"][1]["absent"] is True
    done = run(*words)
    assert done.output.splitlines()[2].split()[:6] == ["spleen", "-", "-", "-", "-", "-"]
    assert "WARNING  prediction: EMPTY" in done.output


def test_the_largest_part_is_evaluated_apart_and_only_if_asked(masks):
    labels = labels_of_reference()
    labels[0, 30:33, 2:5] = 1
    save_nifti(masks / "parts.nii", labels, GRID)
    words = ("--prediction", masks / "parts.nii", "--reference", masks / "r.nii.gz", *BOTH)
    assert [row["cleaning"] for row in evaluated(*words)["cases"]] == ["", ""]
    raw, _, cleaned = evaluated(*words, "--keep-largest", "liver")["cases"]
    assert raw["false_positive_slices"] == 1
    assert (cleaned["cleaning"], cleaned["dice"]) == ("largest part", 1)
    kept = keep_largest_component(labels == 1)
    assert cleaned["prediction_voxels"] == np.count_nonzero(kept)
    assert "largest connected part" in run(*words, "--keep-largest", "liver").output
    assert "--keep-largest" in refused(2, *words, "--keep-largest", "lung")


def test_contours_and_pictures_need_the_ct(masks):
    grid, labels = GRID, labels_of_reference()
    corners = [(4.5, 7.5), (4.5, 26.5), (19.5, 26.5), (19.5, 7.5)]
    contours = [contour_points(grid, n, corners) for n in range(2, 5)]
    save(made_rtstruct({"Liver": contours}), masks / "rt.dcm")
    (masks / "png").mkdir()
    for number, plane in enumerate(labels):
        Image.fromarray(np.where(plane == 1, 255, 0).astype(np.uint8)).save(masks / f"png/{number:02d}.png")
    ct = ("--ct", masks / "ct.nii.gz", "--label", "liver")
    found = evaluated(
        "--prediction", masks / "rt.dcm", "--reference", masks / "png", *ct, "--png-order", "z-ascending"
    )
    assert found["cases"][0]["dice"] > 0.9
    for pair in (("rt.dcm", "r.nii.gz"), ("r.nii.gz", "rt.dcm"), ("r.dcm", "png")):
        words = ("--prediction", masks / pair[0], "--reference", masks / pair[1], "--label", "liver=1")
        message = refused(1, *words)
        assert "NEEDS_CT" in message
        assert "--ct" in message


def test_a_prediction_beyond_the_references_grid_needs_the_ct(masks):
    few = Grid.from_affine((5, *GRID.shape[1:]), GRID.affine())
    save_nifti(masks / "few.nii", labels_of_reference()[:5], few)
    words = ("--prediction", masks / "p.nii.gz", "--reference", masks / "few.nii", *BOTH)
    assert "NEEDS_CT: prediction: labelled voxels beyond the grid" in refused(1, *words)


def test_another_grid_is_refused_by_the_name_of_the_mask_and_mapped_if_asked(masks):
    save_nifti(
        masks / "moved.nii", labels_of_reference(), made_grid(GRID.shape, origin=(-20.3, -30.0, 100.0))
    )
    words = ("--prediction", masks / "moved.nii", "--reference", masks / "r.nii.gz", *BOTH)
    message = refused(1, *words)
    assert "GEOMETRY: prediction: a mask with centres 0.3 voxels or more off" in message
    assert "expected the grid of the other mask" in message
    found = evaluated(*words, "--resample-mask")
    assert found["cases"][0]["dice"] == 1
    assert {note["code"] for note in found["notes"] if note["about"] == "prediction"} == {"RESAMPLED"}


def test_two_segmentations_of_other_frames_of_reference_are_refused(masks):
    other = made_seg(channels(labels_of_reference()), GRID)
    other.FrameOfReferenceUID = "1.2.3.4"
    save(other, masks / "other.dcm")
    message = refused(1, "--prediction", masks / "other.dcm", "--reference", masks / "r.dcm")
    assert "FRAME_OF_REFERENCE: prediction" in message


def test_segmentations_that_leave_the_slice_spacing_open_need_the_ct(masks):
    sparse = np.zeros_like(labels_of_reference())
    sparse[1:6:2, 3:9, 3:9] = 1
    seg(masks / "sparse.dcm", sparse, GRID)
    message = refused(1, "--prediction", masks / "sparse.dcm", "--reference", masks / "sparse.dcm")
    assert "SEG frames 6 mm apart on slices 3 mm apart" in message


def test_uneven_slices_count_at_their_positions(tmp_path):
    make_series(tmp_path / "ct", slices=8, size=(20, 24))
    (tmp_path / "ct/IM0004.dcm").unlink()
    depth = 2.5 * np.array([0, 1, 2, 3, 5, 6, 7])
    masks = np.zeros((2, 7, 20, 24), bool)
    masks[0, 2:4, 5:9, 5:9] = masks[1, 2:6, 5:9, 5:9] = True
    for name, mask in zip("pr", masks, strict=True):
        (tmp_path / name).mkdir()
        for number, plane in enumerate(mask):
            Image.fromarray(plane.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    words = ("--prediction", tmp_path / "p", "--reference", tmp_path / "r", "--ct", tmp_path / "ct")
    words += ("--png-order", "z-ascending", "--label", "liver")
    assert "GAP" in refused(1, *words)
    found = evaluated(*words, "--allow", "gap")["cases"][0]
    case = evaluate_case(*masks, (2.5, 0.8, 0.8), depth_mm=depth)
    for name in (*METRICS, "reference_ml"):
        assert found[name] == pytest.approx(getattr(case, name)), name
    assert found["reference_ml"] == pytest.approx(16 * 0.64 * (2.5 + 3.75 + 3.75 + 2.5) / 1000)


def test_known_organs_need_no_label_where_the_masks_name_them(masks):
    found = evaluated("--prediction", masks / "p.dcm", "--reference", masks / "r.dcm")
    assert [row["organ"] for row in found["cases"]] == ["liver", "spleen"]
    message = refused(1, "--prediction", masks / "p.dcm", "--reference", masks / "r.nii.gz")
    assert "LABEL_RULE: reference: a label map and no --label; it has 1: " in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a RUN, or both --prediction and --reference"),
        (("--prediction", "a", "--reference", "b", "--series", "1"), "--series names a CT series"),
        (("--prediction", "a", "--reference", "b", "--tolerance", "-1"), "'--tolerance'"),
        (("--prediction", "a", "--reference", "b", "--allow", "all"), "the relaxation 'all'"),
    ],
)
def test_wrong_usage_exits_2(words, message):
    assert message in refused(2, *words)


def test_a_missing_file_is_one_line(tmp_path):
    message = refused(1, "--prediction", tmp_path / "no.nii", "--reference", tmp_path / "none.nii")
    assert message.startswith("Error: UNREADABLE")
    assert len(message.splitlines()) == 1


def test_the_chaos_masks_are_compared_on_their_series():
    chaos = REAL / "chaos"
    if not chaos.is_dir():
        pytest.skip("the CHAOS series is not at hand")
    words = ("--prediction", chaos / "Ground", "--reference", chaos / "Ground", "--ct", chaos / "DICOM_anon")
    (case,) = evaluated(*words, "--label", "liver", "--png-order", "z-descending")["cases"]
    assert (case["dice"], case["hd95_mm"], case["slices"]) == (1, 0, 78)
    assert 1000 < case["reference_ml"] < 2000


def test_real_masks_of_one_patient_are_compared():
    folder = REAL / "totalsegmentator"
    if not folder.is_dir():
        pytest.skip("the TotalSegmentator masks are not at hand")
    mask = folder / "example_seg.nii.gz"
    found = evaluated(
        "--prediction", mask, "--reference", mask, "--label", "liver=5", "--label", "kidney=2,3"
    )
    assert [row["dice"] for row in found["cases"]] == [1, 1]
