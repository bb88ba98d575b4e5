"""Predictions as RTSTRUCT: to a pixel by any rule of filling, on the right images, and valid."""

from datetime import datetime

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from made.series import FRAME, PATIENT, SERIES, STUDY, make_enhanced
from test_export import (
    FAULTS,
    MODEL,
    ORGANS,
    POSES,
    code_of,
    errors_of,
    few_poses,
    predicted,
    series_of,
)

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.export import write_structure_set
from kerasbalance.data.export.outlines import outlines
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks import read_mask

AXIAL = {name: pose for name, pose in POSES.items() if name not in ("sagittal", "coronal")}
axial_poses = pytest.mark.parametrize("cosines", AXIAL.values(), ids=AXIAL.keys())
RULES = (OrganRule("liver"), OrganRule("kidney"))


def write(path, series, volume, **options):
    return write_structure_set(
        path, predicted(volume.hu), ORGANS, volume.grid, series, **{"algorithm": MODEL} | options
    )


def area_of(points):
    row, column = points.T
    return abs(np.sum(row * np.roll(column, -1) - column * np.roll(row, -1))) / 2


def filled(contour, image):
    """A contour filled by scikit-image, from the attributes of the image alone."""
    polygon2mask = pytest.importorskip("skimage.draw").polygon2mask
    points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(image.ImagePositionPatient, float)
    along_row, along_column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, image.PixelSpacing)
    assert np.abs(points @ np.cross(along_row, along_column)).max() < 1e-3
    in_pixels = np.stack([points @ along_column / row_mm, points @ along_row / column_mm], axis=1)
    return polygon2mask((image.Rows, image.Columns), in_pixels)


@settings(max_examples=150, deadline=None)
@given(mask=npst.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_outlines_filled_by_any_rule_are_the_mask(mask):
    from matplotlib.path import Path as Curve
    from skimage.draw import polygon2mask

    polygons = outlines(mask)
    planes = [polygon2mask(mask.shape, polygon) for polygon in polygons]
    united, odd = np.any([np.zeros_like(mask), *planes], axis=0), np.sum([0 * mask, *planes], axis=0) % 2
    np.testing.assert_array_equal(united, mask)
    np.testing.assert_array_equal(odd, mask)
    centres = np.argwhere(np.ones_like(mask))  # matplotlib fills by winding number
    winding = [Curve(polygon).contains_points(centres).reshape(mask.shape) for polygon in polygons]
    np.testing.assert_array_equal(np.any([np.zeros_like(mask), *winding], axis=0), mask)
    assert sum(map(area_of, polygons)) == mask.sum()


def test_a_ring_is_one_polygon_with_its_hole_behind_a_keyhole():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (polygon,) = outlines(ring)
    keyhole = [[-0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5], [0.5, 0.5], [-0.5, 0.5]]
    assert polygon.tolist() == [[-0.5, -0.5], *keyhole, [-0.5, 2.5], [2.5, 2.5], [2.5, -0.5]]
    assert area_of(polygon) == 8


def test_parts_that_touch_at_a_corner_are_polygons_of_their_own():
    assert [polygon.tolist() for polygon in outlines(np.eye(2, dtype=bool))] == [
        [[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]],
        [[0.5, 0.5], [0.5, 1.5], [1.5, 1.5], [1.5, 0.5]],
    ]


@axial_poses
def test_it_reads_back_as_a_mask_equal_pixel_by_pixel(tmp_path, cosines):
    _, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "rt.dcm", series, volume)
    mask = read_mask(tmp_path / "rt.dcm", volume, RULES)
    np.testing.assert_array_equal(mask.labels, predicted(volume.hu))
    assert [note for note in mask.notes if note.code in ("CROSSING", "REPEATED", "OUTSIDE")] == []


@few_poses
def test_each_contour_filled_on_the_image_that_it_refers_to_is_that_images_mask(tmp_path, cosines):
    made, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "rt.dcm", series, volume)
    images = [pydicom.dcmread(file) for file in made.files]
    found = {image.SOPInstanceUID: np.zeros((image.Rows, image.Columns), np.uint8) for image in images}
    by_uid = {image.SOPInstanceUID: image for image in images}
    for roi in pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence:
        for contour in roi.ContourSequence:
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            found[uid][filled(contour, by_uid[uid])] = roi.ReferencedROINumber
    stacked = np.stack([found[image.SOPInstanceUID] for image in images])
    np.testing.assert_array_equal(stacked, predicted(made.hu))


