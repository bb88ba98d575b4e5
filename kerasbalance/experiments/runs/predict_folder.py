"""A model on every CT of a folder: one after another, each refused or written by itself, to be continued."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kerasbalance.data.ct import CT, DicomCT, FoundCT, find_cts
from kerasbalance.data.errors import DataError
from kerasbalance.data.export.files import check_folder
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.experiments.runs.predict import (
    ENDINGS,
    Form,
    PredictOptions,
    Predictor,
    Progress,
    Target,
    check_target_of,
    predict_target,
)
from kerasbalance.experiments.runs.prediction_table import CaseRow, read_table, write_table
from kerasbalance.lock import FolderInUse, FolderLock

_NAME_DIGITS = 12
_END_ALL = ("CHECKPOINT", "DISK_FULL", "UNWRITABLE")
"""What the next CT would be refused for as well."""


@dataclass(eq=False)
class FolderJob:
    """Predictions of a folder of CT, checked and ready to be written; see `open_folder`.

    Args:
        predictor: The model.
        cts: What there is to do, refused ones included.
        slices: Of each of them; 0 where it cannot be read.
        out: The folder to write to.
        options: How.
        made_by: Digest of the model and the options.
        rows: What earlier calls wrote, by case; then also what this one does.
        show_paths: Whether the table says where each CT lies.
    """

    predictor: Predictor
    cts: tuple[FoundCT, ...]
    slices: tuple[int, ...]
    out: Path
    options: PredictOptions
    made_by: str
    rows: dict[str, CaseRow]
    show_paths: bool
    refused: list[CaseRow] = field(default_factory=list)

    def run(self, progress: Progress = lambda done: None) -> Iterator[CaseRow]:
        """Work through the folder and yield the row of each CT when it is done.

        The table is written before and after each file, so that the same call continues after an interruption.

        Args:
            progress: Called with the number of slices done since the last call.

        Raises:
            DataError: If another process writes into the folder (code `LOCKED`), or nothing more can be written or
                predicted (`DISK_FULL`, `UNWRITABLE`, `CHECKPOINT`).
        """
        self.out.mkdir(mode=0o700, exist_ok=True)
        lock = _lock(self.out)
        try:
            for found, slices in zip(self.cts, self.slices, strict=True):
                counted = _Counted(progress)
                row = replace(self._row(found, counted), path=found.path)
                progress(slices - counted.done)
                self._keep(row)
                yield row
        finally:
            lock.release()

    def _row(self, found: FoundCT, progress: Progress) -> CaseRow:
        empty = CaseRow(found.number, "refused", made_by=self.made_by)
        try:
            return self._predict(found, progress)
        except DataError as error:
            if error.code in _END_ALL:
                raise
            return replace(empty, error=error)
        except Exception as error:  # whatever it is, the other CT are not to suffer from it
            failure = DataError("INTERNAL", f"an unforeseen {type(error).__name__}", "a segmentation",
                                "run predict on this CT alone with --debug and report what it shows")  # fmt: skip
            return replace(empty, error=failure)

    def _predict(self, found: FoundCT, progress: Progress) -> CaseRow:
        ct = found.open()
        form = form_of(ct, self.options)
        case = case_key(ct)
        known = self.rows.get(case)
        target = self._target(ct, case, form, known)
        if known is not None and self._is_done(known, target):
            return replace(known, number=found.number, state="present")
        row = CaseRow(
            found.number, "started", case, target.out.name, slices=target.slices, made_by=self.made_by
        )
        self._keep(replace(row, path=found.path))
        made = predict_target(self.predictor, target, progress)
        return replace(
            row, state="written", volumes_ml=made.volumes_ml, seconds=round(made.seconds, 3), notes=made.notes
        )

    def _target(self, ct: CT, case: str, form: Form, known: CaseRow | None) -> Target:
        """Check the target; what an earlier call with the same model and options wrote may be written again."""
        options = replace(self.options, overwrite=True) if known is not None else self.options
        return check_target_of(ct, self.out / f"{case}{ENDINGS[form][0]}", form, options)

    def _is_done(self, known: CaseRow, target: Target) -> bool:
        files = [path for path in (target.out, target.preview) if path is not None]
        return (
            known.state == "written" and not self.options.overwrite and all(path.exists() for path in files)
        )

    def _keep(self, row: CaseRow) -> None:
        if row.state == "refused":
            self.refused.append(row)
        else:
            self.rows[row.case] = replace(row, state="written") if row.state == "present" else row
        rows = sorted((*self.rows.values(), *self.refused), key=lambda each: each.number)
        write_table(self.out, rows, self.predictor.organs, show_paths=self.show_paths)


@dataclass
class _Counted:
    """Passes progress on and counts it."""

    progress: Progress
    done: int = 0

    def __call__(self, slices: int) -> None:
        self.done += slices
        self.progress(slices)


def open_folder(
    predictor: Predictor, ct: Path, out: Path, options: PredictOptions, *, show_paths: bool = False
) -> FolderJob:
    """Find the CT of a folder and check what can be checked before anything is written.

    Args:
        predictor: The model; it is loaded here, so that a run without sound weights is refused first.
        ct: The folder, or one CT.
        out: The folder to write to; made if it is not there. Each file is named by a key of its CT.
        options: How. With `overwrite` all files are written again.
        show_paths: Whether the table says where each CT lies.

    Raises:
        DataError: If there is no CT, the model cannot be loaded, `out` lies in the folder of the CT (code `USAGE`), its
            parent is not there (`NO_FOLDER`), or it holds predictions of another run or with other options
            (`EXISTS`).
    """
    _check_outside(ct, out)
    check_folder(out)
    made_by = _digest(predictor, options)
    rows = read_table(out)
    if not options.overwrite and any(row.made_by != made_by for row in rows.values()):
        raise DataError("EXISTS", "a folder with predictions of another run, or of other options", "a new folder",
                        "choose another --out, or pass --overwrite", path=out)  # fmt: skip
    cts = _chosen(find_cts(ct, allow=options.allow), options.series, ct)
    return FolderJob(predictor, cts, _slices(cts, predictor), out, options, made_by, rows, show_paths)


def case_key(ct: CT) -> str:
    """Return the name of a CT in a folder of predictions: a digest of its pixels, its geometry and its UIDs.

    It tells nobody who the patient is, and it is the same wherever the CT lies.
    """
    parts = "\0".join((ct.digest(), *ct.identifiers()))
    return hashlib.sha256(parts.encode()).hexdigest()[:_NAME_DIGITS]


def form_of(ct: CT, options: PredictOptions) -> Form:
    """Return the format of a CT's prediction where no name of a file tells it."""
    return options.form or ("seg" if isinstance(ct, DicomCT) else "nifti")


