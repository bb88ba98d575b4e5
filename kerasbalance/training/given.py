"""What `fit` was given, so that a resume can say by name what is other than when the run began."""

import json
import warnings
import zlib
from typing import Any

import keras
import numpy as np

from kerasbalance.backend.optimizers import further_optimizers
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.errors import CheckpointWarning, explain

_SAMPLES = 4


def describe(model: Any, dataset: IndexedDataset) -> dict[str, Any]:
    """Return the options of all optimizers, and a checksum of a few samples, as JSON holds them."""
    named = {"optimizer": model.optimizer, **further_optimizers(model)}
    options = {name: _options(optimizer) for name, optimizer in named.items() if optimizer is not None}
    return {"optimizers": options, "data": _checksum(dataset)}


def warn_of_others(given: dict[str, Any], saved: dict[str, Any], resumed: dict[str, Any]) -> None:
    """Warn of what is other than in the run that is resumed.

    Args:
        given: What `describe` says now.
        saved: What it said when the run began; empty in version 0.1.
        resumed: What it said when the checkpoint was written: a callback may have changed a rate.
    """
    if not saved:
        return
    for name, options in given["optimizers"].items():
        before, since = (told["optimizers"].get(name, {}) for told in (saved, resumed))
        other = [
            f"{key} {_short(value)} instead of {_short(before.get(key))}"
            for key, value in options.items()
            if value not in (before.get(key), since.get(key))
        ]
        if other:
            _warn(
                f"{name} with other options than when the run began: {', '.join(other)}",
                "the same options",
                "resume with them for an exact run; a number of the optimizer goes on as it was saved, a schedule "
                "counts as it is given now",
            )
    if given["data"] != saved["data"]:
        _warn(
            "a dataset whose source gives other data than when the run began",
            "the same data",
            "resume with them for an exact run, or start another run; this one goes on with the data given now",
        )


def _options(optimizer: Any) -> dict[str, Any]:
    try:
        config = optimizer.get_config()
    except NotImplementedError:  # a schedule of the user's that cannot be saved
        return {"class": type(optimizer).__name__}
    return _flat(json.loads(json.dumps({"class": type(optimizer).__name__, **config}, default=_plain)))


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Return `{"learning_rate.initial_learning_rate": 0.1}` for the nested configurations of Keras, without names."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if key == "name":  # Keras numbers the objects of a process
            continue
        inner = _flat(value) if isinstance(value, dict) else {"": value}
        found |= {
            f"{key}.{name}".removesuffix(".").replace(".config.", "."): item for name, item in inner.items()
        }
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(type(value))


def _checksum(dataset: IndexedDataset) -> int:
    count = len(dataset.source)
    refs = np.unique(np.linspace(0, count - 1, min(_SAMPLES, count)).astype(np.int64))
    total = 0
    for array in keras.tree.flatten(dataset.source.read(refs, np.zeros(len(refs), np.uint8))):
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _warn(received: str, expected: str, advice: str) -> None:
    warnings.warn(CheckpointWarning(explain(received, expected, advice)), stacklevel=6)
