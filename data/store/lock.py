"""The right to write a store: one process at a time; the lock frees itself when that process ends."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import unwritable


@contextlib.contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the store at `path` inside the block.

    Raises:
        DataError: If another process holds it, or the folder cannot be written or locked (codes `LOCKED`,
            `UNWRITABLE`).
    """
    try:
        descriptor = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise unwritable(error, path=path) from None
    try:
        _lock(descriptor, path)
        # Only a courtesy to who finds the lock taken, so a full disk does not matter.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        with contextlib.suppress(OSError):  # closed in any case, and nothing of worth was written to it
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        raise DataError("LOCKED", f"a store that is being written by {holder or 'another process'}",
                        "no other ingest on this store",
                        "wait until it ends; the lock frees itself") from None  # fmt: skip
    except OSError as error:
        raise DataError("UNWRITABLE", f"a store that cannot be locked ({error.strerror})",
                        "a file system with file locks", "put the store on a local disk",
                        path=path) from None  # fmt: skip


def _holder(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 200, 0).decode("ascii", "replace")
    except OSError:
        return ""
