"""Slices that a reviewer took out of training: a list by case and slice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.tabular import read_csv


def read_exclusions(path: Path, store: SliceStore) -> NDArray[np.int64]:
    """Return the slice refs that a CSV with the columns `case` and `slice` names.

    Args:
        path: the list; further columns are ignored. `case` is a key of the store, whole or its first digits.
        store: the store.

    Returns:
        int64, ascending, each once; empty for a list without rows.

    Raises:
        DataError: the list cannot be read, or names a case or slice that the store does not have (code
            `EXCLUDE`; the row is named).
    """
    try:
        rows = [(row["case"].strip(), int(row["slice"])) for row in read_csv(path)]
    except (OSError, KeyError, ValueError):
        raise _wrong("a list that cannot be read", path) from None
    refs = [_ref(store, number, key, position, path) for number, (key, position) in enumerate(rows, 1)]
    return np.unique(np.asarray(refs, np.int64))


def _ref(store: SliceStore, number: int, key: str, position: int, path: Path) -> int:
    found = [n for n, case in enumerate(store.cases) if key and case.key.startswith(key)]
    if len(found) != 1 or not 0 <= position < store.cases[found[0]].slices:
        raise _wrong(f"row {number}, which names no slice of the run's cases", path)
    return int(store.first_ref[found[0]]) + position


def _wrong(received: str, path: Path) -> DataError:
    return DataError("EXCLUDE", received, "a CSV with the columns case and slice, as mine writes it",
                     "correct --exclude", path=path)  # fmt: skip
