"""ZIP archives as untrusted input: unpacked whole into a temporary folder, or refused whole."""

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kerasbalance.data.errors import DataError
from kerasbalance.data.files import open_regular, too_large
from kerasbalance.data.ingest.case import CaseRequest

MAX_ENTRIES = 200_000
MAX_TOTAL_BYTES = 2**36
MAX_RATIO = 200
"""An archive of CT shrinks at most so many times; small ones are not held to it."""
FREE_BYTES = 2**28
_CHUNK_BYTES = 2**20
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    EOFError,
    ValueError,
    FileExistsError,
    NotADirectoryError,
)
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def is_zip(path: Path) -> bool:
    """Return whether a path is a file whose content begins as a ZIP archive."""
    if not os.path.isfile(path):
        return False
    with open_regular(path, max_bytes=MAX_TOTAL_BYTES) as file:
        return file.read(4) in _MAGIC


def named_after(requests: Sequence[CaseRequest], folder: Path, archive: Path) -> tuple[CaseRequest, ...]:
    """Return cases that name the archive as their origin where their CT was unpacked from it into a folder."""
    home, name = os.path.realpath(folder), os.path.realpath(archive)
    places = [Path(os.path.realpath(request.ct)) for request in requests]
    return tuple(
        replace(request, origin=f"{name}!/{place.relative_to(home)}")
        if place.is_relative_to(home)
        else request
        for request, place in zip(requests, places, strict=True)
    )


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Unpack a ZIP archive into a folder that is removed at the end of the block; other paths pass as they are.

    Raises:
        DataError: If an entry has an absolute name, a name with `..`, or is a link (code `UNSAFE_ARCHIVE`), if
            the entries are too many, too large or expand too much (`TOO_LARGE`), or if the archive is damaged or
            encrypted (`MALFORMED`). Nothing of it is used then.
    """
    if not is_zip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kerasbalance-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                _check(entries, os.path.getsize(path), path)
                for entry in entries:
                    _extract(archive, entry, Path(folder), path)
        except DataError:
            raise
        except _DAMAGED as error:
            received = f"a ZIP archive that cannot be unpacked ({type(error).__name__})"
            raise DataError("MALFORMED", received, "an undamaged archive without a password",
                            "unpack it with another program and name the folder", path=path) from None  # fmt: skip
        yield Path(folder)


def _check(entries: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES:
        raise too_large(f"a ZIP archive of {len(entries):,} entries", f"at most {MAX_ENTRIES:,}", path)
    if total > min(MAX_TOTAL_BYTES, max(FREE_BYTES, MAX_RATIO * size)):
        raise too_large(f"{size:,} bytes of ZIP that unpack to {total:,}", f"at most {MAX_RATIO} times", path)
    unsafe = sum(_is_unsafe(entry) for entry in entries)
    if unsafe:
        raise DataError("UNSAFE_ARCHIVE", f"a ZIP archive with {unsafe} links or names that lead out of it",
                        "plain files and folders", "unpack it with another program, check it, and name the folder",
                        path=path)  # fmt: skip


def _is_unsafe(entry: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(entry.filename.replace("\\", "/"))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    leads_out = name.is_absolute() or ".." in name.parts or ":" in entry.filename.split("/")[0]
    return leads_out or kind not in (0, stat.S_IFREG, stat.S_IFDIR)


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, path: Path) -> None:
    target = folder / PurePosixPath(entry.filename.replace("\\", "/"))
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as copy:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise too_large("a ZIP entry longer than it states", "the stated length", path)
            copy.write(chunk)
