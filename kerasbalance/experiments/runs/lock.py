"""The right to write into a run's folder: one process at a time. The lock frees itself when that process ends."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.files import remove_leftovers
from kerasbalance.lock import FolderInUse, FolderLock
from kerasbalance.training.checkpoint import DISK_FULL


def lock_run(folder: Path) -> FolderLock:
    """Lock a run's folder until `release` is called on what is returned; readers need no lock.

    Unfinished files that a killed process left in it are removed.

    Args:
        folder: The run's folder, which exists.

    Raises:
        DataError: If another process trains this run, or the folder cannot be written or locked (codes `LOCKED`,
            `UNWRITABLE`).
    """
    try:
        lock = FolderLock(folder)
        remove_leftovers(folder)
        return lock
    except FolderInUse as error:
        raise DataError("LOCKED", f"a run that another process trains ({error.holder})", "one process a run",
                        f"{error.advice}, or choose another --out", path=folder) from None  # fmt: skip
    except OSError as error:
        raise DataError("UNWRITABLE", f"a run's folder that cannot be written or locked ({error.strerror})",
                        "a folder you may write to", "choose another --out", path=folder) from None  # fmt: skip


def unwritable_run(error: OSError, folder: Path) -> DataError:
    """Make the error for a file of a run that cannot be written (code `DISK_FULL` or `UNWRITABLE`)."""
    return DataError("DISK_FULL" if error.errno in DISK_FULL else "UNWRITABLE",
                     f"a file of the run that could not be written ({os.strerror(error.errno or 0)})",
                     "room for two checkpoints in the run's folder", "make room and go on with train "
                     "--resume; the last checkpoint that was written is whole", path=folder)  # fmt: skip


def failed_callback(error: OSError, callbacks: Sequence[Any]) -> DataError | None:
    """Make the error for an error of the operating system that came out of a callback (code `CALLBACK`).

    Args:
        error: The error.
        callbacks: The callbacks that may be to blame.

    Returns:
        None if it came from elsewhere.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if any(owner is callback for callback in callbacks):
            name, reason = type(owner).__name__, error.strerror or type(error).__name__
            return DataError("CALLBACK", f"the callback {name}, which failed during the training ({reason})",
                             "a callback that ends without an error", "correct what it reads or writes and go on with "
                             "train --resume; the last checkpoint is whole")  # fmt: skip
    return None
