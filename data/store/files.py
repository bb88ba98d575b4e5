"""Files that survive a kill and a full disk: written aside, synced, renamed into place."""

import errno
import os
import stat
import uuid
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.files import sync_folder, write_new

RESERVE_BYTES = 8 * 2**20
"""Free space that cases leave alone, so that the index and the log of refusals can still be written."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_space(folder: Path, size: int) -> None:
    """Refuse to begin writing what does not fit.

    Raises:
        DataError: If fewer than `size` bytes (and a small reserve) are free (code `DISK_FULL`).
    """
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if free < size + RESERVE_BYTES:
        raise disk_full(size, free)


def disk_full(size: int, free: int | None = None) -> DataError:
    """Make the error for a full disk; `free` is unknown where a write failed in the middle."""
    left = "no more space" if free is None else f"{free / 2**20:.0f} MiB free"
    return DataError("DISK_FULL", f"{left} for {size / 2**20:.1f} MiB", "free space on the store's disk",
                     "free space or choose another disk, then run the same command again")  # fmt: skip


def unwritable(error: OSError, size: int = 0, *, path: Path | None = None) -> DataError:
    """Say what the operating system said while a store was written (code `DISK_FULL` or `UNWRITABLE`)."""
    if error.errno in _FULL:
        return disk_full(size)
    return DataError("UNWRITABLE", f"a store that cannot be written ({error.strerror or type(error).__name__})",
                     "a store you may write to", "check its permissions and its disk", path=path)  # fmt: skip


def write_aside(folder: Path, content: bytes | memoryview, *, reserve: bool = True) -> Path:
    """Write a new file under a temporary name in `folder` and sync it; return its path.

    Args:
        folder: Where to.
        content: All of it.
        reserve: Leave `RESERVE_BYTES` free.

    Raises:
        DataError: If the disk is full, or cannot be written (codes `DISK_FULL`, `UNWRITABLE`); nothing is left
            behind.
    """
    path = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        if reserve:
            check_space(folder, len(content))
        write_new(path, content, mode=0o600)
    except OSError as error:
        raise unwritable(error, len(content), path=folder) from None
    return path


def read_file(path: Path) -> bytes:
    """Return a file's content; a pipe in its place does not block.

    Raises:
        OSError: If it cannot be read or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def replace_file(path: Path, content: bytes) -> None:
    """Put a whole new content in place of a file, atomically and durably; small files only.

    Raises:
        DataError: As `write_aside`; the file is as it was, and no other is left.
    """
    aside = write_aside(path.parent, content, reserve=False)
    try:
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise unwritable(error, len(content), path=path) from None
