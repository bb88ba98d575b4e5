"""One process writes into a folder, with the locks of the file system or without them."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from kerasbalance.lock import MARK, NO_FLOCK, FolderInUse, FolderLock


@pytest.fixture(params=["flock", *sorted(NO_FLOCK)])
def system(request, monkeypatch):
    """A file system with locks, or one that answers with an error number."""

    def without_locks(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    if request.param != "flock":
        monkeypatch.setattr(fcntl, "flock", without_locks)


@pytest.mark.usefixtures("system")
def test_a_folder_is_locked_once_until_it_is_released(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()} on "):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()
    assert not (tmp_path / MARK).exists()


@pytest.mark.usefixtures("system")
def test_a_lock_that_nobody_refers_to_any_more_is_free(tmp_path):
    lock = FolderLock(tmp_path)
    del lock
    FolderLock(tmp_path).release()


def test_without_locks_the_advice_names_the_mark_of_a_process_elsewhere(tmp_path, monkeypatch):
    def without_locks(descriptor, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    (tmp_path / MARK).write_text("process 1 on another-machine")
    with pytest.raises(FolderInUse, match="in use by process 1 on another-machine") as caught:
        FolderLock(tmp_path)
    assert "delete the file LOCK.held" in caught.value.advice


CHILD = """
import fcntl, os, signal, sys
from pathlib import Path
from kerasbalance.lock import FolderLock
def without_locks(descriptor, operation):
    raise OSError(38, "Function not implemented")
if sys.argv[2] == "without":
    fcntl.flock = without_locks
lock = FolderLock(Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("locks", ["with", "without"])
def test_a_lock_is_free_after_its_process_was_killed(tmp_path, locks, monkeypatch):
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), locks], check=False)
    assert done.returncode == -9
    assert (tmp_path / MARK).exists() == (locks == "without")
    if locks == "without":
        monkeypatch.setattr(
            fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks"))
        )
    FolderLock(tmp_path).release()


def test_other_errors_of_locking_are_told_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(
        fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    )
    with pytest.raises(OSError, match="Input/output error"):
        FolderLock(tmp_path)
