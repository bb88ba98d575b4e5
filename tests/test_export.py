"""Predictions as DICOM SEG and NIfTI: exact on their CT, the same bytes each time, refused in time."""

import os
import shutil
import subprocess
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from made.series import FRAME, PATIENT, SERIES, STUDY, make_enhanced, make_series, read, set_text
from pydicom.uid import UID

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.errors import DataError
from kerasbalance.data.export import Algorithm, check_exportable, write_nifti, write_segmentation
from kerasbalance.data.images.ct import read_image_ct
from kerasbalance.data.images.image import read_image
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks import read_mask
from kerasbalance.data.volume.geometry import Grid, to_canonical

REAL = Path(__file__).parents[1] / "../shared/real"
MODEL = Algorithm("U-Net of a test", "0.1")
ORGANS = ("liver", "kidney_left")

POSES = {
    "head first": (1, 0, 0, 0, 1, 0),
    "turned in the plane": (0, 1, 0, -1, 0, 0),
    "feet first, prone": (-1, 0, 0, 0, 1, 0),
    "mirrored rows": (1, 0, 0, 0, -1, 0),
    "oblique": (0.96, 0.28, 0, -0.28, 0.96, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
}
FEW = {name: POSES[name] for name in ("feet first, prone", "oblique", "sagittal")}
poses = pytest.mark.parametrize("cosines", POSES.values(), ids=POSES.keys())
few_poses = pytest.mark.parametrize("cosines", FEW.values(), ids=FEW.keys())


def predicted(hu):
    """Labels that follow from the voxels alone, so that every image has a truth of its own; some are empty."""
    labels = np.zeros(hu.shape, np.uint8)
    labels[hu > 900] = 1
    labels[hu < -700] = 2
    return labels


def stored_values(slices=7, rows=20, columns=24):
    """Values that give labels on some slices only, without any symmetry."""
    rng = np.random.default_rng(3)
    values = np.full((slices, rows, columns), 1024, np.uint16)
    values[2:5, 3:12, 4:20] = rng.integers(0, 3000, (3, 9, 16))
    values[3:6, 14:19, 2:9] = rng.integers(0, 3000, (3, 5, 7))
    return values


def series_of(folder, **options):
    """A series on disk, as scanned, and its volume."""
    options = {"spacing_mm": (0.7, 0.9), "cosines": POSES["oblique"], **options}
    made = make_series(folder, slices=7, size=(20, 24), stored=stored_values(), **options)
    series = choose_series(scan_folder(folder, frozenset({"nonaxial"})))
    return made, series, read_volume(series)


def write(path, series, volume, **options):
    labels = predicted(volume.hu)
    options = {"algorithm": MODEL, **options}
    return write_segmentation(path, labels, ORGANS, volume.grid, series, **options)


def by_source(path, made):
    """Labels `(slices, rows, columns)` in the order of the files, read by highdicom through their references."""
    seg = highdicom.seg.segread(path)
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in made.files]
    return seg.get_pixels_by_source_instance(
        uids, combine_segments=True, skip_overlap_checks=True, assert_missing_frames_are_empty=True
    )


