"""Files that are whole or absent, also after a crash or a power cut."""

import os
from collections.abc import Callable
from pathlib import Path

_PART = ".part-"
LEFTOVERS = (f"{_PART}*.*", "?" * 32 + ".tmp", ".*.part", ".model.keras")
"""Names of unfinished files, those of version 0.1 among them."""


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write every byte to a descriptor; one call of the system may take only a part of them."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_new(path: Path, content: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write a file that is not there yet and flush it to disk.

    Args:
        path: the file; its folder must exist.
        content: all of it.
        mode: its permissions, before the umask.

    Raises:
        OSError: If it exists or cannot be written; a file that was begun is removed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`: readers see the old file or the new one, never a part of either.

    Raises:
        OSError: If it cannot be written; the old file is untouched and nothing is left beside it.
    """
    write_by(path, lambda part: write_new(part, content))


def write_by(path: Path, write: Callable[[Path], object]) -> None:
    """Put at `path` what a function writes: readers see the old file or the new one, never a part of either.

    Args:
        path: The file.
        write: Called with the path to write to, which has the same suffix and does not exist yet.

    Raises:
        OSError: If it cannot be written; the old file is untouched and nothing is left beside it.
    """
    part = path.with_name(f"{_PART}{os.getpid()}.{path.name}")
    part.unlink(missing_ok=True)  # left by a killed process of the same number
    try:
        write(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in a folder.

    Call it with the right to write into the folder.

    Raises:
        OSError: If one cannot be removed.
    """
    for pattern in LEFTOVERS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
