"""Files that survive a kill and a full disk: written aside, synced, renamed into place."""

import os
import uuid
from pathlib import Path

from kerasbalance.data.errors import DataError

RESERVE_BYTES = 8 * 2**20
"""Free space that is left alone, so that the index and the log of refusals can still be written."""


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_space(folder: Path, size: int) -> None:
    """Refuse to begin writing what does not fit.

    Raises:
        DataError: fewer than `size` bytes (and a small reserve) are free (code `DISK_FULL`).
    """
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if free < size + RESERVE_BYTES:
        raise disk_full(size, free)


def disk_full(size: int, free: int | None = None) -> DataError:
    """Make the error for a full disk; `free` is unknown where a write failed in the middle."""
    left = "no more space" if free is None else f"{free / 2**20:.0f} MiB free"
    return DataError("DISK_FULL", f"{left} for {size / 2**20:.0f} MiB", "free space on the store's disk",
                     "free space or choose another disk, then run the same command again")  # fmt: skip


def write_aside(folder: Path, content: bytes | memoryview) -> Path:
    """Write a new file under a temporary name in `folder` and sync it; return its path.

    Raises:
        DataError: the disk is full (code `DISK_FULL`); nothing is left behind.
    """
    check_space(folder, len(content))
    path = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise disk_full(len(content)) from None
        raise
    return path


def replace_file(path: Path, content: bytes) -> None:
    """Put a whole new content in place of a file, atomically and durably."""
    os.replace(write_aside(path.parent, content), path)
    sync_folder(path.parent)


_FULL = {27, 28, 122}
"""EFBIG, ENOSPC, EDQUOT."""
