"""Labels as RTSTRUCT: closed contours on the images of the CT series.

Reference:
    DICOM PS3.3 sections A.19 (RT Structure Set IOD), C.8.8.5 (Structure Set) and C.8.8.6 (ROI Contour).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from kerasbalance.data.dicom import Series
from kerasbalance.data.dicom.guard import lenient_pydicom
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import Note
from kerasbalance.data.export.attributes import PATIENT_AND_STUDY
from kerasbalance.data.export.content import CODES, Algorithm, Uids, label_of, study_stamp
from kerasbalance.data.export.files import check_target, write_target
from kerasbalance.data.export.headers import SourceHeaders
from kerasbalance.data.export.labels import Labels, check_labels, in_source_order
from kerasbalance.data.export.outlines import Points, outlines
from kerasbalance.data.volume.geometry import Array, Grid

SERIES_NUMBER = 901
"""Beside the SEG's; see `segmentation.SERIES_NUMBER`."""

# Detached Study Management: retired, yet the class that PS3.3 section C.8.8.5 names for a study.
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_COLOURS = ((221, 130, 101), (157, 108, 162), (103, 160, 204), (120, 170, 90), (230, 190, 80), (200, 90, 130))


def write_structure_set(
    path: Path,
    labels: Labels,
    organs: tuple[str, ...],
    grid: Grid,
    series: Series,
    *,
    algorithm: Algorithm,
    mend: bool = False,
    created: datetime | None = None,
    overwrite: bool = False,
) -> tuple[Note, ...]:
    """Write labels as one RTSTRUCT with a ROI for each organ.

    The contours run along the edges of the pixels, see `outlines.outlines`: they enclose exactly the labelled area,
    and filled at the pixels' centres they are the labels again. Each lies on the image that it was predicted from
    and refers to it. A ROI without a labelled pixel is listed without contours.

    The same labels, headers and arguments give the same bytes and UIDs. The date of the structure set is that of
    the study unless `created` is given.

    Args:
        path: The new file; its folder must be there.
        labels: uint8 `(slices, rows, columns)` on `grid`; `i + 1` is `organs[i]`.
        organs: Names; ROIs bear them, and the SNOMED codes of known ones.
        grid: The canonical grid of the CT, `Volume.grid`.
        series: The CT that was read into that volume.
        algorithm: What made the labels.
        mend: See `check_exportable`.
        created: When, for StructureSetDate and the like.
        overwrite: Put the file in the place of one that is there.

    Returns:
        What was mended, and a loud note if there is no labelled voxel.

    Raises:
        DataError: If the headers do not allow it (`NOT_EXPORTABLE`), the labels do not lie on the series
            (`GEOMETRY`), or the file cannot be written (`EXISTS`, `NO_FOLDER`, `DISK_FULL`).
        ValueError: If labels have another type, shape or range.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    check_labels(labels, organs, grid)
    headers = SourceHeaders(series, mend)
    source = grid_of(series.slices)
    frames = in_source_order(labels, grid, source)
    with lenient_pydicom():
        uids = Uids("RTSTRUCT", frames, headers, (organs, algorithm, created))
        dataset = _structure_set(organs, headers, uids, algorithm, created)
        dataset.ROIContourSequence = [
            _roi_contours(n, frames == n, source, headers) for n in _numbers(organs)
        ]
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    write_target(path, buffer.getvalue(), overwrite=overwrite)
    empty = Note("EMPTY", "the prediction marks no voxel", loud=True)
    return headers.notes if frames.any() else (*headers.notes, empty)


def _numbers(organs: Sequence[str]) -> range:
    return range(1, len(organs) + 1)


def _structure_set(
    organs: tuple[str, ...],
    headers: SourceHeaders,
    uids: Uids,
    algorithm: Algorithm,
    created: datetime | None,
) -> FileDataset:
    """Return everything but the contours."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        RTStructureSetStorage,
        uids.make("instance"),
    )
    meta.TransferSyntaxUID = ImplicitVRLittleEndian  # an explicit one holds no contour of over 64 KiB
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    for keyword in PATIENT_AND_STUDY:
        setattr(dataset, keyword, headers.attributes[keyword])
    dataset.StudyInstanceUID = headers.uid("StudyInstanceUID")
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", uids.make("series")
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBER, 1
    dataset.SeriesDescription = "Contours of organs"
    dataset.OperatorsName, dataset.Manufacturer = "", "kerasbalance"
    dataset.ManufacturerModelName, dataset.SoftwareVersions = algorithm.name, algorithm.version
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = headers.uid("FrameOfReferenceUID"), ""
    dataset.StructureSetLabel, dataset.StructureSetName = "SEGMENTATION", "Organs segmented by a model"
    stamp = created or study_stamp(headers)
    dataset.StructureSetDate = stamp.strftime("%Y%m%d") if stamp else ""
    dataset.StructureSetTime = stamp.strftime("%H%M%S") if stamp else ""
    if created is not None:
        dataset.InstanceCreationDate = dataset.StructureSetDate
        dataset.InstanceCreationTime = dataset.StructureSetTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(headers)]
    dataset.StructureSetROISequence = [
        _roi(n, organ, headers, algorithm) for n, organ in enumerate(organs, 1)
    ]
    dataset.RTROIObservationsSequence = [_observation(n, organ) for n, organ in enumerate(organs, 1)]
    return dataset


def _frame_of_reference(headers: SourceHeaders) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = headers.uid("SeriesInstanceUID")
    numbers = [0] if headers.is_multi_frame else range(len(headers.series.slices))
    series.ContourImageSequence = [_image(headers, number) for number in numbers]
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = headers.uid("StudyInstanceUID")
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = headers.uid("FrameOfReferenceUID")
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(headers: SourceHeaders, number: int) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = headers.uid("SOPClassUID", number)
    image.ReferencedSOPInstanceUID = headers.uid("SOPInstanceUID", number)
    return image


def _roi(number: int, organ: str, headers: SourceHeaders, algorithm: Algorithm) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, label_of(organ)
    roi.ReferencedFrameOfReferenceUID = headers.uid("FrameOfReferenceUID")
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}"[:64]
    return roi


def _observation(number: int, organ: str) -> Dataset:
    code, known = Dataset(), CODES.get(organ, codes.SCT.Organ)
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        known.value,
        known.scheme_designator,
        known.meaning,
    )
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIIdentificationCodeSequence = [code]
    observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
    return observation


def _roi_contours(number: int, mask: Array, source: Grid, headers: SourceHeaders) -> Dataset:
    roi = Dataset()
    roi.ROIDisplayColor = list(_COLOURS[(number - 1) % len(_COLOURS)])
    contours = list(_contours(mask, source, headers))
    if contours:
        roi.ContourSequence = contours
    roi.ReferencedROINumber = number
    return roi


def _contours(mask: Array, source: Grid, headers: SourceHeaders) -> Iterator[Dataset]:
    steps = np.stack([source.row_step_mm, source.column_step_mm])
    for number in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for points in outlines(mask[number]):
            yield _contour(source.positions_mm[number] + points @ steps, number, headers)


def _contour(points_mm: Points, number: int, headers: SourceHeaders) -> Dataset:
    image = _image(headers, 0 if headers.is_multi_frame else number)
    if headers.is_multi_frame:
        image.ReferencedFrameNumber = headers.series.slices[number].frame.index + 1
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points_mm)
    contour.ContourData = [f"{value:.4f}" for value in points_mm.ravel()]
    return contour
