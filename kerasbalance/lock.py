"""The right to write into a folder: one process at a time. Readers need none."""

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path

NAME, MARK = "LOCK", "LOCK.held"
"""The file that is locked, and the file that stands for the lock where the file system has no locks."""
NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What a file system without `flock` answers, such as some network and cluster file systems."""


class FolderInUse(BlockingIOError):
    """Another process writes into the folder.

    Args:
        holder: Who it is, for instance "process 12 on node3"; empty where that is not known.
        mark: The file that stands for the lock on a file system without locks, else None. It stays if its process
            is killed, and may be deleted when no such process runs any more.
    """

    def __init__(self, holder: str, mark: Path | None = None) -> None:
        super().__init__(errno.EWOULDBLOCK, f"in use by {holder or 'another process'}")
        self.holder = holder or "another process"
        self.mark = mark

    @property
    def advice(self) -> str:
        """What the user can do."""
        if self.mark is None:
            return "wait until it ends; the lock is then free"
        return f"wait until it ends; if no such process runs any more, delete the file {MARK} in that folder"


class FolderLock:
    """Holds the lock of a folder until `release` is called, the object is gone, or the process ends.

    Where the file system has no `flock`, a file that is created exclusively serves. A mark that a process of this
    machine left behind when it was killed is removed.

    Args:
        folder: The folder, which exists.

    Raises:
        FolderInUse: If another process holds it.
        OSError: If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(folder / NAME, flags, 0o600)
        try:
            mark = _lock(descriptor, folder / MARK)
        except BaseException:
            os.close(descriptor)
            raise
        self.release = weakref.finalize(self, _release, descriptor, mark, os.getpid())


def _lock(descriptor: int, mark: Path) -> Path | None:
    """Lock an open file, or create the mark; return the mark where it serves."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(_text(descriptor)) from None
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        _create(mark)
        return mark
    with contextlib.suppress(OSError):  # the name only helps who finds the lock taken; the disk may be full
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _own_name().encode(), 0)
    return None


def _create(mark: Path) -> None:
    for attempt in range(2):
        try:
            descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            holder = mark.read_text(errors="replace")[:200]
            if attempt or not _is_dead(holder):
                raise FolderInUse(holder, mark) from None
            mark.unlink(missing_ok=True)
            continue
        os.write(descriptor, _own_name().encode())
        os.close(descriptor)
        return


def _is_dead(holder: str) -> bool:
    """Say whether a holder was a process of this machine that does not run any more."""
    number, _, host = holder.removeprefix("process ").partition(" on ")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, as another user
        return False
    return False


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _text(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 200, 0).decode("ascii", "replace")
    except OSError:
        return ""


def _release(descriptor: int, mark: Path | None, owner: int) -> None:
    with contextlib.suppress(OSError):  # closed in any case, and nothing of worth was written to it
        if os.getpid() == owner:  # a process that was forked off ends without freeing the lock
            os.ftruncate(descriptor, 0)
            if mark is not None:
                mark.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.close(descriptor)
