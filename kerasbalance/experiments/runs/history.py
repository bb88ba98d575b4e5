"""`history.csv`: loss and other logs by epoch, in one format while a run trains, after it and when it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.lock import unwritable_run
from kerasbalance.experiments.tabular import read_csv, to_csv
from kerasbalance.files import write_file

Curve = NDArray[np.float64]
_EPOCH, _OLD_EPOCH = "epoch", "window"
"""Finished runs of version 0.1 call the epoch so."""
_ABSENT = ("", "NA")
"""No value; unfinished runs of version 0.1 have the second."""


class HistoryFile(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """Writes the file anew at the end of each epoch.

    Args:
        path: The file.
        resumed: Whether the training goes on; rows of earlier epochs are then kept.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        super().__init__()
        self._path, self._resumed = path, resumed
        self._rows: list[dict[str, float]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Read what an earlier process wrote."""
        if (
            self._resumed and self._path.exists() and self._path.stat().st_size
        ):  # 0.1 began with an empty file
            columns = read_history(self._path)
            self._rows = [
                dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
            ]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row; a row of this epoch, from before the last checkpoint was written, is replaced."""
        row = {name: value for key, log in (logs or {}).items() for name, value in _columns(key, log).items()}
        self._rows = [old for old in self._rows if old[_EPOCH] < epoch]
        self._rows.append({_EPOCH: epoch, **row})
        names = dict.fromkeys(name for old in self._rows for name in old if name != _EPOCH)
        columns: dict[str, Sequence[float]] = {
            name: [old.get(name, float("nan")) for old in self._rows] for name in names
        }
        try:
            write_history(self._path, [int(old[_EPOCH]) for old in self._rows], columns)
        except OSError as error:
            raise unwritable_run(error, self._path.parent) from None


def write_history(path: Path, epochs: Sequence[int], columns: dict[str, Sequence[float]]) -> None:
    """Write the file, whole or not at all.

    Args:
        path: The file.
        epochs: Numbers of the epochs, from 0.
        columns: Logs by name, one value an epoch.

    Raises:
        OSError: If it cannot be written.
    """
    write_file(path, to_csv([_EPOCH, *columns], zip(epochs, *columns.values(), strict=True)))


def read_history(path: Path) -> dict[str, Curve]:
    """Read the file, that of a run of version 0.1 as well; where an epoch stands twice its last row counts.

    Returns:
        Columns by name, "epoch" and "loss" among them, float64 `(epochs,)`.

    Raises:
        DataError: If it is malformed (code `REPORT`).
    """
    try:
        rows = read_csv(path)
        names = {_EPOCH if name == _OLD_EPOCH else name: name for name in (rows[0] if rows else ())}
        last = {float(row[names[_EPOCH]]): row for row in rows}
        columns = {new: np.array([_number(row[old]) for row in last.values()]) for new, old in names.items()}
        columns["loss"]  # a history without it is none
    except (OSError, KeyError, ValueError):
        raise DataError("REPORT", "a run without a readable history.csv", "the file that train wrote",
                        "restore it, or train again", path=path) from None  # fmt: skip
    return columns


def _columns(name: str, log: Any) -> dict[str, float]:
    """Return the value of a log; one of several values, such as a Dice of each organ, fills several columns."""
    values = np.asarray(log, np.float64).ravel().tolist()
    return {name: values[0]} if len(values) == 1 else {f"{name}.{i}": value for i, value in enumerate(values)}


def _number(text: str) -> float:
    return float("nan") if text in _ABSENT else float(text)
