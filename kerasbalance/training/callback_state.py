"""What callbacks remember between epochs (patience counters, best values), for resume."""

import warnings
from typing import Any

import numpy as np

from kerasbalance.errors import CheckpointWarning
from kerasbalance.training.checkpoint import Arrays, prefixed, under

PLAIN = (bool, int, float, str, type(None))
DERIVED = {"min_delta"}
"""EarlyStopping and its kin turn the sign of this option over at the first epoch's end of each process."""


class CallbackStates:
    """Saves the plain attributes that a training changed, and `state()` of callbacks that have one.

    Keras' own callbacks keep what they know in plain attributes (`EarlyStopping.wait`,
    `ModelCheckpoint.best`) or in lists of arrays (`EarlyStopping.best_weights`), but cannot save it.
    Attributes that still have the value they had before the training are options of the caller's, and are
    not touched.

    Args:
        callbacks: The user's, before `on_train_begin`.
    """

    def __init__(self, callbacks: list[Any]) -> None:
        self._callbacks = dict(_named(callbacks))
        self._before = {name: _plain(callback) for name, callback in self._callbacks.items()}

    def capture(self) -> tuple[Arrays, dict[str, dict[str, Any]]]:
        """Return arrays, and plain values by callback and attribute."""
        arrays: Arrays = {}
        plain: dict[str, dict[str, Any]] = {}
        for name, callback in self._callbacks.items():
            if _has_state(callback):
                arrays |= prefixed(name, callback.state())
                continue
            before = self._before[name]
            now = _plain(callback)
            plain[name] = {key: now[key] for key in now if key not in before or before[key] != now[key]}
            for attribute, values in vars(callback).items():
                if _are_arrays(values):
                    arrays |= prefixed(f"{name}/{attribute}", {str(i): v for i, v in enumerate(values)})
        return arrays, plain

    def restore(self, arrays: Arrays, plain: dict[str, dict[str, Any]]) -> None:
        """Put back what `capture` returned; call it after `on_train_begin`, which resets counters."""
        lost = [name for name, values in plain.items() if values and name not in self._callbacks]
        if lost:
            warnings.warn(
                CheckpointWarning(
                    f"the saved state of {', '.join(lost)} is not used: no such callback was passed"
                ),
                stacklevel=5,
            )
        for name, callback in self._callbacks.items():
            mine = under(name, arrays)
            if _has_state(callback):
                if mine:
                    callback.load_state(mine)
                continue
            for attribute, value in plain.get(name, {}).items():
                setattr(callback, attribute, value)
            for attribute in sorted({key.split("/")[0] for key in mine}):
                values = under(attribute, mine)
                setattr(callback, attribute, [values[str(i)] for i in range(len(values))])


def _named(callbacks: list[Any]) -> list[tuple[str, Any]]:
    seen: dict[str, int] = {}
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        named.append((f"{kind}-{seen[kind]}", callback))
    return named


def _plain(callback: Any) -> dict[str, Any]:
    values = {name: v.item() if isinstance(v, np.generic) else v for name, v in vars(callback).items()}
    return {name: v for name, v in values.items() if isinstance(v, PLAIN) and name not in DERIVED}


def _are_arrays(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, np.ndarray) for v in values)


def _has_state(callback: Any) -> bool:
    return callable(getattr(callback, "state", None)) and callable(getattr(callback, "load_state", None))
