"""The paper's protocol on a store: split, pre-train on part B, score part A, add its hard slices, train on."""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import kerasbalance as kb
from kerasbalance.backend.devices import replicas
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.data.store.files import replace_file
from kerasbalance.data.volume.shaping import Shaping
from kerasbalance.experiments.runs.augmentations import check_strength, make_augmentation
from kerasbalance.experiments.runs.choosing import choose_operating_point
from kerasbalance.experiments.runs.exclude import read_exclusions
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord, installed_versions
from kerasbalance.experiments.runs.history import HistoryFile
from kerasbalance.experiments.runs.keeping import Kept, kept_epoch, make_stopping
from kerasbalance.experiments.runs.lock import failed_callback, lock_run, unwritable_run
from kerasbalance.experiments.runs.model import Segmenter, build_model, compile_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.options import TrainOptions, usage
from kerasbalance.experiments.runs.parts import PART_A, PART_B, VALIDATION
from kerasbalance.experiments.runs.planes import PaddedSource
from kerasbalance.experiments.runs.rules import parse_rule
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.split import SplitRow, read_split, split_store, write_split
from kerasbalance.experiments.runs.starting_weights import StartingWeights, build_started
from kerasbalance.experiments.runs.strategies import STRATEGIES, Material
from kerasbalance.experiments.runs.suspicion import are_suspicious
from kerasbalance.experiments.runs.validation import check_validation_cases, make_validation
from kerasbalance.files import write_by
from kerasbalance.lock import FolderLock
from kerasbalance.training.checkpoint import CheckpointFolder
from kerasbalance.training.checkpoint_reading import read_newest


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has to say.

    Args:
        folder: where it lies.
        rows: the split.
        loss: mean loss of the last epoch.
        mining: the table of the scored slices, None without mining.
        kept: the epoch whose weights the run holds, None without validation cases.
        point: threshold and clean-up, chosen on the validation cases; None without them.
    """

    folder: RunFolder
    rows: tuple[SplitRow, ...]
    loss: float
    mining: kb.MiningResult | None
    kept: Kept | None
    point: OperatingPoint | None


class Run:
    """A run that is about to begin or to go on.

    Args:
        folder: where it lies.
        record: what it was told.
        rows: which case does what.
        store: the run's cases, no others.
        resumed: whether it goes on from a checkpoint.
        lock: the right to write into the folder; taken when the training begins, by default.
        start: weights to begin with, for a run that is not resumed.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        rows: tuple[SplitRow, ...],
        store: SliceStore,
        *,
        resumed: bool,
        lock: FolderLock | None = None,
        start: StartingWeights | None = None,
    ) -> None:
        self._lock, self._start = lock, start
        self.folder, self.record, self.rows, self.store, self.resumed = folder, record, rows, store, resumed
        self.options = record.options

    @classmethod
    def create(
        cls,
        store_path: Path,
        out: Path,
        options: TrainOptions,
        exclude: Path | None = None,
        *,
        test_seed: int | None = None,
        start: StartingWeights | None = None,
    ) -> "Run":
        """Split the store and write down what will be done.

        Args:
            store_path: the store.
            out: the run's folder; new, or one in which no training began.
            options: what to do.
            exclude: a list of slices that are not trained on, see `read_exclusions`.
            test_seed: see `split_store`.
            start: weights to begin with in place of random ones.

        Raises:
            DataError: the store or the options do not allow it, `out` holds a run or another process trains in it
                (codes `RUN_EXISTS`, `LOCKED`).
        """
        _check_devices(options)
        folder = RunFolder(Path(out))
        _refuse_begun(folder)
        check_strength(options.augment)
        store = SliceStore(store_path)
        source = store.source(options.organs, partial=options.partial_labels)
        rows = split_store(store, options, test_seed=test_seed)
        check_validation_cases(store, rows, options.organs)
        store = SliceStore(store_path, keys={row.case for row in rows})
        if exclude is not None:
            read_exclusions(exclude, store)
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = lock_run(folder.path)
        _refuse_begun(folder)  # again, now that no other process can begin
        write_split(folder.split_file, rows)
        folder.exclude_file.unlink(missing_ok=True)
        if exclude is not None:
            replace_file(folder.exclude_file, exclude.read_bytes())
        record = RunRecord(
            options=options,
            store=str(Path(store_path).absolute()),
            store_digest=store.digest,
            plane=source.plane,
            shaping=_shaping(store),
            pixel_spacing_mm=_pixel_spacing(store),
            backend=keras.config.backend(),
            versions=installed_versions(),
        )
        record.write(folder.record_file)
        return cls(folder, record, rows, store, resumed=False, lock=lock, start=start)

    @classmethod
    def open(
        cls, out: Path, store_path: Path | None = None, *, model: str | None = None, resumed: bool = True
    ) -> "Run":
        """Open a run that was created before.

        Args:
            out: its folder.
            store_path: where its store lies now; as it was, by default.
            model: the run's model, to be named again where it is code of the user's own.
            resumed: whether training will go on from its checkpoint.

        Raises:
            DataError: there is no run, its model was not named, its store is missing or holds other bytes (codes
                `NO_RUN`, `OWN_MODEL`, `NO_STORE`, `STORE_CHANGED`).
        """
        folder = RunFolder(Path(out))
        record = RunRecord.read(folder.record_file)
        record.check_model(model)
        if resumed:
            _check_devices(record.options)
        rows = read_split(folder.split_file)
        keys = {row.case for row in rows}
        store = _remembered_store(record, keys) if store_path is None else SliceStore(store_path, keys=keys)
        if store.digest != record.store_digest:
            raise DataError("STORE_CHANGED", "a store whose cases differ from those of the run",
                            "the cases that the run was made with", "name that store, or train a new run")  # fmt: skip
        return cls(folder, record, rows, store, resumed=resumed)

    def refs(self, *parts: str) -> np.ndarray:
        """Return the slice refs of the cases of some parts, int64, without what was excluded from training."""
        keys = {row.case for row in self.rows if row.part in parts}
        numbers = [n for n, case in enumerate(self.store.cases) if case.key in keys]
        refs = self.store.refs(self.options.organs, numbers, partial=self.options.partial_labels)
        return np.setdiff1d(refs, self._excluded) if {PART_A, PART_B} & set(parts) else refs

    def case_slices(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the slice refs of a part, int64, and the number of the case of each."""
        refs = self.refs(part)
        return refs, self.store.case_of(refs)

    @functools.cached_property
    def _excluded(self) -> np.ndarray:
        file = self.folder.exclude_file
        return read_exclusions(file, self.store) if file.exists() else np.zeros(0, np.int64)

    def source(self, *, judged: bool = False) -> PaddedSource:
        """Return images and labels of the run's organs, padded to what the network takes.

        Args:
            judged: For a comparison organ by organ, see `StoreSource.judged`.
        """
        options = self.options
        source = self.store.source(
            options.organs, neighbours=options.neighbours, partial=options.partial_labels
        )
        return PaddedSource(source.judged() if judged else source)

    def train_trunk(self, callbacks: Sequence[Any] = ()) -> None:
        """Train up to the options' `trunk_iterations`, or on to there, without mining; `branch` then makes runs of it.

        Raises:
            DataError, kerasbalance.Interrupted, kerasbalance.NonFiniteError: as `train`.
        """
        model, dataset, _ = self._parts()
        self._fit(model, dataset, self.options.trunk_iterations, callbacks)

    def branch(self, trunk: "Run") -> "Run":
        """Take over the newest checkpoint of a trunk, so that `train` goes on from there.

        Args:
            trunk: a run of the same options but for the strategy, after its `train_trunk`.

        Returns:
            This run, to be resumed.
        """
        newest = read_newest(trunk.folder.path / "checkpoint")
        if trunk.folder.history_file.exists():
            replace_file(self.folder.history_file, trunk.folder.history_file.read_bytes())
        with CheckpointFolder(self.folder.path / "checkpoint") as folder:
            folder.save(newest.arrays, newest.info)
        return Run(self.folder, self.record, self.rows, self.store, resumed=True, lock=self._lock)

    def train(self, callbacks: Sequence[Any] = (), verbose: int = 0) -> TrainResult:
        """Train to the end, or from the last checkpoint to the end.

        Args:
            callbacks: Keras callbacks beside the run's own.
            verbose: as for `model.fit`.

        Raises:
            DataError: the run was trained by another backend, its checkpoints cannot be read or written (codes
                `BACKEND`, `CHECKPOINT`, `DISK_FULL`, `UNWRITABLE`).
            kerasbalance.Interrupted: after SIGTERM or Ctrl-C; the run can be resumed.
            kerasbalance.NonFiniteError: the training diverged.
        """
        model, dataset, mining = self._parts()
        callbacks = [*([] if mining is None else [mining]), *make_stopping(self.options), *callbacks]
        history = self._fit(model, dataset, self.options.iterations, callbacks, verbose)
        result = mining.results[-1] if mining is not None and mining.results else None
        if result is not None:
            table = SliceTable.of(self.store, self.options.organs, result)
            replace_file(self.folder.slices_file, table.to_csv())
        point = choose_operating_point(
            model, dataset.source, self.refs(VALIDATION), self.options.organs, self.options.batch_size
        )
        if point is not None:
            point.write(self.folder.point_file)
        kept = kept_epoch(self.options, history.epoch, history.history)
        if kept is not None:
            self._note(kept=kept)
        _save_model(model, self.folder.model_file)
        return TrainResult(self.folder, self.rows, float(history.history["loss"][-1]), result, kept, point)

    def _parts(self) -> tuple[Any, kb.IndexedDataset, kb.ScheduledMining | None]:
        """Build the compiled model, the dataset, and the mining callback where there is one."""
        options, source = self.options, self.source()
        if keras.config.backend() != self.record.backend:
            raise DataError("BACKEND", f"the backend {keras.config.backend()}", f"{self.record.backend}, which "
                            "trained this run so far", "pass --backend, or train a new run")  # fmt: skip
        model = self._first_model(source.plane)
        compile_model(model, options, has_unknown=source.source.has_unknown)
        base, candidates = self.refs(PART_B), self.refs(PART_A)
        rule = parse_rule(options.rule).make(self.case_slices)
        material = Material(
            base, candidates, rule, options.flips, options.seed, options.repeat, options.skip_worst,
            functools.partial(self._suspicious, model, source),
        )  # fmt: skip
        sampler = STRATEGIES[options.strategy].make(material)
        dataset = kb.IndexedDataset(
            source,
            sampler.index,
            batch_size=options.batch_size,
            steps_per_epoch=options.epoch_iterations,
            seed=options.seed,
            augment=make_augmentation(options.augment, options.window_hu),
        )
        if not options.mining:
            return model, dataset, None
        when = (
            {"at": options.mine_iterations} if options.mine_every is None else {"every": options.mine_every}
        )
        return model, dataset, kb.ScheduledMining(dataset, sampler, **when, batch_size=options.batch_size)

    def _suspicious(self, model: Any, source: PaddedSource, refs: NDArray[np.int64]) -> NDArray[np.bool_]:
        point = OperatingPoint.default(self.options.organs)  # as the scores
        segmenter = Segmenter(synchronised(model), self.options.batch_size, point)
        return are_suspicious(self.store, source, self.options.organs, segmenter, refs)

    def _first_model(self, plane: tuple[int, int]) -> Any:
        """Build the network; with weights from elsewhere where it begins with some, which `run.json` then tells."""
        if self._start is None or self.resumed:
            return build_model(self.options, plane)
        model, started = build_started(self.options, plane, self._start)
        self._note(started=started)
        return model

    def _fit(
        self, model: Any, dataset: Any, iterations: int, callbacks: Sequence[Any], verbose: int = 0
    ) -> Any:
        lock, self._lock = self._lock or lock_run(self.folder.path), None
        self._note(devices=replicas(model))
        log = HistoryFile(self.folder.history_file, resumed=self.resumed)
        size, refs = self.options.batch_size, self.refs(VALIDATION)
        validation = make_validation(self.store, dataset.source, refs, model, size)
        self.folder.diverged_file.unlink(missing_ok=True)
        try:
            return kb.fit(
                model,
                dataset,
                iterations,
                callbacks=[*validation, *callbacks, log],
                run_dir=self.folder.path,
                resume=self.resumed,
                verbose=verbose,
            )
        except kb.CheckpointWriteError as error:
            raise unwritable_run(error, self.folder.path) from None
        except OSError as error:
            raise failed_callback(error, callbacks) or error from error
        except kb.NonFiniteError as error:
            self.folder.note_divergence(error)
            raise
        except kb.CheckpointError as error:
            begun = self.folder.has_checkpoint
            raise DataError("CHECKPOINT", "a run whose checkpoints are damaged, of other settings, or in use"
                            if begun else "a run without a checkpoint", "a sound checkpoint of this run that no other "
                            "process trains on", "wait for the other process, or train a new run",
                            path=self.folder.path) from error  # fmt: skip
        finally:
            lock.release()

    def _note(self, **found: Any) -> None:
        """Put into `run.json` what became known while the run went on; nothing is written if it stands there."""
        record = dataclasses.replace(self.record, **found)
        if record != self.record:
            self.record = record
            record.write(self.folder.record_file)


def _remembered_store(record: RunRecord, keys: Collection[str]) -> SliceStore:
    """Open the store of a run at the place where it was when the run began."""
    try:
        return SliceStore(Path(record.store), keys=keys)
    except DataError as error:
        if error.code != "NO_STORE":
            raise
        raise DataError("NO_STORE", "a run whose store is no longer where it was", "the store that the run was made "
                        "with", "name its present place: --store, or STORE of train",
                        path=error.path) from None  # fmt: skip


def _check_devices(options: TrainOptions) -> None:
    """Refuse early what `fit` would refuse once the model is built."""
    shares = replicas()
    if options.batch_size % shares:
        fitting = -(-options.batch_size // shares) * shares
        raise usage(f"batches of {options.batch_size} on {shares} devices", f"a multiple of {shares}",
                    f"pass --batch-size {fitting} to a new run, or fewer --devices")  # fmt: skip


def _refuse_begun(folder: RunFolder) -> None:
    if folder.has_checkpoint:
        raise DataError("RUN_EXISTS", "a folder that holds a run", "a new folder, or --resume",
                        "pass --resume to go on, or choose another --out", path=folder.path)  # fmt: skip


def _shaping(store: SliceStore) -> Shaping:
    found = {case.shaping for case in store.cases}
    if len(found) > 1:
        raise DataError("SHAPING", "cases that were resampled or cropped differently at ingest",
                        "one --spacing, --crop and --resize for all cases",
                        "ingest all cases into a new store with the same options")  # fmt: skip
    return found.pop()


def _pixel_spacing(store: SliceStore) -> tuple[float, float]:
    spacings = [case.spacing_mm[1] for case in store.cases]
    return min(spacings), max(spacings)


def _save_model(model: Any, path: Path) -> None:
    try:
        write_by(path, model.save)
    except OSError as error:
        raise unwritable_run(error, path.parent) from None
