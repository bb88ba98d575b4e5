"""One list of callbacks over many `model.fit` calls: to users it is one training in epochs of equal length."""

import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerasbalance.backend import random_state
from kerasbalance.backend.callback_threads import end_callback_threads, wait_for_callbacks
from kerasbalance.training.model_state import restore_metrics


class Stop(Exception):  # a signal was received; never leaves the package
    """Ends a `model.fit` before its next step."""


class LossGuard(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """Remembers the first iteration of which the loss was NaN or infinite; costs the training nothing."""

    async_safe = True  # on JAX and torch it runs in the background, where the loss is waited for anyway

    def __init__(self, epoch_steps: int) -> None:
        super().__init__()
        self.epoch_steps = epoch_steps
        self.iteration: int | None = None
        self._start = 0
        self._lock = threading.Lock()

    def start_at(self, iteration: int) -> None:
        """Say at which iteration the running epoch goes on."""
        self._start = iteration - iteration % self.epoch_steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the running mean of the loss: once NaN or infinite, it stays so in the epoch."""
        if not np.isfinite(ops.convert_to_numpy((logs or {}).get("loss", 0.0))).all():
            with self._lock:
                seen = self._start + batch
                self.iteration = seen if self.iteration is None else min(seen, self.iteration)


class EpochCallbacks(keras.callbacks.CallbackList):  # type: ignore[misc]  # untyped
    """Turns the hooks of several `model.fit` calls into those of one training.

    An epoch is cut where mining falls into it, or where a run was interrupted; each of its segments is one fit. To
    callbacks it stays one epoch: `on_epoch_begin` comes with its first segment and `on_epoch_end` with its last,
    batches are counted through, and metrics go on from segment to segment.

    Args:
        callbacks: The user's.
        model: The model in training.
        epoch_steps: Steps of an epoch.
        total: Iterations in all; the last epoch ends there.
        verbose: As for `model.fit`.
        stopped: Returns True when training should stop before the next step.
        on_epoch_done: Called at the end of each epoch, after the user's callbacks.
    """

    def __init__(
        self,
        callbacks: list[Any],
        model: Any,
        *,
        epoch_steps: int,
        total: int,
        verbose: Any,
        stopped: Callable[[], bool],
        on_epoch_done: Callable[[], None],
    ) -> None:
        self.guard = LossGuard(epoch_steps)
        self.history = keras.callbacks.History()
        self.epoch_steps, self.total, self.verbose = epoch_steps, total, verbose
        self.iteration = 0
        self.random: random_state.State = {}
        self.metrics: list[NDArray[Any]] = []
        self._stopped, self._on_epoch_done = stopped, on_epoch_done
        self._segment_begin = 0
        self._first_batch = self._first_epoch = True
        super().__init__(
            [self.guard, *callbacks, self.history],
            add_progbar=verbose != 0,
            model=model,
            **self._parameters(),
        )

    def epoch_end_iteration(self) -> int:
        """Return the iteration at which the running epoch ends."""
        return min((self.iteration // self.epoch_steps + 1) * self.epoch_steps, self.total)

    def begin(self) -> None:
        """Call the callbacks' `on_train_begin`."""
        super().on_train_begin()

    def finish(self) -> None:
        """Call the callbacks' `on_train_end`, with the logs of the last epoch."""
        super().on_train_end({name: values[-1] for name, values in self.history.history.items() if values})

    def abandon(self) -> None:
        """Wait for what runs in the background and let its threads go, without `on_train_end`."""
        end_callback_threads(self)

    def settle(self) -> None:
        """Wait until the callbacks have seen every step."""
        wait_for_callbacks(self)

    def prepare(self, random: random_state.State) -> None:
        """Get ready for another `model.fit`, whose first step must see this random state."""
        self.random = random
        self._first_batch = True
        self.set_params(self._parameters())

    def on_train_begin(self, logs: Any = None) -> None:
        """Do nothing: a fit is only a segment of the training."""

    def on_train_end(self, logs: Any = None) -> None:
        """Wait for the callbacks: a fit is only a segment of the training."""
        self.settle()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Pass it on for the first segment of an epoch."""
        self._segment_begin = self.iteration
        self.guard.start_at(self.iteration)
        if self._first_epoch or self.iteration % self.epoch_steps == 0:
            self._first_epoch = False
            super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Pass it on; before the first step of a fit, undo what `model.fit` itself changed."""
        if self._first_batch:
            self._first_batch = False
            random_state.set_state(self.random)
            if self.metrics:
                restore_metrics(self.model, self.metrics)
                self.metrics = []
        if self._stopped() or self.guard.iteration is not None:
            raise Stop
        super().on_train_batch_begin(self._in_epoch(batch), logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the steps and pass it on."""
        self.iteration = self._segment_begin + batch + 1
        super().on_train_batch_end(self._in_epoch(batch), logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Pass it on for the last segment of an epoch, or when a callback stopped the training."""
        self.settle()
        if self.guard.iteration is not None:
            raise Stop
        whole = self.iteration % self.epoch_steps == 0 or self.iteration == self.total
        if whole or self.model.stop_training:
            super().on_epoch_end(epoch, logs)
            self._on_epoch_done()

    def _in_epoch(self, batch: int) -> int:
        return self._segment_begin % self.epoch_steps + batch

    def _parameters(self) -> dict[str, Any]:
        epochs = -(-self.total // self.epoch_steps)
        steps = self.epoch_end_iteration() - self.iteration // self.epoch_steps * self.epoch_steps
        return {"verbose": self.verbose, "epochs": epochs, "steps": steps}
