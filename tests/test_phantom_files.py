"""The synthetic patient on disk: genuine DICOM, masks that read back, a folder that can be completed."""

import csv
import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from skimage.draw import polygon2mask

from kerasbalance.cli.phantom import phantom
from kerasbalance.data.phantom import LABELS, make_case, plan_cases, write_phantom
from kerasbalance.data.phantom.wrong_masks import spoil_masks

CASES, SIZE, SEED = 5, 64, 3
SEGMENTS = {"Liver": 1, "Spleen": 2, "Left kidney": 3, "Right kidney": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "out"
    write_phantom(out, CASES, SIZE, SEED)
    return out


def planned(mask_format):
    return next(case for case in plan_cases(CASES, SIZE, SEED) if case.mask_format == mask_format)


def made(case):
    return make_case((SEED, case.identity.number), SIZE, case.kinds)


def read_series(folder):
    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return sorted(datasets, key=lambda dataset: dataset.ImagePositionPatient[2])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digest(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_write_the_same_bytes(folder, tmp_path):
    write_phantom(tmp_path, CASES, SIZE, SEED)
    assert digest(tmp_path) == digest(folder)


def test_slices_hold_the_hounsfield_units_in_order_of_position(folder):
    case = planned("seg")
    series = read_series(folder / case.identity.name / "ct")
    hu = [d.pixel_array.astype(int) * d.RescaleSlope + d.RescaleIntercept for d in series]
    assert np.array_equal(np.stack(hu), made(case).hu)


def test_file_names_do_not_follow_position(folder):
    files = sorted((folder / "case-000" / "ct").iterdir())
    heights = [pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2] for path in files]
    assert heights not in (sorted(heights), sorted(heights, reverse=True))


def test_simpleitk_reads_the_same_volume(folder):
    sitk = pytest.importorskip("SimpleITK")
    case, reader = planned("seg"), sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder / case.identity.name / "ct"))
    reader.SetFileNames(names)
    image, expected = reader.Execute(), made(case)
    assert np.array_equal(sitk.GetArrayFromImage(image), expected.hu)
    assert image.GetSpacing() == pytest.approx(expected.spacing_mm[::-1])
    assert image.GetOrigin() == pytest.approx(expected.origin_mm)


def test_seg_reads_back_voxel_for_voxel(folder):
    case = planned("seg")
    seg = highdicom.seg.segread(folder / case.identity.name / "seg.dcm")
    labels = [seg.get_segment_description(number).segment_label for number in (1, 2, 3, 4)]
    assert labels == list(SEGMENTS)
    series = read_series(folder / case.identity.name / "ct")
    uids = [dataset.SOPInstanceUID for dataset in series]
    mask = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True, ignore_spatial_locations=True
    )
    assert np.array_equal(mask, made(case).labels)


def test_nifti_reads_back_and_its_affine_agrees_with_the_series(folder):
    case = planned("nifti")
    image = nibabel.load(folder / case.identity.name / "mask.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), made(case).labels)
    first, *_, last = read_series(folder / case.identity.name / "ct")
    assert image.affine[:3, 3] == pytest.approx(np.array(first.ImagePositionPatient) * (-1, -1, 1), abs=1e-4)
    top = image.affine @ (0, 0, image.shape[2] - 1, 1)
    assert top[:3] == pytest.approx(np.array(last.ImagePositionPatient) * (-1, -1, 1), abs=1e-3)
    assert np.diag(image.affine)[:2] == pytest.approx(-np.array(first.PixelSpacing), abs=1e-6)


def read_contours(folder, case):
    """Yield `(roi name, slice, (points, 2) array of row and column)`."""
    dataset = pydicom.dcmread(folder / case.identity.name / "rtstruct.dcm")
    series = {d.SOPInstanceUID: (n, d) for n, d in enumerate(read_series(folder / case.identity.name / "ct"))}
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            number, source = series[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert np.all(points[:, 2] == source.ImagePositionPatient[2])
            assert len(points) == contour.NumberOfContourPoints
            offset = points[:, :2] - np.array(source.ImagePositionPatient[:2], float)
            yield names[roi.ReferencedROINumber], number, (offset / source.PixelSpacing[0])[:, ::-1]


def test_contours_filled_even_odd_give_the_mask(folder):
    case = planned("rtstruct")
    expected = made(case).labels
    filled = {name: np.zeros(expected.shape, bool) for name in SEGMENTS}
    for name, number, points in read_contours(folder, case):
        filled[name][number] ^= polygon2mask((SIZE, SIZE), points)
    for name, value in SEGMENTS.items():
        assert np.array_equal(filled[name], expected == value)


def test_contours_enclose_the_area_of_the_mask(folder):
    case = planned("rtstruct")
    area = 0.0
    for name, _, points in read_contours(folder, case):
        row, column = points.T
        if name == "Liver":
            area += 0.5 * (row @ np.roll(column, -1) - column @ np.roll(row, -1))
    assert abs(area) == pytest.approx((made(case).labels == 1).sum(), rel=0.01)


def test_a_hole_becomes_an_outline_of_its_own():
    from kerasbalance.data.phantom.rtstruct import outlines

    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[4, 4] = False
    filled = np.logical_xor.reduce([polygon2mask((9, 9), points) for points in outlines(ring)])
    assert len(outlines(ring)) == 2
    assert np.array_equal(filled, ring)


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed"
)
@pytest.mark.parametrize("pattern", ["ct/IM0001.dcm", "seg.dcm", "rtstruct.dcm"])
def test_dciodvfy_finds_no_errors(folder, pattern):
    for path in folder.glob(f"*/{pattern}"):
        report = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in report.splitlines() if line.startswith(("Error", "Warning"))] == []


