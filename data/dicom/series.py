"""The CT series of a folder, and what distinguishes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasbalance.data.dicom.header import Header
from kerasbalance.data.dicom.stack import Slice
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import SourceFile


@dataclass(frozen=True)
class Series:
    """The images of one CT series that form one stack, sorted towards growing depth.

    Args:
        number: Its place in the scan, from 1; what `--series` takes.
        slices: The images, sorted; empty only where sorting was impossible.
        notes: What was tolerated or left out.
        problems: Why it would be refused; empty if it can be read.
        allow: Relaxations by name, for the checks of its values.
    """

    number: int
    slices: tuple[Slice, ...]
    notes: tuple[Note, ...] = ()
    problems: tuple[DataError, ...] = ()
    allow: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """The folder of its first file."""
        return self.slices[0].header.file.path.parent


@dataclass(frozen=True)
class Scan:
    """The content of a folder.

    Args:
        root: The folder.
        series: CT series, in the order of their first file.
        others: Headers of DICOM files that are no CT images (SEG, RTSTRUCT, other modalities).
        errors: DICOM files that cannot be understood.
        notes: What was skipped.
        not_dicom: The plain files that are no DICOM.
    """

    root: Path
    series: tuple[Series, ...] = ()
    others: tuple[Header, ...] = ()
    errors: tuple[DataError, ...] = ()
    notes: tuple[Note, ...] = ()
    not_dicom: tuple[SourceFile, ...] = field(default=(), repr=False)


def difference(several: Sequence[Series]) -> str:
    """Return the names of what differs between several series, without values."""
    firsts = [series.slices[0] for series in several]
    facts: dict[str, set[object]] = {
        "SeriesInstanceUID": {item.header.series_uid for item in firsts},
        "PatientID": {item.header.patient_id for item in firsts},
        "FrameOfReferenceUID": {item.header.frame_of_reference_uid for item in firsts},
        "size": {(item.header.rows, item.header.columns) for item in firsts},
        "ConvolutionKernel": {item.header.kernel for item in firsts},
        "orientation": {item.frame.orientation for item in firsts},
        "PixelSpacing": {item.frame.spacing_mm for item in firsts},
        "folder": {item.header.file.path.parent for item in firsts},
    }
    return ", ".join(name for name, values in facts.items() if len(values) > 1) or "their positions"


def describe(series: Series) -> str:
    """Return one phrase on a series: images, size and orientation; no identifiers."""
    header = series.slices[0].header
    return f"{len(series.slices)} images of {header.rows} x {header.columns}"
