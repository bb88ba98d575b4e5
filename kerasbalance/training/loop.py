"""The fit loop: `model.fit` in segments that never span an index swap, with exact resume."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerasbalance.backend import random_state
from kerasbalance.backend.devices import scope_of
from kerasbalance.backend.live_weights import are_finite
from kerasbalance.backend.processes import agreed, process_share, together
from kerasbalance.backend.torch_layout import spared_layout_copies
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.errors import CheckpointError, Interrupted, explain
from kerasbalance.mining.callback import ScheduledMining
from kerasbalance.training import model_state
from kerasbalance.training.arguments import refuse_arguments, total_iterations
from kerasbalance.training.callback_state import CallbackStates
from kerasbalance.training.checkpoint import Checkpoint
from kerasbalance.training.divergence import loss_error, weights_error
from kerasbalance.training.epochs import EpochCallbacks, Stop
from kerasbalance.training.follower import Folder, open_folder
from kerasbalance.training.given import describe
from kerasbalance.training.mined_tables import MinedTables
from kerasbalance.training.preconditions import check_dataset, check_fit
from kerasbalance.training.signals import Signals
from kerasbalance.training.state import RunState
from kerasbalance.training.validation import Validation


def fit(
    model: Any,
    dataset: IndexedDataset,
    iterations: int | None = None,
    *,
    epochs: int | None = None,
    callbacks: Sequence[Any] | None = (),
    validation_data: Any = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int = 1,
    verbose: int | str = "auto",
    run_dir: str | Path | None = None,
    resume: bool = False,
    checkpoint_s: float = 120.0,
    **refused: Any,
) -> keras.callbacks.History:
    """Train for an exact number of iterations, mine at exact ones, and resume exactly after any kill.

    The training is a sequence of `model.fit` calls none of which spans a swap of the index, so that no
    batch of an old index is ever trained on. To callbacks it is one training, whose epochs have
    `dataset.steps_per_epoch` steps each; the last one may be shorter. On a CPU a run that was killed at any
    moment and resumed ends with the same bits as one that was not: weights, optimizer, index, history,
    results. Resume needs the same model, dataset, callbacks and backend as the first call; `iterations` may
    grow, and `ScheduledMining` that is not due before the checkpoint may be added behind the others, so that
    several trainings can branch off one. `CSVLogger` needs `append=True` to go on in its file.

    Args:
        model: A compiled Keras model.
        dataset: What to train on; iteration 0 is its first batch.
        iterations: Steps in all, >= 1, counted from 0 for each new run.
        epochs: The length of the training in epochs, in place of `iterations`.
        callbacks: Keras callbacks, and any number of `ScheduledMining` on this dataset. A `Validation` comes first,
            wherever it stands, so that the others receive its `val_dice`.
        validation_data: As for `model.fit`; evaluated at the end of each epoch. Exact under resume only if it is the
            same at each epoch, as arrays are.
        validation_steps: As for `model.fit`.
        validation_batch_size: As for `model.fit`.
        validation_freq: As for `model.fit`.
        verbose: As for `model.fit`.
        run_dir: A folder; checkpoints go to its `checkpoint`. Without one nothing is saved and signals are
            not caught.
        resume: Go on from the newest valid checkpoint of `run_dir`. Once the training has ended it returns
            the history and trains no more.
        checkpoint_s: Seconds between checkpoints, which are taken at the ends of epochs; 0 for each end. One
            more is taken at the start, before and after mining, on a signal, and at the end.
        **refused: Other arguments of `model.fit` are refused with the remedy: `steps_per_epoch`, `batch_size` and
            `shuffle` belong to the dataset, `sample_weight` to the source, and `initial_epoch` is `resume` here.

    Returns:
        Keras' `History`, with one entry for each epoch, those before the resume included.

    Raises:
        CheckpointError: If `resume` finds no valid checkpoint or one of another run, or if `run_dir` holds
            checkpoints and `resume` is False.
        CheckpointWriteError: If a checkpoint cannot be written, for instance on a full disk.
        NonFiniteError: If loss or weights become NaN or infinite; names the iteration and its slices. The
            newest checkpoint is then still a finite one.
        Interrupted: after SIGTERM or Ctrl-C, when the step is done and a checkpoint is saved. Several processes
            stop together, at the end of the epoch in which one of them got the signal.
        TypeError: If `dataset` is no `IndexedDataset`, or for an argument that this function does not have.
        ValueError: If arguments or callbacks contradict each other.

    Example:
        >>> import numpy as np, kerasbalance as kb
        >>> source = kb.ArraySource(np.zeros((4, 16, 16, 1), np.int16), np.ones((4, 16, 16), np.uint8))
        >>> dataset = kb.IndexedDataset(source, kb.Index(range(4)), batch_size=2, steps_per_epoch=2)
        >>> model = kb.models.unet((16, 16, 1), base_filters=1)
        >>> model.compile("sgd", kb.DiceLoss())
        >>> history = kb.fit(model, dataset, epochs=2, verbose=0)
        >>> history.epoch
        [0, 1]
    """
    refuse_arguments(refused)
    check_dataset(dataset)
    iterations = total_iterations(iterations, epochs, len(dataset))
    miners = [callback for callback in callbacks or () if isinstance(callback, ScheduledMining)]
    others = [callback for callback in callbacks or () if not isinstance(callback, ScheduledMining)]
    others.sort(
        key=lambda callback: not isinstance(callback, Validation)
    )  # the others read what it adds to the logs
    check_fit(model, dataset, iterations, miners, others)
    if resume and run_dir is None:
        raise ValueError(explain("resume=True without run_dir", "the folder of the run", "pass run_dir"))
    folder = None if run_dir is None else together(lambda: open_folder(Path(run_dir) / "checkpoint"))
    try:
        with Signals(active=folder is not None) as signals, spared_layout_copies(), scope_of(model):
            validation = {
                "validation_steps": validation_steps,
                "validation_batch_size": validation_batch_size,
                "validation_freq": validation_freq,
            }
            options = _Options(iterations, validation_data, validation, checkpoint_s, verbose)
            return _Run(model, dataset, miners, others, folder, signals, options).run(resume)
    finally:
        if folder is not None:
            folder.close()


@dataclass(frozen=True)
class _Options:
    """Arguments of `fit` that only `_Run` needs."""

    iterations: int
    validation_data: Any
    validation: dict[str, int | None]
    checkpoint_s: float
    verbose: int | str


class _Run:
    """One call of `fit`: plans the segments, mines between them, and saves."""

    def __init__(
        self,
        model: Any,
        dataset: IndexedDataset,
        miners: list[ScheduledMining],
        others: list[Any],
        folder: Folder | None,
        signals: Signals,
        options: _Options,
    ) -> None:
        self.model, self.dataset, self.miners = model, dataset, miners
        self.folder, self.signals, self.options = folder, signals, options
        self.callbacks = EpochCallbacks(
            others,
            model,
            epoch_steps=len(dataset),
            total=options.iterations,
            verbose=options.verbose,
            stopped=lambda: self.stop_signal != 0,
            on_epoch_done=self.end_epoch,
        )
        tables = None if folder is None else MinedTables(folder.path)
        self.state = RunState(model, dataset, miners, self.callbacks, CallbackStates(others), tables=tables)
        self.saved_iteration = -1
        self.saved_at_s = time.monotonic()
        self.several = process_share()[1] > 1
        self.agreed_signal = 0

    @property
    def stop_signal(self) -> int:
        """The signal that ends the training, or 0: several processes stop where all of them have agreed to."""
        return self.agreed_signal if self.several else int(self.signals.received or 0)

    @property
    def iteration(self) -> int:
        """Steps done."""
        return self.callbacks.iteration

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.state.stopped or self.iteration >= self.options.iterations

    def run(self, resume: bool) -> keras.callbacks.History:
        """Train to the end, from the start or from a checkpoint."""
        checkpoint = together(self.resume if resume else self.start)
        if checkpoint is not None and self.ended and self.state.finished:
            return self.callbacks.history
        self.state.finished = False
        for miner in self.miners:
            miner.check_scoring(self.model)
        try:
            if checkpoint is not None:
                self.state.restore_before_callbacks(checkpoint)
            self.callbacks.begin()
            self.state.states.note_begin()
            if checkpoint is not None:
                self.state.restore_callbacks(checkpoint)
            self.save()
            while not self.ended:
                self.mine_if_due()
                self.train_segment()
            self.callbacks.finish()
            self.state.finished = True
        except Stop:
            self.save()
            raise self.interruption() from None
        finally:
            self.callbacks.abandon()
        self.save(again=True)  # on_train_end may have changed the weights
        if self.stop_signal:
            raise self.interruption()
        return self.callbacks.history

    def start(self) -> None:
        """Bring everything but the callbacks to the first state of a new run."""
        if self.folder is not None and self.folder.entries():
            raise CheckpointError(
                explain(
                    f"run_dir with {len(self.folder.entries())} checkpoints in {self.folder.path}",
                    "an empty run_dir, or resume=True",
                    "pass resume=True to go on, or choose another run_dir",
                )
            )
        if self.dataset.phase.begin != 0:
            self.dataset.swap(self.dataset.index, 0)
        for miner in self.miners:
            miner.restart()
        model_state.build(self.model, self.dataset, 0)
        self.describe()

    def resume(self) -> Checkpoint:
        """Bring everything but the callbacks to what was saved last."""
        checkpoint = self.folder.load(self.state.check)  # type: ignore[union-attr]  # fit has seen to it
        model_state.build(self.model, self.dataset, self.dataset.phase.begin)
        self.describe()
        self.state.warn_of_others(checkpoint)
        self.state.restore(checkpoint)
        self.saved_iteration = self.iteration
        return checkpoint

    def describe(self) -> None:
        """Write down what the run is given, where it will be saved."""
        if self.folder is not None:
            self.state.given = describe(self.model, self.dataset)

    def train_segment(self) -> None:
        """Call `model.fit` once: for the rest of a begun epoch, or for whole epochs up to the next mining or end."""
        steps, epochs = self.plan()
        end = self.iteration + steps * epochs
        first = self.iteration // self.callbacks.epoch_steps
        whole = end % self.callbacks.epoch_steps == 0 or end == self.options.iterations
        self.callbacks.prepare(random_state.get_state())
        try:
            self.model.fit(
                self.dataset.stream(self.iteration),
                steps_per_epoch=steps,
                initial_epoch=first,
                epochs=first + epochs,
                shuffle=False,
                callbacks=self.callbacks,
                validation_data=self.options.validation_data if whole else None,
                **self.options.validation,
                verbose=self.options.verbose,
            )
        except Stop:
            if self.callbacks.guard.iteration is not None:
                self.refuse_non_finite()
            self.keep_metrics()
            raise
        except Exception as error:
            if self.dataset.failure is not None and self.dataset.failure is not error:
                raise self.dataset.failure from error
            raise
        self.keep_metrics()
        self.state.stopped = bool(self.model.stop_training)
        self.check_steps(end)

    def plan(self) -> tuple[int, int]:
        """Return the steps of an epoch, and the number of epochs, of the next `model.fit`."""
        due = [iteration for miner in self.miners if (iteration := miner.next_iteration()) is not None]
        bound = min([self.options.iterations, *due])
        steps = min(bound, self.callbacks.epoch_end_iteration()) - self.iteration
        if steps < self.callbacks.epoch_steps:
            return steps, 1
        return steps, (bound - self.iteration) // steps

    def check_steps(self, end: int) -> None:
        """Refuse a fit that made fewer steps than it was asked for, without a callback's wish."""
        if not self.state.stopped and self.iteration != end:
            raise RuntimeError(
                explain(
                    f"Keras' fit stopping after {self.iteration} steps",
                    f"{end}",
                    "unset KERAS_MAX_STEPS_PER_EPOCH and KERAS_MAX_EPOCHS",
                )
            )

    def keep_metrics(self) -> None:
        """Keep the running means of an epoch that was cut, so that it goes on with them."""
        cut = self.iteration % self.callbacks.epoch_steps != 0
        self.callbacks.metrics = model_state.capture_metrics(self.model) if cut else []

    def mine_if_due(self) -> None:
        """Mine where a callback's time has come, with a checkpoint before and one after."""
        for miner in self.miners:
            due = miner.next_iteration()
            if due is None or due > self.iteration:
                continue
            self.refuse_non_finite()
            self.save()
            miner.mine(self.model, self.iteration, self.on_scored)
            self.save(again=True)

    def on_scored(self, done: int, total: int) -> None:
        """End the scoring on a signal; the partial result is discarded."""
        if self.stop_signal:
            raise Stop

    def end_epoch(self) -> None:
        """Refuse a diverged model; save if it is time, with the wish of a callback to stop."""
        self.refuse_non_finite()
        self.state.stopped = bool(self.model.stop_training)
        due = time.monotonic() - self.saved_at_s >= self.options.checkpoint_s
        self.agreed_signal, due_anywhere = agreed([self.signals.received or 0, due])
        if due_anywhere:
            self.save()

    def refuse_non_finite(self) -> None:
        """Raise a NonFiniteError if the loss or the weights are NaN or infinite."""
        self.callbacks.settle()
        if self.callbacks.guard.iteration is not None:
            raise loss_error(self.dataset, self.callbacks.guard.iteration, self.saved_iteration)
        if not are_finite(self.model):
            raise weights_error(self.model, self.dataset, self.iteration, self.folder)

    def save(self, again: bool = False) -> None:
        """Save a checkpoint if there is a folder; one of an iteration already saved only `again`."""
        if self.folder is None or (self.saved_iteration == self.iteration and not again):
            return
        self.refuse_non_finite()
        folder, content = self.folder, self.state.capture()
        together(lambda: folder.save(*content))
        self.saved_iteration, self.saved_at_s = self.iteration, time.monotonic()

    def interruption(self) -> Interrupted:
        """Return the error that says where a signal stopped the run."""
        newest = self.folder.entries()[0] if self.folder is not None else Path()
        return Interrupted(self.stop_signal, self.iteration, newest)