def test_manifest_points_to_files_and_names_the_labels(folder):
    rows = rows_of(folder / "cases.csv")
    assert [row["case"] for row in rows] == [f"case-00{number}" for number in range(CASES)]
    for row in rows:
        assert (folder / row["ct"]).is_dir()
        assert (folder / row["mask"]).is_file()
        named = "liver=Liver;spleen=Spleen;kidney=Left kidney,Right kidney"
        expected = "liver=1;spleen=2;kidney=3,4" if row["mask"].endswith(".nii.gz") else named
        assert row["labels"] == expected


def test_table_says_what_each_case_is(folder):
    rows = rows_of(folder / "phantom.csv")
    assert sum(row["hard"] == "1" for row in rows) == round(0.25 * CASES)
    for row in rows:
        assert bool(row["kinds"]) == (row["hard"] == "1")
        assert int(row["slices"]) == len(list((folder / row["case"] / "ct").iterdir()))
    assert rows[0]["phase"] == made(plan_cases(CASES, SIZE, SEED)[0]).phase


def test_an_interrupted_run_is_completed(folder, tmp_path):
    out = tmp_path / "out"
    calls = []

    def stop_after_two(count):
        calls.append(count)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(out, CASES, SIZE, SEED, progress=stop_after_two)
    (out / ".case-002.partial").mkdir()
    (out / ".case-002.partial" / "half.dcm").write_bytes(b"half")
    write_phantom(out, CASES, SIZE, SEED)
    assert digest(out) == digest(folder)


def test_a_run_killed_at_its_first_file_can_be_repeated(tmp_path):
    (tmp_path / ".part-77.phantom.json").write_text("{")
    write_phantom(tmp_path, 1, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "case-000",
        "cases.csv",
        "phantom.csv",
        "phantom.json",
    ]


def test_a_folder_with_other_content_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="holds other files; expected a new or empty folder"):
        write_phantom(tmp_path, 1, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_phantom_with_other_parameters_is_refused(tmp_path):
    write_phantom(tmp_path, 1, 16)
    with pytest.raises(ValueError, match="made with other parameters"):
        write_phantom(tmp_path, 1, 16, seed=1)


def test_command_writes_and_says_so(tmp_path):
    result = CliRunner().invoke(phantom, ["--out", str(tmp_path / "p"), "--cases", "2", "--size", "16"])
    assert result.exit_code == 0, result.output
    assert "2 cases, 0 of them hard" in result.output
    assert Path(tmp_path / "p" / "cases.csv").is_file()


def test_command_refuses_in_one_line(tmp_path):
    (tmp_path / "x").write_text("")
    result = CliRunner().invoke(phantom, ["--out", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "holds other files" in result.output


def test_help_ends_with_an_example():
    result = CliRunner().invoke(phantom, ["-h"])
    assert result.exit_code == 0
    assert "Example:  kerasbalance phantom" in result.output.splitlines()[-1]


def test_labels_are_the_four_structures():
    assert LABELS == {"liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4}


def test_masks_that_are_wrong_on_purpose_are_these_and_no_others():
    case = make_case((3, 1), 64)
    spoilt, wrong = spoil_masks(case, (3, 1), 0.2)
    assert spoil_masks(case, (3, 1), 0.2)[1] == wrong
    changed = [
        number for number in range(len(case.labels)) if (spoilt.labels[number] != case.labels[number]).any()
    ]
    assert changed == [one.slice for one in wrong]
    shown = (case.labels == 1).any(axis=(1, 2))
    assert len(wrong) == round(0.2 * shown.sum())
    assert shown[changed].all()
    for one in wrong:
        before, after = case.labels[one.slice], spoilt.labels[one.slice]
        expected = {
            "erased": before * 0,
            "mirrored": np.fliplr(before),
            "shifted": np.roll(before, (8, 8), (0, 1)),
        }
        np.testing.assert_array_equal(after, expected[one.kind])


def test_a_phantom_lists_its_wrong_masks(tmp_path):
    write_phantom(tmp_path / "p", 2, 32, 5, wrong_share=0.1)
    rows = [line.split(",") for line in (tmp_path / "p" / "wrong-masks.csv").read_text().splitlines()]
    assert rows[0] == ["case", "slice", "kind"]
    assert {row[0] for row in rows[1:]} == {"case-000", "case-001"}
