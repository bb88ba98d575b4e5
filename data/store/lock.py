"""The right to write a store: one process at a time; the lock frees itself when that process ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import unwritable
from kerasbalance.lock import FolderInUse, FolderLock


@contextlib.contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the store at `path` inside the block.

    Raises:
        DataError: If another process holds it, or the folder cannot be written or locked (codes `LOCKED`,
            `UNWRITABLE`).
    """
    try:
        lock = FolderLock(path)
    except FolderInUse as error:
        raise DataError("LOCKED", f"a store that is being written by {error.holder}",
                        "no other ingest on this store", error.advice) from None  # fmt: skip
    except OSError as error:
        raise unwritable(error, path=path) from None
    try:
        yield
    finally:
        lock.release()
