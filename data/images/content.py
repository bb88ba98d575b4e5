"""The voxels of an image file, unpacked with a limit: a bomb or a file that was cut off costs no memory."""

import bz2
import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.files import open_regular, too_large
from kerasbalance.data.images.header import ImageHeader, Place, damaged

FREE_BYTES = 64 * 2**20
"""Packed voxels of at most this size may shrink by any factor."""
TRAILING_BYTES = 2**20
MAX_SKIP_BYTES = 64 * 2**20
CHUNK_BYTES = 2**24


class Stream(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none only at the end."""


class _Inflated:
    """Unpacks zlib; raises `EOFError` where the packed bytes end too early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._unpacker = file, zlib.decompressobj()

    def read(self, size: int, /) -> bytes:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read(CHUNK_BYTES)
            if not packed:
                raise EOFError
            if part := self._unpacker.decompress(packed, size):
                return part
        return b""


def unpacked(file: BinaryIO, packing: str) -> Stream:
    """Return a stream of the unpacked bytes from the place of `file` on."""
    if packing == "gzip":
        return cast(Stream, gzip.GzipFile(fileobj=file))
    if packing == "bzip2":
        return cast(Stream, bz2.BZ2File(file))
    return _Inflated(file) if packing == "zlib" else file


def read_content(header: ImageHeader, path: Path, max_ratio: float) -> NDArray[np.uint8]:
    """Read the bytes of the voxels, and what little follows them, so that checksums are tested.

    Args:
        header: The header of the file; its number of voxels was checked.
        path: The file of the header.
        max_ratio: How much packed voxels may grow, unless they are small.

    Raises:
        DataError: If the bytes end too early (`MALFORMED`), or if there is much more than the header says
            (`TOO_LARGE`).
    """
    place, length = header.place, header.dtype.itemsize * int(np.prod(header.sizes, dtype=np.int64))
    with open_regular(place.file or path) as file:
        size = os.fstat(file.fileno()).st_size
        if place.packing and length > max(FREE_BYTES, max_ratio * size):
            raise too_large(f"{size:,} bytes that unpack to {length:,}", f"at most {max_ratio:g} times", path)
        file.seek(max(size - length, 0) if place.begin is None else place.begin)
        return _read(unpacked(file, place.packing), header.form, place, length, path)


def _read(stream: Stream, form: str, place: Place, length: int, path: Path) -> NDArray[np.uint8]:
    if place.skip > MAX_SKIP_BYTES:
        raise damaged(form, f"a {form} header that puts the voxels at byte {place.skip}", path)
    skipped = 0
    while skipped < place.skip and (part := stream.read(place.skip - skipped)):
        skipped += len(part)
    content, done = np.empty(length, np.uint8), 0
    while done < length and (part := stream.read(min(CHUNK_BYTES, length - done))):
        content.data[done : done + len(part)] = part
        done += len(part)
    if done < length:
        raise damaged(form, f"a file that ends after {done:,} of {length:,} bytes of voxels", path)
    rest = 0
    while rest <= TRAILING_BYTES and (part := stream.read(TRAILING_BYTES + 1)):
        rest += len(part)
    if rest > TRAILING_BYTES:
        raise too_large("a file much longer than its header says", f"{length:,} bytes of voxels", path)
    return content