def _digest(predictor: Predictor, options: PredictOptions) -> str:
    decisive = (options.form, options.labelmap, options.largest_component, options.mend)
    return hashlib.sha256(f"{predictor.digest()} {decisive}".encode()).hexdigest()[:_NAME_DIGITS]


def _check_outside(ct: Path, out: Path) -> None:
    if out.resolve().is_relative_to(ct.resolve()):
        raise DataError("USAGE", "a folder of predictions inside that of the CT", "another place, since the "
                        "predictions would be read as CT", "name a folder outside as --out", path=out)  # fmt: skip


def _chosen(cts: tuple[FoundCT, ...], number: int | None, path: Path) -> tuple[FoundCT, ...]:
    chosen = tuple(found for found in cts if number in (None, found.number))
    if not chosen:
        raise DataError("NO_SERIES", f"series number {number}", f"1 to {len(cts)}", "see kerasbalance inspect",
                        path=path)  # fmt: skip
    return chosen


def _slices(cts: tuple[FoundCT, ...], predictor: Predictor) -> tuple[int, ...]:
    """Return the slices of each CT, and load the model for the first that can be read."""
    shapes = [_grid(found) for found in cts]
    first = next((grid for grid in shapes if grid is not None), None)
    if first is not None:
        predictor.load(first)
    return tuple(0 if grid is None else grid.shape[0] for grid in shapes)


def _grid(found: FoundCT) -> Grid | None:
    """Return the grid of a CT; None if it is refused, which its own turn reports."""
    try:
        return found.open().grid
    except DataError:
        return None


def _lock(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except FolderInUse as error:
        raise DataError("LOCKED", f"a folder that another process writes predictions to ({error.holder})",
                        "one process a folder", f"{error.advice}, or choose another --out",
                        path=folder) from None  # fmt: skip
    except OSError as error:
        raise DataError("UNWRITABLE", f"a folder that cannot be written or locked ({error.strerror})",
                        "a folder you may write to", "choose another --out", path=folder) from None  # fmt: skip