def errors_of(path):
    """Lines of dciodvfy that begin with Error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def code_of(call, *args, **options):
    with pytest.raises(DataError) as caught:
        call(*args, **options)
    message = str(caught.value)
    for secret in (PATIENT, "DOE", "1.2.826", "/tmp"):
        assert secret not in message
    return caught.value.code, message


@poses
def test_each_frame_refers_to_the_very_image_it_was_predicted_from(tmp_path, cosines):
    names = np.random.default_rng(1).permutation(7)
    made, series, volume = series_of(tmp_path / "ct", cosines=cosines, name=lambda n: f"IM{names[n]}.dcm")
    write(tmp_path / "seg.dcm", series, volume)
    np.testing.assert_array_equal(by_source(tmp_path / "seg.dcm", made), predicted(made.hu))


@poses
def test_each_frame_has_the_position_of_its_image(tmp_path, cosines):
    made, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "seg.dcm", series, volume)
    sources = {d.SOPInstanceUID: d for d in (pydicom.dcmread(file) for file in made.files)}
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    shared = seg.SharedFunctionalGroupsSequence[0]
    first = sources[f"{SERIES}.1"]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == first.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == first.PixelSpacing
    for group in seg.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        source = sources[reference.ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        assert reference.SpatialLocationsPreserved == "YES"


@poses
def test_it_reads_back_as_a_mask_equal_voxel_by_voxel(tmp_path, cosines):
    _, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "seg.dcm", series, volume)
    mask = read_mask(tmp_path / "seg.dcm", volume, (OrganRule("liver"), OrganRule("kidney")))
    np.testing.assert_array_equal(mask.labels, predicted(volume.hu))


@few_poses
def test_dcmqi_puts_every_voxel_where_it_belongs(tmp_path, cosines):
    tool = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("dcmqi is not installed")
    _, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "seg.dcm", series, volume)
    command = [
        tool,
        "--inputDICOM",
        tmp_path / "seg.dcm",
        "--outputDirectory",
        tmp_path,
        "--outputType",
        "nifti",
    ]
    subprocess.run([*map(str, command), "--mergeSegments"], check=True, capture_output=True)
    found = nibabel.load(tmp_path / "1.nii.gz")
    volume_labels = np.asarray(found.dataobj).astype(np.uint8).transpose(2, 1, 0)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.affine
    turned, grid = to_canonical(volume_labels, Grid.from_affine(volume_labels.shape, lps))
    mask = np.zeros(volume.grid.shape, np.uint8)
    offset = np.rint(
        np.linalg.solve(volume.grid.affine()[:3, :3], (grid.positions_mm[0] - volume.grid.positions_mm[0]))
    )
    column, row, first = offset.astype(int)
    depth, rows, columns = turned.shape
    mask[first : first + depth, row : row + rows, column : column + columns] = turned
    np.testing.assert_array_equal(mask, predicted(volume.hu))


@few_poses
def test_dciodvfy_finds_no_error(tmp_path, cosines):
    _, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "seg.dcm", series, volume)
    assert errors_of(tmp_path / "seg.dcm") == []


def test_a_label_map_reads_back_equal(tmp_path):
    made, series, volume = series_of(tmp_path / "ct")
    write(tmp_path / "seg.dcm", series, volume, kind="LABELMAP")
    np.testing.assert_array_equal(by_source(tmp_path / "seg.dcm", made), predicted(made.hu))


def test_frames_of_an_enhanced_file_in_any_order_get_their_labels(tmp_path):
    made = make_enhanced(tmp_path / "ct", order=(3, 0, 4, 1, 2))
    series = choose_series(scan_folder(tmp_path / "ct"))
    volume = read_volume(series)
    write(tmp_path / "seg.dcm", series, volume)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    found = seg.get_pixels_by_source_frame(
        f"{SERIES}.1", [1, 2, 3, 4, 5], combine_segments=True, skip_overlap_checks=True
    )
    np.testing.assert_array_equal(found, predicted(made.hu)[[3, 0, 4, 1, 2]])
    assert errors_of(tmp_path / "seg.dcm") == []


def test_uneven_slices_keep_their_positions(tmp_path):
    make_series(tmp_path / "ct", slices=7, size=(20, 24), stored=stored_values())
    (tmp_path / "ct/IM0003.dcm").unlink()
    series = choose_series(scan_folder(tmp_path / "ct", frozenset({"gap"})))
    volume = read_volume(series)
    write(tmp_path / "seg.dcm", series, volume)
    mask = read_mask(tmp_path / "seg.dcm", volume, (OrganRule("liver"), OrganRule("kidney")))
    np.testing.assert_array_equal(mask.labels, predicted(volume.hu))


def test_segments_are_coded_and_the_algorithm_is_named(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    organs = ("liver", "my_organ")
    write_segmentation(
        tmp_path / "seg.dcm", predicted(volume.hu), organs, volume.grid, series, algorithm=MODEL
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in seg.SegmentSequence]
    assert kinds == ["10200004", "91772007"]
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Liver", "My organ"]
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("U-Net of a test", "0.1")
    assert (seg.SegmentSequence[0].SegmentAlgorithmType, seg.ContentCreatorName) == (
        "AUTOMATIC",
        "kerasbalance^",
    )


def test_it_belongs_to_the_patient_study_and_frame_of_its_series(tmp_path):
    def known(dataset, number):
        dataset.PatientName, dataset.PatientSex, dataset.StudyDate = "Müller^Änne", "F", "20240229"
        dataset.SpecificCharacterSet = "ISO_IR 100"

    _, series, volume = series_of(tmp_path / "ct", edit=known)
    write(tmp_path / "seg.dcm", series, volume)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (STUDY, FRAME)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    assert (seg.PatientName, seg.PatientID, seg.PatientSex) == ("Müller^Änne", PATIENT, "F")
    assert (seg.StudyDate, seg.ContentDate) == ("20240229", "20240229")


def test_the_same_labels_give_the_same_bytes_and_others_other_uids(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    for name in ("a", "b"):
        write(tmp_path / f"{name}.dcm", series, volume)
    write(tmp_path / "c.dcm", series, volume, algorithm=Algorithm("U-Net of a test", "0.2"))
    first, second, other = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in "abc")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert first.SOPInstanceUID != other.SOPInstanceUID
    assert "InstanceCreationTime" not in second


def test_the_time_is_in_the_file_only_if_given(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    write(tmp_path / "seg.dcm", series, volume, created=datetime(2025, 3, 4, 5, 6, 7))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (seg.ContentDate, str(seg.ContentTime)[:6], seg.InstanceCreationDate) == (
        "20250304",
        "050607",
        "20250304",
    )


def test_empty_slices_have_no_frames_and_an_empty_prediction_is_told(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    assert write(tmp_path / "seg.dcm", series, volume) == ()
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 2 * 4
    empty = np.zeros(volume.hu.shape, np.uint8)
    notes = write_segmentation(tmp_path / "none.dcm", empty, ("liver",), volume.grid, series, algorithm=MODEL)
    assert [(note.code, note.loud) for note in notes] == [("EMPTY", True)]
    assert not read_mask(tmp_path / "none.dcm", volume, (OrganRule("liver"),)).labels.any()
    assert errors_of(tmp_path / "none.dcm") == []


FAULTS = {
    "FrameOfReferenceUID": lambda dataset, number: delattr(dataset, "FrameOfReferenceUID"),
    "SOPInstanceUID": lambda dataset, number: setattr(dataset, "SOPInstanceUID", ""),
    "SeriesInstanceUID": lambda dataset, number: setattr(dataset, "SeriesInstanceUID", ""),
    "StudyInstanceUID": lambda dataset, number: set_text(dataset, "StudyInstanceUID", "1.02.3"),
    "StudyDate": lambda dataset, number: set_text(dataset, "StudyDate", "8f14e45f-ceea-467f"),
    "PatientBirthDate": lambda dataset, number: set_text(dataset, "PatientBirthDate", "19930230"),
    "PatientSex": lambda dataset, number: set_text(dataset, "PatientSex", "female"),
    "StudyID": lambda dataset, number: set_text(dataset, "StudyID", "a study id of many letters"),
}


@pytest.mark.parametrize("keyword", FAULTS)
def test_poor_headers_are_refused_before_the_model_runs_and_mended_only_if_asked(tmp_path, keyword):
    _, series, volume = series_of(tmp_path / "ct", edit=FAULTS[keyword])
    code, message = code_of(check_exportable, series)
    assert code == "NOT_EXPORTABLE"
    assert f"invalid {keyword}" in message
    assert code_of(write, tmp_path / "seg.dcm", series, volume)[0] == "NOT_EXPORTABLE"
    (note,) = check_exportable(series, mend=True)
    assert note.loud
    assert keyword in note.text
    assert write(tmp_path / "seg.dcm", series, volume, mend=True) == (note,)
    assert errors_of(tmp_path / "seg.dcm") == []
    mask = read_mask(tmp_path / "seg.dcm", volume, (OrganRule("liver"), OrganRule("kidney")))
    np.testing.assert_array_equal(mask.labels, predicted(volume.hu))


def test_a_class_that_only_the_file_meta_knows_is_no_fault(tmp_path):
    _, series, _ = series_of(
        tmp_path / "ct", edit=lambda dataset, number: setattr(dataset, "SOPClassUID", "")
    )
    assert check_exportable(series) == ()


def test_minted_uids_follow_from_the_pixels(tmp_path):
    for name in ("a", "b"):
        _, series, volume = series_of(tmp_path / name, edit=FAULTS["SOPInstanceUID"])
        write(tmp_path / f"{name}.dcm", series, volume, mend=True)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    references = pydicom.dcmread(tmp_path / "a.dcm").ReferencedSeriesSequence[0].ReferencedInstanceSequence
    uids = {UID(item.ReferencedSOPInstanceUID) for item in references}
    assert len(uids) == 7
    assert all(uid.is_valid for uid in uids)


def test_a_sound_series_needs_no_mending(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    assert check_exportable(series) == check_exportable(series, mend=True) == ()
    write(tmp_path / "a.dcm", series, volume)
    write(tmp_path / "b.dcm", series, volume, mend=True)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_a_series_of_two_studies_is_refused_even_for_mending(tmp_path):
    _, series, _ = series_of(
        tmp_path / "ct", edits={3: lambda dataset, number: setattr(dataset, "StudyInstanceUID", "1.2.9")}
    )
    code, message = code_of(check_exportable, series, mend=True)
    assert (code, "images of 2 studies" in message) == ("NOT_EXPORTABLE", True)


def test_labels_of_another_grid_are_refused(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    labels = predicted(volume.hu)
    shifted = Grid(
        volume.grid.shape, volume.grid.positions_mm + 1, volume.grid.row_step_mm, volume.grid.column_step_mm
    )
    arguments = (tmp_path / "seg.dcm", labels, ORGANS, shifted, series)
    assert code_of(write_segmentation, *arguments, algorithm=MODEL)[0] == "GEOMETRY"
    with pytest.raises(ValueError, match="undo crop and resize"):
        write_segmentation(tmp_path / "seg.dcm", labels[:, 1:], ORGANS, volume.grid, series, algorithm=MODEL)
    with pytest.raises(ValueError, match="labels up to 2 for 1 organs"):
        write_segmentation(tmp_path / "seg.dcm", labels, ("liver",), volume.grid, series, algorithm=MODEL)
    with pytest.raises(ValueError, match="kind='FRACTIONAL'"):
        write(tmp_path / "seg.dcm", series, volume, kind="FRACTIONAL")
    assert (
        code_of(write_nifti, tmp_path / "a.nii", labels, ("liver", "liver"), volume.grid)[0] == "LABEL_RULE"
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "ct"]


def test_nothing_is_overwritten_unasked_and_nothing_else_left_behind(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    target = tmp_path / "seg.dcm"
    target.write_text("mine")
    assert code_of(write, target, series, volume)[0] == "EXISTS"
    assert target.read_text() == "mine"
    write(target, series, volume, overwrite=True)
    assert pydicom.dcmread(target).Modality == "SEG"
    assert code_of(write, tmp_path / "no/seg.dcm", series, volume)[0] == "NO_FOLDER"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "seg.dcm"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    _, _, volume = series_of(tmp_path / "ct")
    target = tmp_path / "a.nii"
    target.write_text("mine")

    def fail(*_):
        raise OSError("no")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no"):
        write_nifti(target, predicted(volume.hu), ORGANS, volume.grid, overwrite=True)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "ct"]


# ---------------------------------------------------------------------------- NIfTI


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@poses
def test_nifti_of_a_dicom_series_lies_on_its_ct(tmp_path, cosines, name):
    _, _, volume = series_of(tmp_path / "ct", cosines=cosines)
    labels = predicted(volume.hu)
    write_nifti(tmp_path / name, labels, ORGANS, volume.grid)
    image = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels.transpose(2, 1, 0))
    expected = np.diag([-1, -1, 1, 1]) @ volume.grid.affine()
    np.testing.assert_allclose(image.affine, expected, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), expected, atol=1e-4)
    assert image.header["descrip"] == b"1=liver 2=kidney_left"


@few_poses
def test_simpleitk_finds_the_labels_at_the_same_places_as_the_ct(tmp_path, cosines):
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    _, _, volume = series_of(tmp_path / "ct", cosines=cosines)
    write_nifti(tmp_path / "a.nii.gz", predicted(volume.hu), ORGANS, volume.grid)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    ct, labels = reader.Execute(), sitk.ReadImage(tmp_path / "a.nii.gz")
    moved = sitk.Resample(labels, ct, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moved), predicted(sitk.GetArrayFromImage(ct)))


ORIENTATIONS = ["RAS", "LPS", "LAS", "ASR", "PIL", "SLA"]


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_nifti_of_a_nifti_has_its_voxel_order_and_affine(tmp_path, axes):
    values = (stored_values().transpose(2, 1, 0).astype(np.int16) - 1024).astype(np.int16)
    affine = np.diag([0.9, 0.7, 2.5, 1.0])
    affine[:3, 3] = -31.7, 12.3, 88.8
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(turn), tmp_path / "ct.nii.gz")
    volume, source = read_image_ct(tmp_path / "ct.nii.gz"), read_image(tmp_path / "ct.nii.gz").grid
    write_nifti(tmp_path / "seg.nii.gz", predicted(volume.hu), ORGANS, volume.grid, source=source)
    ct, labels = nibabel.load(tmp_path / "ct.nii.gz"), nibabel.load(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), predicted(np.asarray(ct.dataobj)))
    np.testing.assert_array_equal(labels.affine, ct.affine)
    assert labels.get_data_dtype() == np.uint8


def test_nifti_is_the_same_bytes_each_time_and_refuses_other_endings(tmp_path):
    _, _, volume = series_of(tmp_path / "ct")
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", predicted(volume.hu), ORGANS, volume.grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert code_of(write_nifti, tmp_path / "a.nrrd", predicted(volume.hu), ORGANS, volume.grid)[0] == "USAGE"
    assert (
        code_of(write_nifti, tmp_path / "a.nii.gz", predicted(volume.hu), ORGANS, volume.grid)[0] == "EXISTS"
    )


def test_nifti_of_a_tilted_gantry_holds_the_shear_and_uneven_slices_are_refused(tmp_path):
    make_series(tmp_path / "tilt", slices=6, aside_mm=(0, 0.5, 0))
    volume = read(tmp_path / "tilt", "tilt")
    write_nifti(tmp_path / "a.nii", predicted(volume.hu), ORGANS, volume.grid)
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ volume.grid.affine(), atol=1e-5)
    assert int(image.header["qform_code"]) == 0
    make_series(tmp_path / "gap", slices=6)
    (tmp_path / "gap/IM0003.dcm").unlink()
    volume = read(tmp_path / "gap", "gap")
    assert code_of(write_nifti, tmp_path / "b.nii", predicted(volume.hu), ORGANS, volume.grid)[0] == "UNEVEN"


# ---------------------------------------------------------------------------- real data


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_seg_of_the_chaos_series_lies_on_it(tmp_path, shuffled):
    folder = REAL / "chaos/DICOM_anon"
    if not folder.is_dir():
        pytest.skip("the CHAOS series is not at hand")
    files = sorted(folder.iterdir())[::4]
    order = np.random.default_rng(0).permutation(len(files)) if shuffled else np.arange(len(files))
    (tmp_path / "ct").mkdir()
    for number, file in zip(order, files, strict=True):
        shutil.copy(file, tmp_path / f"ct/{number:04d}.dcm")
    series = choose_series(scan_folder(tmp_path / "ct"))
    volume = read_volume(series)
    labels = np.where(volume.hu > 150, 1, 0).astype(np.uint8)
    write_segmentation(
        tmp_path / "seg.dcm", labels, ("liver",), volume.grid, series, algorithm=MODEL, mend=True
    )
    assert errors_of(tmp_path / "seg.dcm") == []
    mask = read_mask(tmp_path / "seg.dcm", volume, (OrganRule("liver"),))
    np.testing.assert_array_equal(mask.labels, labels)


def test_the_blank_uids_of_totalsegmentators_series_are_refused_and_mended(tmp_path):
    folder = REAL / "totalsegmentator/example_ct_dicom"
    if not folder.is_dir():
        pytest.skip("the TotalSegmentator series is not at hand")
    series = choose_series(scan_folder(folder))
    code, message = code_of(check_exportable, series)
    assert code == "NOT_EXPORTABLE"
    assert "SOPInstanceUID (20 of 20 images)" in message
    volume = read_volume(series)
    mask = read_mask(REAL / "totalsegmentator/example_seg_dicom.nii.gz", volume, (OrganRule("liver", (5,)),))
    write_segmentation(
        tmp_path / "seg.dcm", mask.labels, ("liver",), volume.grid, series, algorithm=MODEL, mend=True
    )
    assert errors_of(tmp_path / "seg.dcm") == []
    again = read_mask(tmp_path / "seg.dcm", volume)
    np.testing.assert_array_equal(again.labels, mask.labels)


def test_a_packed_nifti_is_written_slice_by_slice(tmp_path):
    labels = np.zeros((40, 200, 200), np.uint8)
    labels[10:20, 50:90, 50:90] = 1
    grid = Grid.from_affine(labels.shape, np.diag([0.8, 0.8, 3.0, 1.0]))
    tracemalloc.start()
    write_nifti(tmp_path / "a.nii.gz", labels, ("liver",), grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(nibabel.load(tmp_path / "a.nii.gz").get_fdata().transpose(2, 1, 0), labels)
    assert peak < labels.nbytes / 2
