"""One case as one sealed HDF5 file: built in memory, checked, hashed, and never changed once it is in place.

`FORMAT.md` describes the file for other programs. Image chunks are stored without a filter and side by side, so
that a reader may map them; an HDF5 file is parsed only after its bytes were compared with their hash.
"""

import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.facts import FORMAT_VERSION, CaseFacts, Entry, dump_facts, load_facts

MAX_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """The arrays of a case.

    Args:
        image: int16 `(slices, rows, columns)`, HU.
        mask: uint8, same shape; 0 background, i + 1 for the i-th organ.
        depth_mm: float64 `(slices,)`, position along the normal relative to the first slice.
        uids: SOPInstanceUIDs by slice, and series, study and frame of reference; empty unless asked for.
    """

    image: NDArray[np.int16]
    mask: NDArray[np.uint8]
    depth_mm: NDArray[np.float64]
    uids: tuple[str, ...] = ()


def build_case(facts: CaseFacts, arrays: CaseArrays) -> tuple[Entry, memoryview]:
    """Write a case to memory and read it back.

    Returns:
        Its index entry, whose facts are complete, and the bytes of the file.

    Raises:
        DataError: what was read back differs (code `DAMAGED`); this means broken memory or a broken library.
    """
    crc = np.array(
        [[zlib.crc32(i), zlib.crc32(m)] for i, m in zip(arrays.image, arrays.mask, strict=True)], "u4"
    )
    positive = count_positive(arrays.mask, len(facts.organs))
    tables = (crc, arrays.depth_mm.astype("f8"), positive)
    facts = replace(
        facts,
        positive_slices=tuple((positive > 0).sum(axis=0).tolist()),
        image_digest=_digest(facts.spacing_mm, crc[:, 0]),
        label_digest=_digest(facts.organs, crc[:, 1]),
        tables_crc32=_tables_crc(*tables),
    )
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = f"kerasbalance case {FORMAT_VERSION}"
        file.attrs["facts"] = dump_facts(facts)
        _write_image(file, arrays.image)
        _write_mask(file, arrays.mask)
        file["slice_crc32"], file["z_mm"], file["positive_pixels"] = tables
        if arrays.uids:
            file["uids"] = list(arrays.uids)
    content = buffer.getbuffer()
    return check_case(content), content


def _write_image(file: h5py.File, image: NDArray[np.int16]) -> None:
    # Early allocation puts all chunks side by side; h5py's high-level call cannot ask for it.
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, *image.shape[1:]))
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(image.shape)
    dataset = h5py.h5d.create(file.id, b"image", h5py.h5t.STD_I16LE, space, layout)
    for number, plane in enumerate(image.astype("<i2", copy=False)):
        dataset.write_direct_chunk((number, 0, 0), np.ascontiguousarray(plane))


def _write_mask(file: h5py.File, mask: NDArray[np.uint8]) -> None:
    shape = mask.shape
    options = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1}
    dataset = file.create_dataset("mask", shape=shape, dtype="u1", **options).id
    empty = zlib.compress(bytes(mask[0].nbytes), 1)
    for number, plane in enumerate(mask):
        dataset.write_direct_chunk(
            (number, 0, 0), zlib.compress(plane.tobytes(), 1) if plane.any() else empty
        )


def count_positive(mask: NDArray[np.uint8], organs: int) -> NDArray[np.int32]:
    """Return int32 `(slices, organs)`: pixels of each organ on each slice."""
    counts = np.zeros((len(mask), organs), np.int32)
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        for organ in range(organs):
            counts[number, organ] = np.count_nonzero(mask[number] == organ + 1)
    return counts


def _digest(facts: tuple[object, ...], checksums: NDArray[np.uint32]) -> str:
    return hashlib.sha256(repr(facts).encode() + checksums.tobytes()).hexdigest()


def _tables_crc(*tables: NDArray[np.generic]) -> int:
    crc = 0
    for table in tables:
        crc = zlib.crc32(table.tobytes(), crc)
    return crc


