"""What callbacks remember between epochs (patience counters, best values), for resume."""

import json
import warnings
from typing import Any

from kerasbalance.errors import CheckpointWarning, explain
from kerasbalance.training.checkpoint import Arrays, prefixed, under
from kerasbalance.training.nested import PLAIN, Saved, put_together, take_apart

Plain = dict[str, dict[str, Any]]

NO_STATE = {"min_delta", "params", "validation_data", "_model"}
"""What Keras sets itself. EarlyStopping and its kin turn the sign of `min_delta` over at the first epoch's end of each
process."""


class CallbackStates:
    """Saves the attributes that a training changed, and `state()` of callbacks that have one.

    Keras' own callbacks keep what they know in plain attributes (`EarlyStopping.wait`,
    `ModelCheckpoint.best`) or in lists of arrays (`EarlyStopping.best_weights`), but cannot save it. Lists, dicts,
    sets and arrays are saved as well. Attributes that still have the value they had before the training are options
    of the caller's, and are not touched; by them callbacks of one kind are told apart if their order has changed.

    Args:
        callbacks: The user's, before `on_train_begin`.
    """

    def __init__(self, callbacks: list[Any]) -> None:
        self._callbacks = dict(_named(callbacks))
        self._before = {name: _attributes(callback) for name, callback in self._callbacks.items()}
        self._objects: dict[str, dict[str, int]] = {}

    def note_begin(self) -> None:
        """Remember which objects that cannot be saved there are when `on_train_begin` is done."""
        self._objects = {name: _objects(callback) for name, callback in self._callbacks.items()}

    def capture(self) -> tuple[Arrays, Plain, dict[str, Any]]:
        """Return arrays, plain values by callback and attribute, and all else as JSON."""
        arrays: Arrays = {}
        plain: Plain = {}
        nested: Plain = {}
        for name, callback in self._callbacks.items():
            if _has_state(callback):
                arrays |= prefixed(name, callback.state())
                continue
            changed = self._changed(name, callback)
            plain[name] = {key: saved.tree for key, saved in changed.items() if isinstance(saved.tree, PLAIN)}
            nested[name] = {key: saved.tree for key, saved in changed.items() if key not in plain[name]}
            for key in nested[name]:
                arrays |= prefixed(f"{name}/{key}", changed[key].arrays)
        lost = [f"{key} of {name}" for name in self._objects for key in self._replaced_objects(name)]
        options = {name: _options(before) for name, before in self._before.items()}
        return arrays, plain, {"nested": nested, "options": options, "lost": lost}

    def restore_before(self, arrays: Arrays, plain: Plain, more: dict[str, Any]) -> None:
        """Put attributes back before `on_train_begin`, which may make what is missing, such as an id.

        Warns of what cannot be brought back.
        """
        source = self._sources(plain, more)
        unused = [name for name, values in plain.items() if values and name not in source.values()]
        if unused:
            _warn(f"the saved state of {', '.join(unused)} is not used: no such callback was passed")
        if more.get("lost"):
            _warn(
                explain(
                    f"callbacks whose attributes cannot be saved: {', '.join(more['lost'])}",
                    "numbers, text, arrays, and lists, sets and dicts of them",
                    "give the callback methods state() and load_state(arrays); these attributes begin anew",
                )
            )
        for name, theirs in source.items():
            if not _has_state(self._callbacks[name]):
                _set(self._callbacks[name], theirs, arrays, plain, more)

    def restore(self, arrays: Arrays, plain: Plain, more: dict[str, Any]) -> None:
        """Put back what `capture` returned; call it after `on_train_begin`, which resets counters."""
        for name, theirs in self._sources(plain, more).items():
            callback = self._callbacks[name]
            if not _has_state(callback):
                _set(callback, theirs, arrays, plain, more)
            elif under(theirs, arrays):
                callback.load_state(under(theirs, arrays))

    def _changed(self, name: str, callback: Any) -> dict[str, Saved]:
        before, now = self._before[name], _attributes(callback)
        return {
            key: saved
            for key, saved in now.items()
            if key not in before or before[key].digest != saved.digest
        }

    def _replaced_objects(self, name: str) -> list[str]:
        callback, begun = self._callbacks[name], self._objects[name]
        if _has_state(callback) or type(callback).__module__.split(".")[0] in ("keras", "kerasbalance"):
            return []
        return [key for key, identity in _objects(callback).items() if begun.get(key) != identity]

    def _sources(self, plain: Plain, more: dict[str, Any]) -> dict[str, str]:
        """Return the saved name of each callback: of those of one kind the one with its options, else the next."""
        saved = {**more.get("options", {})} or dict.fromkeys([*plain, *self._callbacks])
        left, found = list(saved), {}
        for by_options in (True, False):
            for name in self._callbacks:
                kind, mine = name.rpartition("-")[0], json.dumps(_options(self._before[name]))
                fits = [
                    other
                    for other in left
                    if other.rpartition("-")[0] == kind
                    and (not by_options or json.dumps(saved[other]) == mine)
                ]
                if name not in found and fits:
                    found[name] = name if name in fits else fits[0]
                    left.remove(found[name])
        return found


def _set(callback: Any, name: str, arrays: Arrays, plain: Plain, more: dict[str, Any]) -> None:
    """Set the attributes of a callback from what was saved under a name."""
    mine, nested = under(name, arrays), more.get("nested", {}).get(name, {})
    for attribute, value in plain.get(name, {}).items():
        setattr(callback, attribute, value)
    for attribute, tree in nested.items():
        setattr(callback, attribute, put_together(tree, under(attribute, mine)))
    for attribute in sorted({key.split("/")[0] for key in mine} - set(nested)):  # lists of version 0.1
        values = under(attribute, mine)
        setattr(callback, attribute, [values[str(i)] for i in range(len(values))])


def _warn(text: str) -> None:
    warnings.warn(CheckpointWarning(text), stacklevel=6)


def _named(callbacks: list[Any]) -> list[tuple[str, Any]]:
    seen: dict[str, int] = {}
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        named.append((f"{kind}-{seen[kind]}", callback))
    return named


def _attributes(callback: Any) -> dict[str, Saved]:
    parts = {key: take_apart(value) for key, value in vars(callback).items() if key not in NO_STATE}
    return {key: saved for key, saved in parts.items() if saved is not None}


def _objects(callback: Any) -> dict[str, int]:
    """Return the identities of the attributes that cannot be saved."""
    known = _attributes(callback)
    return {key: id(value) for key, value in vars(callback).items() if key not in {*known, *NO_STATE}}


def _options(before: dict[str, Saved]) -> dict[str, Any]:
    return {key: saved.tree for key, saved in sorted(before.items()) if isinstance(saved.tree, PLAIN)}


def _has_state(callback: Any) -> bool:
    return callable(getattr(callback, "state", None)) and callable(getattr(callback, "load_state", None))
