"""Opening what a user points at: regular files only, bounded sizes, no parser's own exception text.

Readers of masks and of NIfTI CT go through here, because the files are not trusted: a FIFO would block for
ever, a link may lead out of the folder, and the text of a parser's exception may quote a name or an
identifier.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kerasbalance.data.errors import DataError, Note

MAX_FILE_BYTES = 4 * 2**30
MAX_FILES = 200_000


@dataclass(frozen=True)
class SourceFile:
    """A plain file below a folder, named in messages by its number in name order.

    Args:
        path: Where it lies.
        number: Its place in name order, from 1.
        count: How many plain files there are.
        size: Bytes.
    """

    path: Path
    number: int
    count: int
    size: int

    @property
    def where(self) -> str:
        """The file as a message names it, without its name."""
        return f"file {self.number} of {self.count}"


@dataclass(frozen=True)
class Listing:
    """The direct content of a folder in natural name order, without hidden entries.

    Args:
        files: Regular files, and links to regular files inside the folder.
        folders: Real folders.
        skipped: How many entries were neither (FIFOs, sockets, devices, links that lead out or nowhere).
    """

    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    skipped: int


def open_regular(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a regular file for reading; anything else is refused without blocking.

    Raises:
        DataError: If the file is not there or not permitted (`UNREADABLE`), is not a regular file (`NOT_REGULAR`),
            or is larger than `max_bytes` (`TOO_LARGE`).
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "an impossible name"
        raise DataError(
            "UNREADABLE", reason.lower(), "a readable file", "check the path and its permissions", path=path
        ) from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
        return os.fdopen(handle, "rb")
    os.close(handle)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            "NOT_REGULAR",
            "something that is not a regular file",
            "a file",
            "name a file or a folder",
            path=path,
        )
    raise too_large(f"a file of {status.st_size:,} bytes", f"at most {max_bytes:,}", path)


def read_regular(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file; raises as `open_regular`."""
    with open_regular(path, max_bytes=max_bytes) as stream:
        # A buffered read allocates what it is asked for, so it is asked for the file's size.
        return stream.read(min(max_bytes, os.fstat(stream.fileno()).st_size))


def too_large(received: str, expected: str, path: Path | None) -> DataError:
    """Make the error for input that would take more memory than any real series needs."""
    return DataError(
        "TOO_LARGE", received, expected, "check the file: it may be damaged or made to fill memory", path=path
    )


@contextmanager
def malformed(what: str, path: Path | None = None) -> Iterator[None]:
    """Turn whatever a parser throws into a `DataError`, without the parser's text.

    Args:
        what: What was being read, e.g. `"a DICOM file"`.
        path: The file, for callers that may show it.

    Raises:
        DataError: If the parser fails (code `MALFORMED`), or if memory runs out (`TOO_LARGE`). A `DataError` passes
            unchanged.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise too_large(f"{what} that does not fit in memory", "one that does", path) from None
    except Exception as error:
        raise DataError(
            "MALFORMED",
            f"{what} that cannot be read ({type(error).__name__})",
            "an undamaged file",
            "fetch or export the file again",
            path=path,
        ) from None


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Order names as people count: `image_2` before `image_10`; letters without regard to case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p)) if p[0] in "0123456789" else (1, p.casefold()) for p in parts)


def list_folder(folder: Path) -> Listing:
    """List a folder without following links out of it.

    Raises:
        DataError: If it cannot be listed (`UNREADABLE`) or holds more than `MAX_FILES` (`TOO_MANY_FILES`).
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (natural_key(entry.name), entry.name))
        root = folder.resolve()
    except (OSError, RuntimeError, ValueError):
        raise DataError(
            "UNREADABLE",
            "a folder that cannot be listed",
            "a readable folder",
            "check its permissions",
            path=folder,
        ) from None
    if len(entries) > MAX_FILES:
        raise _too_many(folder)
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    files = tuple(entry for entry in visible if _is_inside_file(entry, root))
    folders = tuple(entry for entry in visible if entry.is_dir() and not entry.is_symlink())
    return Listing(files, folders, len(visible) - len(files) - len(folders))


def _is_inside_file(entry: Path, root: Path) -> bool:
    try:
        return entry.is_file() and (not entry.is_symlink() or entry.resolve().is_relative_to(root))
    except (OSError, RuntimeError):
        return False


def list_files(root: Path) -> tuple[list[SourceFile], list[Note]]:
    """List the plain files at or below `root` in natural name order.

    Links are not followed; FIFOs, sockets, devices and links are counted in a note.

    Raises:
        DataError: If `root` does not exist, cannot be read, or holds more than `MAX_FILES` files.
    """
    try:
        mode = os.stat(root).st_mode
        found, skipped = _walk(root) if stat.S_ISDIR(mode) else ([root], 0)
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            found, skipped = [], 1
        found.sort(key=lambda path: (natural_key(str(path.relative_to(root))), str(path)))
        sizes = [os.stat(path, follow_symlinks=path == root).st_size for path in found]
    except DataError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "an impossible name"
        raise DataError(
            "UNREADABLE",
            f"a source that cannot be read ({reason})",
            "an existing, readable file or folder",
            "check the path and its permissions",
            path=root,
        ) from None
    count = len(found)
    files = [
        SourceFile(path, n, count, size) for n, (path, size) in enumerate(zip(found, sizes, strict=True), 1)
    ]
    notes = [Note("NOT_REGULAR", f"{skipped} links, pipes or devices skipped")] if skipped else []
    return files, notes


def _walk(root: Path) -> tuple[list[Path], int]:
    found: list[Path] = []
    skipped = 0
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found.append(Path(entry.path))
                else:
                    skipped += 1
                if len(found) + skipped + len(folders) > MAX_FILES:
                    raise _too_many(root)
    return found, skipped


def _too_many(folder: Path) -> DataError:
    return DataError(
        "TOO_MANY_FILES",
        f"more than {MAX_FILES} files",
        "the folder of one data set",
        "name a smaller folder",
        path=folder,
    )
