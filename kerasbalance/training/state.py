"""Everything that a training consists of at one moment: what a checkpoint holds, and how it comes back."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerasbalance.backend import random_state
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.errors import CheckpointError, explain
from kerasbalance.mining.callback import ScheduledMining
from kerasbalance.training import model_state
from kerasbalance.training.callback_state import CallbackStates
from kerasbalance.training.checkpoint import Arrays, Checkpoint, prefixed, under
from kerasbalance.training.epochs import EpochCallbacks
from kerasbalance.training.given import describe, warn_of_others
from kerasbalance.training.mined_tables import MinedTables


@dataclass
class RunState:
    """The parts of a run whose state is saved together.

    Args:
        model: The model in training.
        dataset: Its dataset.
        miners: The mining callbacks, in the caller's order.
        callbacks: The list that `model.fit` is given; it counts the iterations and holds the history.
        states: The states of the user's callbacks.
        stopped: Whether a callback has ended the training.
        finished: Whether the callbacks' `on_train_end` has been called, which may change the weights.
        given: What the run was given when it began; see `given.describe`.
        tables: Where results of mining are files; None keeps them in the checkpoint.
    """

    model: Any
    dataset: IndexedDataset
    miners: list[ScheduledMining]
    callbacks: EpochCallbacks
    states: CallbackStates
    stopped: bool = False
    finished: bool = False
    given: dict[str, Any] = field(default_factory=dict)
    tables: MinedTables | None = None

    def capture(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the arrays and the JSON object of a checkpoint."""
        callback_arrays, plain, more = self.states.capture()
        arrays = {
            **model_state.capture(self.model),
            **prefixed("metrics", {str(i): array for i, array in enumerate(self.callbacks.metrics)}),
            **prefixed("random", random_state.get_state()),
            **prefixed("dataset", self.dataset.state()),
            **prefixed("callbacks", callback_arrays),
        }
        tables: list[list[str]] = []
        for number, miner in enumerate(self.miners):
            state = miner.state()
            if self.tables is not None:
                tables.append([self.tables.keep(result) for result in miner.results])
                state = {name: array for name, array in state.items() if not name.startswith("results/")}
            arrays |= prefixed(f"mining/{number}", state)
        return arrays, {
            "tables": tables,
            "iteration": self.callbacks.iteration,
            "stopped": self.stopped,
            "finished": self.finished,
            "epochs": self.callbacks.history.epoch,
            "history": {key: _plain(values) for key, values in self.callbacks.history.history.items()},
            "callbacks": plain,
            "callback states": more,
            "names": model_state.names(self.model),
            "built on": model_state.built_on(self.model),
            "settings": self.settings(),
            "given": self.given,
            "now": describe(self.model, self.dataset),
            "versions": {"keras": keras.__version__, "numpy": np.__version__},
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Bring back all but what `on_train_begin` of the callbacks would reset again."""
        info, arrays = checkpoint.info, checkpoint.arrays
        model_state.restore(self.model, arrays, info["names"], info.get("built on"))
        self.dataset.load_state(under("dataset", arrays))
        for number, miner in enumerate(self.miners[: info["settings"]["mining callbacks"]]):
            miner.load_state({**under(f"mining/{number}", arrays), **self._results(info, number)})
        self.callbacks.iteration = info["iteration"]
        self._restore_history(checkpoint)
        metrics = under("metrics", arrays)
        self.callbacks.metrics = [metrics[str(i)] for i in range(len(metrics))]
        if metrics and len(metrics) != len(self.model.metrics_variables):
            model_state.build_metrics(self.model, self.dataset, info["iteration"])
        self.stopped = info["stopped"]
        self.finished = info.get("finished", True)  # version 0.1 did not write it down
        random_state.set_state(under("random", arrays))

    def _results(self, info: dict[str, Any], number: int) -> Arrays:
        """Return the results of a miner that are files of their own; version 0.1 had them in the checkpoint."""
        found: Arrays = {}
        for place, name in enumerate(info.get("tables", [[]] * (number + 1))[number]):
            if self.tables is not None:
                found |= prefixed(f"results/{place}", self.tables.read(name).state())
        return found

    def restore_callbacks(self, checkpoint: Checkpoint) -> None:
        """Bring back what the callbacks know; call it after their `on_train_begin`."""
        self.states.restore(*_of_callbacks(checkpoint))
        self._restore_history(checkpoint)

    def restore_before_callbacks(self, checkpoint: Checkpoint) -> None:
        """Bring back the callbacks' attributes before their `on_train_begin`, which may look at them."""
        self.states.restore_before(*_of_callbacks(checkpoint))

    def settings(self) -> dict[str, Any]:
        """Return what must be the same for a resumed run to be the same run."""
        return {
            "backend": keras.config.backend(),
            "batch_size": int(self.dataset.batch_size),
            "steps_per_epoch": len(self.dataset),
            "seed": int(self.dataset.seed),
            "slices": len(self.dataset.source),
            "mining callbacks": len(self.miners),
            "slices of mining": [_digest(miner) for miner in self.miners],
        }

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint of another run, with a CheckpointError."""
        mine, saved = self.settings(), checkpoint.info["settings"]
        if self._added_later(saved["mining callbacks"], checkpoint.info["iteration"]):
            mine["mining callbacks"] = saved["mining callbacks"]
            mine["slices of mining"] = mine["slices of mining"][: saved["mining callbacks"]]
        # Version 0.1 wrote down fewer settings.
        differing = {key: [mine[key], saved[key]] for key in mine if key in saved and mine[key] != saved[key]}
        if differing or checkpoint.info["iteration"] > self.callbacks.total:
            raise CheckpointError(
                explain(
                    f"iterations={self.callbacks.total}, and settings [given, saved] {json.dumps(differing)}",
                    f"at least {checkpoint.info['iteration']} iterations, and the settings that were saved",
                    "call fit as in the run that is resumed, or start another in a new run_dir",
                )
            )

    def warn_of_others(self, checkpoint: Checkpoint) -> None:
        """Warn of other data and of optimizers with other options than when the run began."""
        info = checkpoint.info
        warn_of_others(self.given, info.get("given", {}), info.get("now", {}))
        self.given = info.get("given", self.given)

    def _added_later(self, saved: int, iteration: int) -> bool:
        """Say whether the mining callbacks beyond those saved all begin at or after an iteration."""
        due = [miner.next_iteration() for miner in self.miners[saved:]]
        return saved <= len(self.miners) and all(at is not None and at >= iteration for at in due)

    def _restore_history(self, checkpoint: Checkpoint) -> None:
        history = self.callbacks.history
        history.epoch = list(checkpoint.info["epochs"])
        history.history = {key: list(values) for key, values in checkpoint.info["history"].items()}


def _of_callbacks(checkpoint: Checkpoint) -> tuple[Arrays, dict[str, Any], dict[str, Any]]:
    info = checkpoint.info
    return under("callbacks", checkpoint.arrays), info["callbacks"], info.get("callback states", {})


def _digest(miner: ScheduledMining) -> int:
    """Return a checksum of the slices that a sampler chooses from and always trains on."""
    sampler = miner.sampler
    refs = [sampler.candidates, sampler.reference, getattr(sampler, "base", sampler.candidates)]
    return zlib.crc32(b"".join(np.ascontiguousarray(part, np.int64).tobytes() for part in refs))


def _plain(value: Any) -> Any:
    """Return logs as JSON holds them; callbacks and training steps also log NumPy scalars, arrays and tensors."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (
        value if value is None or isinstance(value, (bool, int, float, str)) else np.asarray(value).tolist()
    )
