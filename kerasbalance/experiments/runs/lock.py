"""The right to write into a run's folder: one process at a time. The lock frees itself when that process ends."""

from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.lock import FolderInUse, FolderLock


def lock_run(folder: Path) -> FolderLock:
    """Lock a run's folder until `release` is called on what is returned; readers need no lock.

    Args:
        folder: The run's folder, which exists.

    Raises:
        DataError: If another process trains this run, or the folder cannot be written or locked (codes `LOCKED`,
            `UNWRITABLE`).
    """
    try:
        return FolderLock(folder)
    except FolderInUse as error:
        raise DataError("LOCKED", f"a run that another process trains ({error.holder})", "one process a run",
                        f"{error.advice}, or choose another --out", path=folder) from None  # fmt: skip
    except OSError as error:
        raise DataError("UNWRITABLE", f"a run's folder that cannot be written or locked ({error.strerror})",
                        "a folder you may write to", "choose another --out", path=folder) from None  # fmt: skip
