"""From a CT on disk to a segmentation on disk: headers first, then the model, then the file."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.ct import CT, DicomCT, open_ct
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.export import (
    Algorithm,
    check_exportable,
    write_nifti,
    write_segmentation,
    write_structure_set,
)
from kerasbalance.data.export.files import check_target, write_target
from kerasbalance.data.store.files import read_file
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import Volume
from kerasbalance.evaluation.cases import keep_largest_component
from kerasbalance.experiments.report.figures import check_can_draw
from kerasbalance.experiments.report.preview import preview_png
from kerasbalance.experiments.runs.ensemble import Ensemble
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.segment import plane_map, segment_volume
from kerasbalance.training.checkpoint import MANIFEST, checkpoint_entries

Progress = Callable[[int], None]
Form = Literal["seg", "rtstruct", "nifti"]
FORMS: tuple[Form, ...] = ("seg", "rtstruct", "nifti")
ENDINGS: dict[Form, tuple[str, ...]] = {"seg": (".dcm",), "rtstruct": (".dcm",), "nifti": (".nii.gz", ".nii")}
"""The endings of a file's name by its format; the first is given where the program names the file."""


@dataclass(frozen=True)
class PredictOptions:
    """How CT are read and predictions written.

    Args:
        form: Format of the files; None for what the target's name says, else a SEG for DICOM and NIfTI for others.
        largest_component: Keep only the largest connected part of each organ.
        labelmap: Write a SEG as LABELMAP instead of BINARY.
        mend: Mint UIDs that a SEG or RTSTRUCT needs and the CT lacks.
        preview: Draw a picture beside each file.
        overwrite: Replace files that are there.
        allow: Relaxations by name, as in `data.ct.open_ct`.
        series: Number of the CT series in its folder; None where there is one, or where all are wanted.

    Raises:
        DataError: If options contradict each other (code `USAGE`), or a preview is wanted without matplotlib
            (`NO_MATPLOTLIB`).
    """

    form: Form | None = None
    largest_component: bool = False
    labelmap: bool = False
    mend: bool = False
    preview: bool = False
    overwrite: bool = False
    allow: frozenset[str] = frozenset()
    series: int | None = None

    def __post_init__(self) -> None:
        if self.labelmap and self.form not in (None, "seg"):
            raise DataError("USAGE", f"--labelmap for --format {self.form}", "--format seg",
                            "leave one of them out")  # fmt: skip
        if self.preview:
            check_can_draw()


