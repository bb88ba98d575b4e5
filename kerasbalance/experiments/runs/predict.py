"""From a CT on disk to a segmentation on disk: headers first, then the model, then the file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.ct import CT, DicomCT, ImageCT, open_ct
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.export import Algorithm, check_exportable, write_nifti, write_segmentation
from kerasbalance.data.export.files import check_target
from kerasbalance.data.export.segmentation import Kind
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.evaluation.cases import keep_largest_component
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.segment import load_segmenter, plane_map, run_parts, segment_volume

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Target:
    """A prediction that is possible: run, CT and file were checked, no pixel was decoded yet.

    Args:
        folder: the run.
        record: what the run was told.
        out: the file to write.
        ct: the opened CT.
        mend: whether missing UIDs are minted.
        overwrite: whether `out` may be replaced.
        notes: what the checks had to say.
    """

    folder: RunFolder
    record: RunRecord
    out: Path
    ct: CT
    mend: bool
    overwrite: bool
    notes: tuple[Note, ...]

    @property
    def slices(self) -> int:
        """Slices of the CT."""
        return self.ct.grid.shape[0]


@dataclass(frozen=True)
class Prediction:
    """What was found.

    Args:
        volumes_ml: by organ; NaN for a single slice.
        notes: remarks.
    """

    volumes_ml: dict[str, float]
    notes: tuple[Note, ...]


def open_target(
    run: Path,
    ct: Path,
    out: Path,
    *,
    model: str | None = None,
    series: int | None = None,
    allow: frozenset[str] = frozenset(),
    mend: bool = False,
    overwrite: bool = False,
) -> Target:
    """Check everything that can be checked before the model runs.

    Args:
        run: a run's folder.
        ct: the CT in any form that `data.ct.open_ct` takes.
        out: the file to write; its ending decides the format.
        model: the run's model, to be named again where it is code of the user's own.
        series: number of the series in the folder.
        allow: relaxations by name.
        mend: mint UIDs that a SEG needs and the CT lacks.
        overwrite: whether `out` may be replaced.

    Raises:
        DataError: the run, the CT, its headers or the target do not allow it.
    """
    folder, record = run_parts(run, model)
    _check_ending(out)
    check_target(out, overwrite=overwrite)
    opened = open_ct(ct, allow=allow, series=series)
    notes = opened.notes
    if out.suffix == ".dcm":
        if isinstance(opened, ImageCT):
            raise DataError("NOT_EXPORTABLE", "a NIfTI CT for a DICOM SEG", "a DICOM series to refer to",
                            "name a .nii.gz as --out, or the DICOM series as CT")  # fmt: skip
        notes += check_exportable(opened.series, mend=mend)
    return Target(folder, record, out, opened, mend, overwrite, notes)


def predict_target(
    target: Target,
    *,
    largest_component: bool = False,
    labelmap: bool = False,
    progress: Progress = lambda done: None,
) -> Prediction:
    """Segment the CT and write the file.

    Args:
        target: what `open_target` checked.
        largest_component: keep only the largest connected part of each organ.
        labelmap: write a SEG as LABELMAP instead of BINARY.
        progress: called with the number of slices done since the last call.

    Raises:
        DataError: an image cannot be decoded, or the file cannot be written.
    """
    volume = target.ct.read()
    organs = target.record.options.organs
    segmenter = load_segmenter(target.folder, target.record, plane_map(target.record, volume.grid).plane)
    labels, notes = segment_volume(segmenter, target.record, volume, progress)
    if largest_component:
        labels = _largest(labels, len(organs))
    notes += _write(target, labels, volume.grid, labelmap)
    voxel_ml = math.prod(volume.grid.spacing_mm) / 1000
    volumes = {organ: voxel_ml * int((labels == n).sum()) for n, organ in enumerate(organs, 1)}
    return Prediction(volumes, tuple(dict.fromkeys((*target.notes, *volume.notes, *notes))))


def _write(target: Target, labels: NDArray[np.uint8], grid: Grid, labelmap: bool) -> tuple[Note, ...]:
    """Write the file that the ending of `target.out` asks for."""
    organs = target.record.options.organs
    if isinstance(target.ct, DicomCT) and target.out.suffix == ".dcm":
        kind: Kind = "LABELMAP" if labelmap else "BINARY"
        return write_segmentation(
            target.out, labels, organs, grid, target.ct.series, algorithm=_algorithm(target.record),
            kind=kind, mend=target.mend, overwrite=target.overwrite,
        )  # fmt: skip
    source = target.ct.source_grid if isinstance(target.ct, ImageCT) else None
    write_nifti(target.out, labels, organs, grid, source=source, overwrite=target.overwrite)
    return ()


def _largest(labels: NDArray[np.uint8], organs: int) -> NDArray[np.uint8]:
    kept = np.zeros_like(labels)
    for value in range(1, organs + 1):
        kept[keep_largest_component(labels == value)] = value
    return kept


def _algorithm(record: RunRecord) -> Algorithm:
    try:
        number = version("kerasbalance")
    except PackageNotFoundError:  # a checkout that was never installed
        number = "unknown"
    return Algorithm(name=f"kerasbalance {record.options.model}"[:64], version=number)


def _check_ending(out: Path) -> None:
    if not out.name.endswith((".dcm", ".nii", ".nii.gz")):
        raise DataError("USAGE", "another ending than .dcm, .nii or .nii.gz", "one of them", "rename --out")
