"""The fit loop: `model.fit` in parts that never span an index swap, with exact resume."""

import json
import math
import operator
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasbalance import model_state, random_state
from kerasbalance.callback_state import CallbackStates
from kerasbalance.checkpoint import Checkpoint, CheckpointFolder, prefixed, under
from kerasbalance.dataset import IndexedDataset
from kerasbalance.divergence import loss_error, weights_error
from kerasbalance.errors import CheckpointError, Interrupted, explain
from kerasbalance.mining import ScheduledMining
from kerasbalance.signals import Signals
from kerasbalance.windows import Stop, WindowCallbacks


def fit(
    model: Any,
    dataset: IndexedDataset,
    iterations: int,
    *,
    callbacks: Sequence[Any] = (),
    run_dir: str | Path | None = None,
    resume: bool = False,
    validation_data: Any = None,
    checkpoint_s: float = 120.0,
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Train for an exact number of iterations, mine at exact ones, and resume exactly after any kill.

    The training is a sequence of `model.fit` calls none of which spans a swap of the index, so that no
    batch of an old index is ever trained on. To callbacks it is one training, whose epochs are windows of
    `dataset.steps_per_epoch` steps; the last window may be shorter. On a CPU a run that was killed at any
    moment and resumed ends with the same bits as one that was not: weights, optimizer, index, history,
    results. Resume needs the same model, dataset, callbacks and backend as the first call; `iterations` may
    grow. `CSVLogger` needs `append=True` to go on in its file.

    Args:
        model: a compiled Keras model.
        dataset: what to train on; iteration 0 is its first batch.
        iterations: steps in all, >= 1, counted from 0 for each new run.
        callbacks: Keras callbacks, and any number of `ScheduledMining` on this dataset.
        run_dir: a folder; checkpoints go to its `checkpoint`. Without one nothing is saved and signals are
            not caught.
        resume: go on from the newest valid checkpoint of `run_dir`. Once the training has ended it returns
            the history and trains no more.
        validation_data: as for `model.fit`; evaluated at the end of each window.
        checkpoint_s: seconds between checkpoints, which are taken at the ends of windows; 0 for each end. One
            more is taken at the start, before and after mining, on a signal, and at the end.
        verbose: as for `model.fit`.

    Returns:
        Keras' `History`, with one entry a window, those before the resume included.

    Raises:
        CheckpointError: if `resume` finds no valid checkpoint or one of another run, or if `run_dir` holds
            checkpoints and `resume` is False.
        CheckpointWriteError: if a checkpoint cannot be written, for instance on a full disk.
        NonFiniteError: if loss or weights become NaN or infinite; names the iteration and its slices. The
            newest checkpoint is then still a finite one.
        Interrupted: after SIGTERM or Ctrl-C, when the step is done and a checkpoint is saved.
        ValueError: for arguments and callbacks that contradict each other.

    Example:
        >>> fit(model, dataset, iterations=10_000, callbacks=[mining], run_dir="run")
    """
    iterations = operator.index(iterations)
    miners = [callback for callback in callbacks if isinstance(callback, ScheduledMining)]
    others = [callback for callback in callbacks if not isinstance(callback, ScheduledMining)]
    _check(model, dataset, iterations, miners, others)
    if resume and run_dir is None:
        raise ValueError(explain("resume=True without run_dir", "the folder of the run", "pass run_dir"))
    folder = None if run_dir is None else CheckpointFolder(Path(run_dir) / "checkpoint")
    try:
        with Signals(active=folder is not None) as signals:
            run = _Run(model, dataset, iterations, miners, others, folder, signals, verbose)
            run.validation_data, run.checkpoint_s = validation_data, checkpoint_s
            return run.run(resume)
    finally:
        if folder is not None:
            folder.close()


class _Run:
    """One call of `fit`: plans the parts, mines between them, and saves."""

    def __init__(
        self,
        model: Any,
        dataset: IndexedDataset,
        iterations: int,
        miners: list[ScheduledMining],
        callbacks: list[Any],
        folder: CheckpointFolder | None,
        signals: Signals,
        verbose: int | str,
    ) -> None:
        self.model, self.dataset, self.total = model, dataset, iterations
        self.miners, self.folder, self.signals = miners, folder, signals
        self.validation_data: Any = None
        self.checkpoint_s = 0.0
        self.stopped = False
        self.saved_iteration = -1
        self.saved_at_s = time.monotonic()
        self.states = CallbackStates(callbacks)
        self.callbacks = WindowCallbacks(
            callbacks,
            model,
            window=len(dataset),
            total=iterations,
            verbose=verbose,
            stopped=lambda: signals.received is not None,
            on_window=self.end_window,
        )

    @property
    def iteration(self) -> int:
        """Steps done."""
        return self.callbacks.iteration

    def run(self, resume: bool) -> keras.callbacks.History:
        """Train to the end, from the start or from a checkpoint."""
        checkpoint = self.begin(resume)
        if checkpoint is not None and (self.stopped or self.iteration >= self.total):
            return self.callbacks.history
        try:
            self.callbacks.begin()
            self.begin_callbacks(checkpoint)
            while self.iteration < self.total and not self.stopped:
                self.mine_if_due()
                self.part()
            self.callbacks.finish()
        except Stop:
            self.save()
            raise self.interruption() from None
        finally:
            self.callbacks.abandon()
        self.save()
        if self.signals.received is not None and self.folder is not None:
            raise self.interruption()
        return self.callbacks.history

    def begin(self, resume: bool) -> Checkpoint | None:
        """Build the model and bring everything but the callbacks to its first state."""
        if resume and self.folder is not None:
            checkpoint = self.folder.load(self.check_settings)
            model_state.build(self.model, self.dataset, self.dataset.phase.begin)
            self.restore(checkpoint)
            return checkpoint
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
        model_state.build(self.model, self.dataset, 0)
        return None

    def begin_callbacks(self, checkpoint: Checkpoint | None) -> None:
        """Give the callbacks their saved state, or save the very first one."""
        if checkpoint is None:
            self.save()
            return
        self.states.restore(under("callbacks", checkpoint.arrays), checkpoint.info["callbacks"])
        history = self.callbacks.history
        history.epoch, history.history = list(checkpoint.info["epochs"]), dict(checkpoint.info["history"])

    def part(self) -> None:
        """One `model.fit`: the rest of a begun window, or whole windows up to the next mining or the end."""
        callbacks, begin = self.callbacks, self.iteration
        due = [iteration for miner in self.miners if (iteration := miner.next_iteration()) is not None]
        bound = min([self.total, *due])
        steps = min(bound, callbacks.window_end()) - begin
        windows = max(1, (bound - begin) // callbacks.window) if steps == callbacks.window else 1
        end = begin + steps * windows
        first = begin // callbacks.window
        validated = end % callbacks.window == 0 or end == self.total
        callbacks.prepare(random_state.get_state())
        try:
            self.model.fit(
                self.dataset.stream(begin),
                steps_per_epoch=steps,
                initial_epoch=first,
                epochs=first + windows,
                shuffle=False,
                callbacks=callbacks,
                validation_data=self.validation_data if validated else None,
                verbose=callbacks.verbose,
            )
        except Stop:
            if callbacks.guard.iteration is not None:
                self.refuse_non_finite()
            self.keep_metrics()
            raise
        except Exception as error:
            if self.dataset.failure is not None and self.dataset.failure is not error:
                raise self.dataset.failure from error
            raise
        self.keep_metrics()
        self.stopped = bool(self.model.stop_training)
        if not self.stopped and self.iteration != end:
            raise RuntimeError(
                explain(
                    f"{self.iteration - begin} steps of Keras' fit",
                    f"{end - begin}",
                    "unset KERAS_MAX_STEPS_PER_EPOCH and KERAS_MAX_EPOCHS",
                )
            )

    def keep_metrics(self) -> None:
        """Let a window that was cut go on with its running means."""
        cut = self.iteration % self.callbacks.window != 0
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
            self.saved_iteration = -1
            self.save()

    def on_scored(self, done: int, total: int) -> None:
        """Let a signal end the scoring: nothing of it is kept."""
        if self.signals.received is not None:
            raise Stop

    def end_window(self) -> None:
        """Refuse a diverged model; save if it is time."""
        self.refuse_non_finite()
        if time.monotonic() - self.saved_at_s >= self.checkpoint_s:
            self.save()

    def refuse_non_finite(self) -> None:
        """Raise a NonFiniteError if the loss or the weights are NaN or infinite."""
        self.callbacks.settle()
        if self.callbacks.guard.iteration is not None:
            raise loss_error(self.dataset, int(self.callbacks.guard.iteration), self.saved_iteration)
        if model_state.first_non_finite(model_state.weights(self.model)) is not None:
            raise weights_error(self.model, self.dataset, self.iteration, self.folder)

    def save(self) -> Path | None:
        """Save a checkpoint, unless this iteration is saved already or there is no folder."""
        if self.folder is None or (self.saved_iteration == self.iteration and not self.stopped):
            return None
        self.refuse_non_finite()
        history = self.callbacks.history
        callback_arrays, plain = self.states.capture()
        arrays = {
            **model_state.capture(self.model),
            **prefixed("metrics", {str(i): array for i, array in enumerate(self.callbacks.metrics)}),
            **prefixed("random", random_state.get_state()),
            **prefixed("dataset", self.dataset.state()),
            **prefixed("callbacks", callback_arrays),
        }
        for number, miner in enumerate(self.miners):
            arrays |= prefixed(f"mining/{number}", miner.state())
        path = self.folder.save(
            arrays,
            {
                "iteration": self.iteration,
                "stopped": self.stopped,
                "epochs": history.epoch,
                "history": history.history,
                "callbacks": plain,
                "names": model_state.names(self.model),
                "settings": self.settings(),
                "versions": {"keras": keras.__version__, "numpy": np.__version__},
            },
        )
        self.saved_iteration, self.saved_at_s = self.iteration, time.monotonic()
        return path

    def restore(self, checkpoint: Checkpoint) -> None:
        """Bring model, dataset, miners and random state to what was saved."""
        info, arrays = checkpoint.info, checkpoint.arrays
        model_state.restore(self.model, arrays, info["names"])
        self.dataset.load_state(under("dataset", arrays))
        for number, miner in enumerate(self.miners):
            miner.load_state(under(f"mining/{number}", arrays))
        self.callbacks.iteration = self.saved_iteration = info["iteration"]
        self.callbacks.history.epoch, self.callbacks.history.history = info["epochs"], info["history"]
        metrics = under("metrics", arrays)
        self.callbacks.metrics = [metrics[str(i)] for i in range(len(metrics))]
        if len(metrics) != len(self.model.metrics_variables) and metrics:
            model_state.build_metrics(self.model, self.dataset, self.iteration)
        self.stopped = info["stopped"]
        random_state.set_state(under("random", arrays))

    def settings(self) -> dict[str, Any]:
        """Return what must be the same for a resumed run to be the same run."""
        return {
            "backend": keras.config.backend(),
            "batch_size": self.dataset.batch_size,
            "steps_per_epoch": len(self.dataset),
            "seed": int(self.dataset.seed),
            "slices": len(self.dataset.source),
            "mining callbacks": len(self.miners),
        }

    def check_settings(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint of another run."""
        mine, saved = self.settings(), checkpoint.info["settings"]
        differing = {key: [mine[key], saved.get(key)] for key in mine if mine[key] != saved.get(key)}
        if differing or checkpoint.info["iteration"] > self.total:
            raise CheckpointError(
                explain(
                    f"iterations={self.total}, and settings [given, saved] {json.dumps(differing)}",
                    f"at least {checkpoint.info['iteration']} iterations, and the settings that were saved",
                    "call fit as in the run that is resumed, or start another in a new run_dir",
                )
            )

    def interruption(self) -> Interrupted:
        """Return the error that says where a signal stopped the run."""
        newest = self.folder.entries()[0] if self.folder is not None else Path()
        return Interrupted(int(self.signals.received or 0), self.iteration, newest)


def _check(
    model: Any, dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining], others: list[Any]
) -> None:
    if not isinstance(dataset, IndexedDataset):
        raise TypeError(
            explain(f"a dataset of type {type(dataset).__name__}", "an IndexedDataset", "make one")
        )
    if iterations < 1:
        raise ValueError(explain(f"iterations={iterations}", "a number >= 1", "change it"))
    if not getattr(model, "compiled", False):
        raise ValueError(
            explain("a model that is not compiled", "a compiled one", "call model.compile first")
        )
    if getattr(model.optimizer, "use_ema", False):
        raise ValueError(
            explain(
                "an optimizer with use_ema=True",
                "one without: Keras overwrites the weights with their average at the end of each fit",
                "compile the model with use_ema=False",
            )
        )
    for callback in others:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                explain(
                    "a BackupAndRestore callback",
                    "run_dir in its place: that callback repeats steps and forgets the epoch",
                    "remove it and pass run_dir and resume",
                )
            )
    _check_mining(dataset, iterations, miners)
    _check_executions(model, dataset, iterations, miners)


def _check_mining(dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining]) -> None:
    for miner in miners:
        if miner.dataset is not dataset:
            raise ValueError(
                explain(
                    "ScheduledMining on another dataset", "the dataset of this fit", "pass the same to both"
                )
            )
        if miner.at and miner.at[-1] >= iterations:
            raise ValueError(
                explain(
                    f"mining at iteration {miner.at[-1]}",
                    f"one before the last of {iterations} iterations",
                    "mine earlier or train longer",
                )
            )


def _check_executions(
    model: Any, dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining]
) -> None:
    per_call = model.steps_per_execution
    planned = [len(dataset), iterations, *(at for miner in miners for at in [*miner.at, miner.every or 0])]
    if math.gcd(per_call, *planned) != per_call:
        raise ValueError(
            explain(
                f"steps_per_execution={per_call}",
                f"a divisor of {planned}: steps_per_epoch, iterations and the iterations of mining",
                "compile the model without it",
            )
        )