@few_poses
def test_dciodvfy_finds_no_error(tmp_path, cosines):
    _, series, volume = series_of(tmp_path / "ct", cosines=cosines)
    write(tmp_path / "rt.dcm", series, volume, created=datetime(2025, 3, 4, 5, 6, 7))
    assert errors_of(tmp_path / "rt.dcm") == []


def test_it_refers_to_the_series_study_and_frame_of_its_ct(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    write(tmp_path / "rt.dcm", series, volume)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == (STUDY, FRAME)
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (referenced,) = study.RTReferencedSeriesSequence
    assert (frame.FrameOfReferenceUID, study.ReferencedSOPInstanceUID) == (FRAME, STUDY)
    assert (referenced.SeriesInstanceUID, len(referenced.ContourImageSequence)) == (SERIES, 7)
    assert (dataset.PatientID, dataset.Modality, dataset.ApprovalStatus) == (
        PATIENT,
        "RTSTRUCT",
        "UNAPPROVED",
    )


def test_rois_are_named_coded_and_said_to_be_made_by_a_model(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    write(tmp_path / "rt.dcm", series, volume)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["Liver", "Kidney left"]
    assert {roi.ROIGenerationAlgorithm for roi in dataset.StructureSetROISequence} == {"AUTOMATIC"}
    observed = [
        item.RTROIIdentificationCodeSequence[0].CodeValue for item in dataset.RTROIObservationsSequence
    ]
    assert observed == ["10200004", "18639004"]


def test_contours_of_an_enhanced_file_name_its_frames(tmp_path):
    make_enhanced(tmp_path / "ct", order=(3, 0, 4, 1, 2))
    series = choose_series(scan_folder(tmp_path / "ct"))
    volume = read_volume(series)
    write(tmp_path / "rt.dcm", series, volume)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    referenced = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert len(referenced.ContourImageSequence) == 1
    source = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    for contour in (c for roi in dataset.ROIContourSequence for c in roi.ContourSequence):
        number = contour.ContourImageSequence[0].ReferencedFrameNumber
        group = source.PerFrameFunctionalGroupsSequence[number - 1]
        assert contour.ContourData[2] == group.PlanePositionSequence[0].ImagePositionPatient[2]
    np.testing.assert_array_equal(read_mask(tmp_path / "rt.dcm", volume, RULES).labels, predicted(volume.hu))
    assert errors_of(tmp_path / "rt.dcm") == []


def test_an_empty_prediction_is_told_and_lists_its_rois_without_contours(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    empty = np.zeros(volume.hu.shape, np.uint8)
    notes = write_structure_set(tmp_path / "rt.dcm", empty, ("liver",), volume.grid, series, algorithm=MODEL)
    assert [(note.code, note.loud) for note in notes] == [("EMPTY", True)]
    assert "ContourSequence" not in pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0]
    assert errors_of(tmp_path / "rt.dcm") == []


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "SOPInstanceUID", "StudyDate"])
def test_poor_headers_are_refused_and_mended_only_if_asked(tmp_path, keyword):
    _, series, volume = series_of(tmp_path / "ct", edit=FAULTS[keyword])
    code, message = code_of(write, tmp_path / "rt.dcm", series, volume)
    assert (code, f"invalid {keyword}" in message) == ("NOT_EXPORTABLE", True)
    assert not (tmp_path / "rt.dcm").exists()
    (note,) = write(tmp_path / "rt.dcm", series, volume, mend=True)
    assert note.loud
    assert errors_of(tmp_path / "rt.dcm") == []


def test_the_same_labels_give_the_same_bytes(tmp_path):
    _, series, volume = series_of(tmp_path / "ct")
    for name in ("a", "b"):
        write(tmp_path / f"{name}.dcm", series, volume)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert code_of(write, tmp_path / "a.dcm", series, volume)[0] == "EXISTS"
