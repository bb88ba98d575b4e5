"""Masks of a synthetic case as RTSTRUCT: one closed planar contour for each outline on each slice.

Reference:
    DICOM PS3.3 section A.19 (RT Structure Set IOD).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import RTStructureSetStorage
from skimage.measure import find_contours

from kerasbalance.data.phantom.case import LABELS, PhantomCase
from kerasbalance.data.phantom.identity import DATE, TIME, CaseIdentity, common_header, file_meta
from kerasbalance.data.phantom.mask_files import NAMES

# Detached Study Management, retired, yet the reference that PS3.3 section C.8.8.5 asks for.
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_COLOURS = {
    "liver": (221, 130, 101),
    "spleen": (157, 108, 162),
    "kidney_left": (185, 102, 83),
    "kidney_right": (200, 120, 90),
}


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Trace a slice's mask at half height between pixel centres.

    Filled even-odd at pixel centres the outlines give back the mask: a hole is an outline of its own.

    Args:
        mask: bool `(rows, columns)`.

    Returns:
        One float64 `(points, 2)` array of `(row, column)` an outline, the first point not repeated.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    return [contour[:-1] - 1 for contour in find_contours(padded, 0.5)]


def write_rtstruct(case: PhantomCase, source: list[FileDataset], identity: CaseIdentity, path: Path) -> None:
    """Write the masks as an RTSTRUCT with four ROIs that refer to the CT series."""
    uid = identity.uid("rtstruct")
    meta = file_meta(RTStructureSetStorage, uid)
    dataset = FileDataset("", common_header(identity, "RTSTRUCT", 3, "Organs"), file_meta=meta)
    dataset.preamble = b"\0" * 128
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, uid
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "ORGANS"
    dataset.StructureSetDate, dataset.StructureSetTime = DATE, TIME
    dataset.FrameOfReferenceUID = identity.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source, identity)]
    dataset.StructureSetROISequence = [_roi(organ, number, identity) for organ, number in LABELS.items()]
    dataset.ROIContourSequence = [_contours(case, organ, number, source) for organ, number in LABELS.items()]
    dataset.RTROIObservationsSequence = [_observation(number) for number in LABELS.values()]
    dataset.save_as(path, enforce_file_format=True)


def _image_reference(source: FileDataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference


def _frame_of_reference(source: list[FileDataset], identity: CaseIdentity) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source[0].SeriesInstanceUID
    series.ContourImageSequence = [_image_reference(dataset) for dataset in source]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = source[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = identity.uid("frame of reference")
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(organ: str, number: int, identity: CaseIdentity) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = identity.uid("frame of reference")
    roi.ROIName = NAMES[organ]
    roi.ROIGenerationAlgorithm = "MANUAL"
    return roi


def _contours(case: PhantomCase, organ: str, number: int, source: list[FileDataset]) -> Dataset:
    roi = Dataset()
    roi.ReferencedROINumber = number
    roi.ROIDisplayColor = list(_COLOURS[organ])
    roi.ContourSequence = [
        _contour(points, dataset)
        for mask, dataset in zip(case.labels == number, source, strict=True)
        for points in outlines(mask)
    ]
    return roi


def _contour(points: NDArray[np.float64], source: FileDataset) -> Dataset:
    x, y, z = (float(value) for value in source.ImagePositionPatient)
    row_mm, column_mm = (float(value) for value in source.PixelSpacing)
    contour = Dataset()
    contour.ContourImageSequence = [_image_reference(source)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [
        f"{value:.4f}" for row, column in points for value in (x + column * column_mm, y + row * row_mm, z)
    ]
    return contour


def _observation(number: int) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = "ORGAN"
    observation.ROIInterpreter = ""
    return observation
