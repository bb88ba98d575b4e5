"""The content of a folder before it is ingested: series, other DICOM and image files, and their problems."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.images.image import begins_as_image, read_image_header
from kerasbalance.data.volume.geometry import to_canonical


@dataclass(frozen=True)
class SeriesRow:
    """One CT series as `inspect` lists it.

    Args:
        number: What `--series` takes, counted within the folder that was inspected.
        images: How many images.
        rows: Pixels along y.
        columns: Pixels along x.
        spacing_mm: Between slices, rows and columns; empty where the geometry is unusable.
        notes: What would be tolerated.
        problems: Why it would be refused.
        folder: Folder of its first file.
    """

    number: int
    images: int
    rows: int
    columns: int
    spacing_mm: tuple[float, ...]
    notes: tuple[Note, ...]
    problems: tuple[DataError, ...]
    folder: Path


@dataclass(frozen=True)
class ImageRow:
    """One image file as `inspect` lists it.

    Args:
        path: The file.
        slices: How many.
        rows: Pixels along y.
        columns: Pixels along x.
        spacing_mm: Between slices, rows and columns.
        notes: What would be tolerated.
        problem: Why it cannot be read; None if its header is sound.
        voxel_file: The file beside it that holds its voxels; None where it holds them itself.
    """

    path: Path
    slices: int = 0
    rows: int = 0
    columns: int = 0
    spacing_mm: tuple[float, ...] = ()
    notes: tuple[Note, ...] = ()
    problem: DataError | None = None
    voxel_file: Path | None = None


@dataclass(frozen=True)
class Survey:
    """The result of `survey_folder`.

    Args:
        series: The CT series.
        others: Number of other DICOM files by modality.
        notes: What was skipped.
        errors: DICOM files that cannot be understood.
        images: Image files (NIfTI, NRRD, MetaImage).
    """

    series: tuple[SeriesRow, ...]
    others: dict[str, int]
    notes: tuple[Note, ...]
    errors: tuple[DataError, ...]
    images: tuple[ImageRow, ...] = ()


def survey_folder(root: Path, allow: frozenset[str] = frozenset()) -> Survey:
    """List what is at or below a folder, with every problem that headers show; nothing is decoded.

    Args:
        root: Folder or file.
        allow: Relaxations by name.

    Returns:
        The survey; a folder without DICOM and image files gives an empty one.

    Raises:
        DataError: If `root` cannot be read.
    """
    scan: Scan = scan_folder(root, allow)
    others = Counter(header.modality or "unknown" for header in scan.others)
    rows = tuple(_row(series) for series in scan.series)
    images = tuple(_image(file.path) for file in scan.not_dicom if begins_as_image(file.path))
    return Survey(rows, dict(sorted(others.items())), _notes(scan, images), scan.errors, images)


def _notes(scan: Scan, images: tuple[ImageRow, ...]) -> tuple[Note, ...]:
    """Return the notes of a scan, in which image files and their voxels do not count as skipped."""
    known = {os.path.realpath(path) for image in images for path in (image.path, image.voxel_file) if path}
    skipped = sum(os.path.realpath(file.path) not in known for file in scan.not_dicom)
    notes = [note for note in scan.notes if note.code != "NOT_DICOM"]
    return (*notes, Note("NOT_DICOM", f"{skipped} files that are no DICOM skipped")) if skipped else (*notes,)


def _image(path: Path) -> ImageRow:
    try:
        header = read_image_header(path)
    except DataError as error:
        return ImageRow(path, problem=error)
    _, grid = to_canonical(np.broadcast_to(np.int16(0), header.grid.shape), header.grid)
    spacing_mm = tuple(round(value, 4) for value in grid.spacing_mm)
    return ImageRow(path, *grid.shape, spacing_mm, header.notes, voxel_file=header.place.file)


def _row(series: Series) -> SeriesRow:
    header = series.slices[0].header
    sound = not any(problem.code in ("NO_GEOMETRY", "BAD_GEOMETRY") for problem in series.problems)
    return SeriesRow(
        number=series.number,
        images=len(series.slices),
        rows=header.rows,
        columns=header.columns,
        spacing_mm=tuple(round(v, 4) for v in grid_of(series.slices).spacing_mm) if sound else (),
        notes=series.notes,
        problems=series.problems,
        folder=header.file.path.parent,
    )