def check_case(content: memoryview | bytes) -> Entry:
    """Check a case's file from its own checksums alone and return its index entry.

    Raises:
        DataError: it is not a case or some byte that matters is wrong (code `DAMAGED`).
    """
    try:
        with open_case(io.BytesIO(content)) as file:
            facts = load_facts(str(file.attrs["facts"]))
            crc, depth, positive = (file[name][()] for name in ("slice_crc32", "z_mm", "positive_pixels"))
            if _tables_crc(crc, depth, positive) != facts.tables_crc32 or len(crc) != facts.slices:
                raise ValueError("tables")
            image_range = _image_range(file["image"])
            for number in range(facts.slices):
                image = _image_bytes(content, image_range, facts.slices, number) or file["image"][number]
                if [zlib.crc32(image), zlib.crc32(file["mask"][number])] != crc[number].tolist():
                    raise ValueError("slice")
    except DataError:
        raise
    except Exception as error:  # HDF5 raises anything on damaged files
        raise damaged(
            f"a case file that does not agree with its checksums ({type(error).__name__})"
        ) from None
    return seal(facts, content, image_range)


def _image_bytes(
    content: memoryview | bytes, image_range: tuple[int, int], slices: int, number: int
) -> memoryview | None:
    start, stop = image_range
    size = (stop - start) // slices
    return memoryview(content)[start + number * size : start + (number + 1) * size] if size else None


def seal(facts: CaseFacts, content: memoryview | bytes, image_range: tuple[int, int]) -> Entry:
    """Hash the bytes of a case's file."""
    view = memoryview(content)
    start, stop = image_range
    return Entry(
        facts,
        len(view),
        hashlib.sha256(view).hexdigest(),
        image_range,
        hashlib.sha256(bytes(view[:start]) + bytes(view[stop:])).hexdigest(),
    )


def damaged(received: str, *, where: str | None = None, path: Path | None = None) -> DataError:
    """Make the error for a case that is not what was stored."""
    return DataError("DAMAGED", received, "the case as it was ingested",
                     "run kerasbalance verify, then ingest the source again", where=where, path=path)  # fmt: skip


def _image_range(dataset: h5py.Dataset) -> tuple[int, int]:
    offsets = chunk_table(dataset)
    if offsets is None:
        return 0, 0
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    start = int(offsets[0, 0])
    together = np.array_equal(offsets[:, 0], start + size * np.arange(len(offsets)))
    return (start, start + size * len(offsets)) if together else (0, 0)


def chunk_table(dataset: h5py.Dataset, *, filtered: bool = False) -> NDArray[np.int64] | None:
    """Return int64 `(slices, 2)`: byte offset and size of each slice's chunk, None for any other layout.

    Args:
        dataset: three-dimensional.
        filtered: whether the chunks may be (gzip-)compressed.
    """
    slices, rows, columns = dataset.shape
    if dataset.chunks != (1, rows, columns) or (dataset.compression and not filtered):
        return None
    if (
        dataset.shuffle
        or dataset.fletcher32
        or dataset.scaleoffset
        or dataset.compression not in (None, "gzip")
    ):
        return None
    table = np.full((slices, 2), -1, np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        table[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(note)
    return table if (table >= 0).all() else None


@contextmanager
def open_case(source: Path | io.BytesIO) -> Iterator[h5py.File]:
    """Open a case's file for reading and refuse what a case never holds.

    Raises:
        DataError: links out of the file, foreign storage or absurd sizes (code `UNSAFE`).
        OSError, RuntimeError: HDF5 cannot read it.
    """
    with h5py.File(source, "r") as file:
        for name in file:
            _check_member(file, name)
        yield file


def _check_member(file: h5py.File, name: str) -> None:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise _unsafe("a link or group")
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise _unsafe("data outside the file")
    chunk = int(np.prod(dataset.chunks or (1,))) * dataset.dtype.itemsize
    stored = max(dataset.id.get_storage_size(), 1)
    if chunk > MAX_CHUNK_BYTES or dataset.nbytes > 2000 * stored + 2**20:
        raise _unsafe("an absurd size")


def _unsafe(what: str) -> DataError:
    return DataError("UNSAFE", f"an HDF5 file with {what}", "a case that kerasbalance wrote",
                     "remove it from the store's cases folder")  # fmt: skip
