"""Which files a folder holds, without ever opening what is not a plain file."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.errors import DataError, Note

MAX_FILES = 200_000


@dataclass(frozen=True)
class SourceFile:
    """A plain file below a folder, named in messages by its number in name order.

    Args:
        path: where it lies.
        number: its place in name order, from 1.
        count: how many plain files there are.
        size: bytes.
    """

    path: Path
    number: int
    count: int
    size: int

    @property
    def where(self) -> str:
        """How a message names the file without its name."""
        return f"file {self.number} of {self.count}"


def natural_key(name: str) -> tuple[object, ...]:
    """Sort `image_2` before `image_10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((1, int(part), "") if n % 2 else (0, 0, part.casefold()) for n, part in enumerate(parts))


def list_files(root: Path) -> tuple[list[SourceFile], list[Note]]:
    """List the plain files at or below `root` in natural name order.

    Links are not followed; FIFOs, sockets, devices and links are counted in a note.

    Raises:
        DataError: `root` does not exist, cannot be read, or holds more than `MAX_FILES` files.
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
                    raise DataError(
                        "TOO_MANY_FILES",
                        f"more than {MAX_FILES} files",
                        "the folder of one data set",
                        "name a smaller folder",
                        path=root,
                    )
    return found, skipped
