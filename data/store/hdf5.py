"""HDF5 as cases use it: opened only for what a case may hold, its chunks found by byte offset."""

import io
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from kerasbalance.data.store.damage import unsafe
from kerasbalance.data.store.facts import CaseFacts

MAX_CHUNK_BYTES = 64 * 2**20
MAX_GROWTH = 2000
"""What is stored compressed may grow so many times; deflate cannot do more than 1032."""

_TABLES = {"slice_crc32", "z_mm", "positive_pixels", "uids"}
_NEEDED = {"image", "mask", "slice_crc32", "z_mm", "positive_pixels"}
_OPTIONAL = {"mask_ct", "uids"}


def create_case(buffer: io.BytesIO) -> h5py.File:
    """Open a new HDF5 file in memory whose bytes depend on nothing but what is written into it."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # HDF5 stamps the root group with the time of day otherwise
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, buffer)
    return h5py.File(h5py.h5f.create(b"case", h5py.h5f.ACC_TRUNC, creation, access))


@contextmanager
def open_case(source: io.BytesIO | mmap.mmap) -> Iterator[h5py.File]:
    """Open a case's bytes for reading and refuse what a case never holds.

    Bytes, not a path: what HDF5 parses is then exactly what was hashed.

    Raises:
        DataError: If there are links out of the file, foreign storage or absurd sizes (code `UNSAFE`).
        OSError, RuntimeError: If HDF5 cannot read the file.
    """
    size = source.seek(0, io.SEEK_END) if isinstance(source, io.BytesIO) else len(source)
    with h5py.File(source, "r") as file:
        names = {name for name, _ in zip(file, range(len(_NEEDED | _OPTIONAL) + 1), strict=False)}
        if not _NEEDED <= names <= _NEEDED | _OPTIONAL:
            raise unsafe("other content than a case")
        for name in sorted(names):
            _check_member(file, name, size)
        yield file


def _check_member(file: h5py.File, name: str, file_size: int) -> None:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise unsafe("a link or group")
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise unsafe("data outside the file")
    # NumPy's product would wrap around for a shape of 2**32 x 2**32.
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    most = file_size if name in _TABLES else MAX_GROWTH * stored + 2**20
    if stored > file_size or declared > most or chunk > MAX_CHUNK_BYTES:
        raise unsafe("an absurd size")


def fits(file: h5py.File, facts: CaseFacts) -> bool:
    """Return whether the arrays have the sizes and types that the facts state."""
    volume = (facts.slices, facts.rows, facts.columns)
    wanted = {
        "image": (volume, np.dtype("i2")),
        "mask": (volume, np.dtype("u1")),
        "slice_crc32": ((facts.slices, 2), np.dtype("u4")),
        "z_mm": ((facts.slices,), np.dtype("f8")),
        "positive_pixels": ((facts.slices, len(facts.organs)), np.dtype("i4")),
    }
    if facts.ct_plane is not None:
        wanted["mask_ct"] = ((facts.slices, *facts.ct_plane), np.dtype("u1"))
    elif "mask_ct" in file:
        return False
    return min(volume) > 0 and all(
        name in file and file[name].shape == shape and file[name].dtype == dtype
        for name, (shape, dtype) in wanted.items()
    )


def chunk_table(dataset: h5py.Dataset, *, gzipped: bool = False) -> NDArray[np.int64] | None:
    """Return int64 `(slices, 2)`: byte offset and size of each slice's chunk, None for any other layout.

    Args:
        dataset: Three-dimensional, its sizes checked.
        gzipped: Whether the chunks must be gzip streams; otherwise they must be plain.
    """
    slices, rows, columns = dataset.shape
    filters = dataset.id.get_create_plist().get_nfilters()
    if (
        dataset.chunks != (1, rows, columns)
        or filters != gzipped
        or (dataset.compression == "gzip") != gzipped
    ):
        return None
    table = np.full((slices, 2), -1, np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.filter_mask == 0:  # else HDF5 left a filter out for this chunk
            table[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(note)
    plain = table[:, 1] == rows * columns * dataset.dtype.itemsize
    return table if (table >= 0).all() and (gzipped or plain.all()) else None


def unpack(packed: memoryview, size: int) -> bytes:
    """Inflate one chunk of a mask.

    Raises:
        ValueError: If it is no whole deflate stream of `size` bytes.
    """
    inflating = zlib_ng.decompressobj()
    try:
        plain: bytes = inflating.decompress(packed, size)
        rest = b"" if inflating.eof else inflating.decompress(inflating.unconsumed_tail, 1)
    except zlib_ng.error:  # type: ignore[misc]  # untyped
        raise ValueError("a chunk that cannot be inflated") from None
    if not inflating.eof or len(plain) != size or rest:
        raise ValueError("a chunk that cannot be inflated to its size")
    return plain


def image_range(dataset: h5py.Dataset) -> tuple[int, int]:
    """Return the first and past-the-last byte of the chunks where they are plain and side by side, else `(0, 0)`."""
    offsets = chunk_table(dataset)
    if offsets is None:
        return 0, 0
    start, size = offsets[0].tolist()
    together = np.array_equal(offsets[:, 0], start + size * np.arange(len(offsets)))
    return (start, start + size * len(offsets)) if together else (0, 0)
