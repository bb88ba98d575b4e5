"""Labels as DICOM SEG that refers to its CT series image by image.

Reference:
    DICOM PS3.3 sections A.51 (Segmentation IOD) and C.8.20; PS3.16 CID 7150 and 7151 (codes of segments).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Literal

import highdicom
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from kerasbalance.data.dicom import Series
from kerasbalance.data.dicom.guard import lenient_pydicom
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import Note
from kerasbalance.data.export.content import CODES, UNKNOWN_DATE, Algorithm, Uids, label_of, study_stamp
from kerasbalance.data.export.files import check_target, write_target
from kerasbalance.data.export.headers import SourceHeaders
from kerasbalance.data.export.labels import Labels, check_labels, in_source_order
from kerasbalance.data.volume.geometry import Grid

Kind = Literal["BINARY", "LABELMAP"]

SERIES_NUMBER = 900
"""High enough to be listed after the scanner's own series."""


def write_segmentation(
    path: Path,
    labels: Labels,
    organs: tuple[str, ...],
    grid: Grid,
    series: Series,
    *,
    algorithm: Algorithm,
    kind: Kind = "BINARY",
    mend: bool = False,
    created: datetime | None = None,
    overwrite: bool = False,
) -> tuple[Note, ...]:
    """Write labels as one DICOM SEG with a segment for each organ.

    The labels go back into the order of the source images, by geometry, and each frame takes position and
    reference from the very image that it was predicted from; neither file order nor a flipped, coronal or
    sagittal series can mix them up. Slices without a label have no frame.

    The same labels, headers and arguments give the same bytes and UIDs: there is no clock in the file. Where
    the standard wants a creation date, that of the study stands unless `created` is given, or 1 January 1900
    for a study without one.

    Args:
        path: The new file; its folder must be there.
        labels: uint8 `(slices, rows, columns)` on `grid`; `i + 1` is `organs[i]`.
        organs: Names. Known ones get their SNOMED code, others the code "Organ"; labels tell them apart.
        grid: The canonical grid of the CT, `Volume.grid`.
        series: The CT that was read into that volume.
        algorithm: What made the labels.
        kind: `"LABELMAP"` is far smaller, but needs readers of 2024 and later.
        mend: See `check_exportable`.
        created: When, for ContentDate and ContentTime and the like.
        overwrite: Put the file in the place of one that is there.

    Returns:
        What was mended, and a loud note if there is no labelled voxel; all slices are then stored, empty.

    Raises:
        DataError: If the headers do not allow it (`NOT_EXPORTABLE`), the labels do not lie on the series
            (`GEOMETRY`), or the file cannot be written (`EXISTS`, `NO_FOLDER`, `DISK_FULL`).
        ValueError: If labels have another type, shape or range, or another `kind`.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    check_labels(labels, organs, grid)
    if kind not in ("BINARY", "LABELMAP"):
        raise ValueError(f"kind={kind!r}; expected 'BINARY' or 'LABELMAP'; choose one of them")
    headers = SourceHeaders(series, mend)
    frames = _frames(in_source_order(labels, grid, grid_of(series.slices)), headers)
    with _quiet():
        dataset = _segmentation(frames, organs, headers, algorithm, kind, created)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    write_target(path, buffer.getvalue(), overwrite=overwrite)
    empty = Note("EMPTY", "the prediction marks no voxel", loud=True)
    return headers.notes if frames.any() else (*headers.notes, empty)


def _frames(labels: Labels, headers: SourceHeaders) -> Labels:
    """Return labels in the order of the source's frames; an enhanced file may hold frames that were left out."""
    if not headers.is_multi_frame:
        return labels
    slices = headers.series.slices
    frames = np.zeros((len(slices[0].header.frames), *labels.shape[1:]), np.uint8)
    frames[[item.frame.index for item in slices]] = labels
    return frames


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep highdicom from logging names that it finds odd."""
    logger = getLogger("highdicom")
    level = logger.level
    logger.setLevel(CRITICAL + 1)
    try:
        with lenient_pydicom():
            yield
    finally:
        logger.setLevel(level)


def _segmentation(
    frames: Labels,
    organs: tuple[str, ...],
    headers: SourceHeaders,
    algorithm: Algorithm,
    kind: Kind,
    created: datetime | None,
) -> highdicom.seg.Segmentation:
    uids = Uids("SEG", frames, headers, (organs, algorithm, kind, created))
    stamp = created or study_stamp(headers) or UNKNOWN_DATE
    dataset = highdicom.seg.Segmentation(
        source_images=headers.images,
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=[_segment(n, organ, algorithm) for n, organ in enumerate(organs, 1)],
        series_instance_uid=uids.make("series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.make("instance"),
        instance_number=1,
        manufacturer="kerasbalance",
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number="none",
        content_label="SEGMENTATION",
        content_description="Organs segmented by a model",
        content_creator_name=algorithm.creator,
        series_description=f"Segmentation of {organs[0]}" if len(organs) == 1 else "Segmentation of organs",
        specific_character_set="ISO_IR 192",
        content_date=stamp.date(),
        content_time=stamp.time(),
        omit_empty_frames=True,
    )
    _settle(dataset, uids, created)
    return dataset


def _segment(number: int, organ: str, algorithm: Algorithm) -> highdicom.seg.SegmentDescription:
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label_of(organ),
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=CODES.get(organ, codes.SCT.Organ),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name, family=codes.DCM.ArtificialIntelligence, version=algorithm.version
        ),
    )


def _settle(dataset: Dataset, uids: Uids, created: datetime | None) -> None:
    """Replace the random UID and the clock that highdicom puts in."""
    for element in dataset.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = uids.make("dimensions")
    for item in dataset.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    if created is None:
        del dataset.InstanceCreationDate, dataset.InstanceCreationTime
        return
    dataset.InstanceCreationDate = created.strftime("%Y%m%d")
    dataset.InstanceCreationTime = created.strftime("%H%M%S")
