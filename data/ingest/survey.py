"""What lies in a folder, before anything is ingested: series, other DICOM, and what is wrong with them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import DataError, Note


@dataclass(frozen=True)
class SeriesRow:
    """One CT series as `inspect` lists it.

    Args:
        number: what `--series` takes, counted within the folder that was inspected.
        images: how many images.
        rows: pixels along y.
        columns: pixels along x.
        spacing_mm: between slices, rows and columns; empty where the geometry is unusable.
        notes: what would be tolerated.
        problems: why it would be refused.
        folder: folder of its first file.
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
class Survey:
    """What `survey_folder` found.

    Args:
        series: the CT series.
        others: number of other DICOM files by modality.
        notes: what was skipped.
        errors: DICOM files that cannot be understood.
    """

    series: tuple[SeriesRow, ...]
    others: dict[str, int]
    notes: tuple[Note, ...]
    errors: tuple[DataError, ...]


def survey_folder(root: Path, allow: frozenset[str] = frozenset()) -> Survey:
    """List the CT series at or below a folder with every problem that their headers show; nothing is decoded.

    Args:
        root: folder or file.
        allow: relaxations by name.

    Returns:
        The survey; a folder without DICOM gives an empty one.

    Raises:
        DataError: `root` cannot be read.
    """
    scan: Scan = scan_folder(root, allow)
    others = Counter(header.modality or "unknown" for header in scan.others)
    rows = tuple(_row(series) for series in scan.series)
    return Survey(rows, dict(sorted(others.items())), scan.notes, scan.errors)


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
