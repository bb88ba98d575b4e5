"""Headers of lines of text, as NRRD and MetaImage have them: bounded, and led by no path out of their folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kerasbalance.data.errors import DataError
from kerasbalance.data.images.header import damaged, unsupported

MAX_HEADER_BYTES = 2**20
MAX_AXES = 16
_SEVERAL_FILES = re.compile(r"LIST\b|.*%\d*d", re.IGNORECASE)


def header_lines(file: BinaryIO, form: str, path: Path) -> Iterator[str]:
    """Yield each line of a header without its end; `file` stands behind the line.

    Raises:
        DataError: If the lines go on for more than `MAX_HEADER_BYTES` (code `MALFORMED`).
    """
    done = 0
    while line := file.readline(MAX_HEADER_BYTES - done):
        done += len(line)
        if done >= MAX_HEADER_BYTES:
            raise damaged(form, f"a header of more than {MAX_HEADER_BYTES:,} bytes", path)
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def floats(text: str) -> list[float]:
    """Return numbers that blanks, commas or brackets separate."""
    return [float(number) for number in re.split(r"[\s,()]+", text) if number]


def beside(name: str, form: str, path: Path) -> Path:
    """Return the file that a header names, which must lie in the folder of the header or below it.

    Raises:
        DataError: If the header names several files or one that lies elsewhere (code `MALFORMED`), or if the file is
            not there (`UNREADABLE`).
    """
    if _SEVERAL_FILES.match(name):
        raise unsupported(form, "voxels in several files", path)
    home = os.path.realpath(path.parent)
    target = Path(os.path.realpath(os.path.join(home, name.strip())))
    if "\0" in name or not target.is_relative_to(home):
        raise DataError("MALFORMED", f"a {form} header that names a file in another folder", "a file beside the header",
                        "put both files in one folder, and the bare name into the header", path=path)  # fmt: skip
    if not target.is_file():
        raise DataError("UNREADABLE", f"a {form} header whose file of voxels is not beside it", "both files",
                        "copy both files into one folder", path=path)  # fmt: skip
    return target
