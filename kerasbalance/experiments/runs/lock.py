"""The right to write into a run's folder: one process at a time. The lock frees itself when that process ends."""

import fcntl
import os
import weakref
from pathlib import Path

from kerasbalance.data.errors import DataError

NAME = "LOCK"


class RunLock:
    """Holds the lock of a run's folder from its making until `release`; readers need none.

    Args:
        folder: The run's folder, which exists.

    Raises:
        DataError: If another process trains this run, or the folder cannot be written or locked (codes `LOCKED`,
            `UNWRITABLE`).
    """

    def __init__(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable("be written", error, folder) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise DataError("LOCKED", "a run that another process trains", "one process a run",
                                "wait until it ends, or choose another --out", path=folder) from None  # fmt: skip
            raise _unwritable("be locked", error, folder) from None
        self.release = weakref.finalize(self, os.close, descriptor)


def _unwritable(what: str, error: OSError, folder: Path) -> DataError:
    return DataError("UNWRITABLE", f"a run's folder that cannot {what} ({error.strerror})",
                     "a folder you may write to, on a file system with file locks",
                     "choose another --out, for instance on a local disk", path=folder)  # fmt: skip