class Predictor:
    """The model of a run, or the mean of several, for CT that is read from files.

    The network is built when it is first needed, and again only for slices of another size.

    Args:
        ensemble: The run or the runs; their stores are not needed.
        threshold: The probability above which a voxel is predicted; None for what the runs chose.
        no_clean_up: Whether to leave out the clean-up that the runs chose.

    Raises:
        DataError: If an operating point is not readable (code `OPERATING_POINT`).
    """

    def __init__(
        self, ensemble: Ensemble, *, threshold: float | None = None, no_clean_up: bool = False
    ) -> None:
        self.ensemble, self.record = ensemble, ensemble.record
        self.point = ensemble.point().changed(threshold, no_clean_up=no_clean_up)
        self._loaded: tuple[tuple[int, int], Segmenter] | None = None

    @property
    def organs(self) -> tuple[str, ...]:
        """What the labels 1, 2, ... mean."""
        return self.record.options.organs

    @property
    def algorithm(self) -> Algorithm:
        """What the files name as their maker."""
        try:
            number = version("kerasbalance")
        except PackageNotFoundError:  # a checkout that was never installed
            number = "unknown"
        return Algorithm(name=f"kerasbalance {self.record.options.model}"[:64], version=number)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what decides a prediction: the runs, their weights, flips, the operating point.

        Raises:
            DataError: If a run has no checkpoint (code `CHECKPOINT`).
        """
        parts = [repr((self.point.organs, self.ensemble.flips)).encode()]
        for folder, _ in self.ensemble.members:
            entries = checkpoint_entries(folder.path / "checkpoint")
            if not entries:
                raise DataError(
                    "CHECKPOINT", "a run without a checkpoint", "one that was trained", "train it first"
                )
            parts += [read_file(folder.record_file), read_file(entries[0] / MANIFEST)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def load(self, grid: Grid) -> Segmenter:
        """Return the model for the slices of a CT.

        Raises:
            DataError: If the run has no sound checkpoint (code `CHECKPOINT`).
        """
        plane = plane_map(self.record, grid).plane
        if self._loaded is None or self._loaded[0] != plane:
            self._loaded = None  # one model at a time
            self._loaded = (plane, self.ensemble.load(plane, self.point))
        return self._loaded[1]

    def segment(self, volume: Volume, progress: Progress) -> tuple[NDArray[np.uint8], tuple[Note, ...]]:
        """Return the labels of a CT on its own grid, and remarks; see `segment.segment_volume`."""
        labels, notes = segment_volume(self.load(volume.grid), self.record, volume, progress)
        return labels, notes + self.ensemble.notes()


@dataclass(frozen=True)
class Target:
    """A prediction that is possible: CT and file were checked, no pixel was decoded yet.

    Args:
        ct: The opened CT.
        out: The file to write.
        form: Its format.
        options: How.
        notes: What the checks remarked.
    """

    ct: CT
    out: Path
    form: Form
    options: PredictOptions
    notes: tuple[Note, ...]

    @property
    def slices(self) -> int:
        """Slices of the CT."""
        return self.ct.grid.shape[0]

    @property
    def preview(self) -> Path | None:
        """The picture beside the file; None where none is wanted."""
        ending = next(end for end in ENDINGS[self.form] if self.out.name.endswith(end))
        return (
            self.out.with_name(f"{self.out.name.removesuffix(ending)}.png") if self.options.preview else None
        )


@dataclass(frozen=True)
class Prediction:
    """What was found.

    Args:
        volumes_ml: By organ; NaN for a single slice.
        notes: Remarks.
        seconds: What it took, from the first pixel read to the last byte written.
    """

    volumes_ml: dict[str, float]
    notes: tuple[Note, ...]
    seconds: float


def is_file_name(out: Path) -> bool:
    """Return whether a target is named like a file that can be written, rather than a folder."""
    return out.name.endswith(tuple(ending for endings in ENDINGS.values() for ending in endings))


def open_target(ct: Path, out: Path, options: PredictOptions) -> Target:
    """Check everything of one CT that can be checked before the model runs.

    Args:
        ct: The CT in any form that `data.ct.open_ct` takes.
        out: The file to write.
        options: How.

    Raises:
        DataError: If the CT, its headers or the target do not allow it.
    """
    form = _form_of_name(out, options.form)
    return check_target_of(open_ct(ct, allow=options.allow, series=options.series), out, form, options)


def check_target_of(ct: CT, out: Path, form: Form, options: PredictOptions) -> Target:
    """Check that a prediction on an opened CT can be written to a file in a format.

    Raises:
        DataError: If the target is there (code `EXISTS`), its folder is not (`NO_FOLDER`), or the CT's headers do
            not allow the format (`NOT_EXPORTABLE`).
    """
    target = Target(ct, out, form, options, ct.notes)
    for path in (out, target.preview):
        if path is not None:
            check_target(path, overwrite=options.overwrite)
    if form == "nifti":
        return target
    if not isinstance(ct, DicomCT):
        raise DataError("NOT_EXPORTABLE", "a CT without DICOM headers for a DICOM file", "a DICOM series to refer to",
                        "write NIfTI instead, or name the DICOM series as CT")  # fmt: skip
    return Target(ct, out, form, options, ct.notes + check_exportable(ct.series, mend=options.mend))


def predict_target(
    predictor: Predictor, target: Target, progress: Progress = lambda done: None
) -> Prediction:
    """Segment the CT and write the file, and the picture if one is wanted.

    Args:
        predictor: The model.
        target: What `open_target` checked.
        progress: Called with the number of slices done since the last call.

    Raises:
        DataError: If an image cannot be decoded, or a file cannot be written.
    """
    begin = time.monotonic()
    volume = target.ct.read()
    labels, notes = predictor.segment(volume, progress)
    organs = predictor.organs
    if target.options.largest_component:
        labels = _largest(labels, len(organs))
    notes += _write(target, labels, organs, volume.grid, predictor.algorithm)
    if target.preview is not None:
        picture = preview_png(volume, labels, organs, predictor.record.options.window_hu)
        write_target(target.preview, picture, overwrite=target.options.overwrite)
    voxel_ml = math.prod(volume.grid.spacing_mm) / 1000
    volumes = {organ: voxel_ml * int((labels == n).sum()) for n, organ in enumerate(organs, 1)}
    every_note = tuple(dict.fromkeys((*target.notes, *volume.notes, *notes)))
    return Prediction(volumes, every_note, time.monotonic() - begin)


def _write(
    target: Target, labels: NDArray[np.uint8], organs: tuple[str, ...], grid: Grid, algorithm: Algorithm
) -> tuple[Note, ...]:
    out, options, ct = target.out, target.options, target.ct
    if target.form == "nifti" or not isinstance(ct, DicomCT):
        source = None if isinstance(ct, DicomCT) else ct.source_grid
        write_nifti(out, labels, organs, grid, source=source, overwrite=options.overwrite)
        return ()
    if target.form == "rtstruct":
        return write_structure_set(
            out, labels, organs, grid, ct.series, algorithm=algorithm,
            mend=options.mend, overwrite=options.overwrite,
        )  # fmt: skip
    return write_segmentation(
        out, labels, organs, grid, ct.series, algorithm=algorithm,
        kind="LABELMAP" if options.labelmap else "BINARY", mend=options.mend, overwrite=options.overwrite,
    )  # fmt: skip


def _largest(labels: NDArray[np.uint8], organs: int) -> NDArray[np.uint8]:
    kept = np.zeros_like(labels)
    for value in range(1, organs + 1):
        kept[keep_largest_component(labels == value)] = value
    return kept


def _form_of_name(out: Path, form: Form | None) -> Form:
    possible = [f for f in FORMS if out.name.endswith(ENDINGS[f])]
    if form is not None and form not in possible:
        raise DataError("USAGE", f"--format {form} for a name with another ending", " or ".join(ENDINGS[form]),
                        "change the ending of --out, or leave --format out")  # fmt: skip
    return form or possible[0]
