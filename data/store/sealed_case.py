"""One case as one sealed HDF5 file: built in memory, checked, hashed, and never changed once it is in place.

`FORMAT.md` describes the file for other programs. Image chunks are stored without a filter and side by side, so
that a reader may map them. The last bytes of the file, which HDF5 does not look at, are the hash of all others:
a damaged file can make HDF5 hang or read something else, so no byte is parsed before they were compared.
"""

import hashlib
import io
import math
from dataclasses import dataclass, replace

import h5py
import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import FORMAT_VERSION, CaseFacts, Entry, dump_facts, load_facts
from kerasbalance.data.store.hdf5 import chunk_table, create_case, fits, image_range, open_case, unpack

_SEAL = b"kerasbalance case sha256 "
_SEAL_BYTES = len(_SEAL) + 64
_LEVEL = 2
"""Of deflate for masks: with zlib-ng smaller than at zlib's level 1, in a fifth of its time."""


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """The arrays of a case.

    Args:
        image: int16 `(slices, rows, columns)`, HU.
        mask: uint8, same shape; 0 background, i + 1 for the i-th organ.
        depth_mm: float64 `(slices,)`, position along the normal relative to the first slice.
        uids: SOPInstanceUIDs by slice, and series, study and frame of reference; empty unless asked for.
        mask_ct: uint8 `(slices, *facts.ct_plane)`, the labels before the slices were shaped; None where they were not.
    """

    image: NDArray[np.int16]
    mask: NDArray[np.uint8]
    depth_mm: NDArray[np.float64]
    uids: tuple[str, ...] = ()
    mask_ct: NDArray[np.uint8] | None = None


def build_case(facts: CaseFacts, arrays: CaseArrays) -> tuple[Entry, memoryview]:
    """Write a case to memory and read it back.

    Returns:
        Its index entry, whose facts are complete, and the bytes of the file; the same case gives the same bytes.

    Raises:
        DataError: If what was read back differs (code `DAMAGED`); this means broken memory or a broken library.
    """
    image, mask = np.ascontiguousarray(arrays.image, "<i2"), np.ascontiguousarray(arrays.mask, "u1")
    crc = np.array([[zlib_ng.crc32(i), zlib_ng.crc32(m)] for i, m in zip(image, mask, strict=True)], "<u4")
    positive = count_positive(mask, len(facts.organs))
    tables = (crc, arrays.depth_mm.astype("<f8"), positive)
    facts = replace(
        facts,
        positive_slices=tuple((positive > 0).sum(axis=0).tolist()),
        image_digest=_digest(facts.spacing_mm, crc[:, 0]),
        label_digest=_digest(facts.organs, crc[:, 1]),
        tables_crc32=_tables_crc(*tables),
    )
    buffer = io.BytesIO()
    with create_case(buffer) as file:
        file.attrs["format"] = f"kerasbalance case {FORMAT_VERSION}"
        file.attrs["facts"] = dump_facts(facts)
        _write_image(file, image)
        _write_mask(file, "mask", mask)
        if arrays.mask_ct is not None:
            _write_mask(file, "mask_ct", np.ascontiguousarray(arrays.mask_ct, "u1"))
        file["slice_crc32"], file["z_mm"], file["positive_pixels"] = tables
        if arrays.uids:
            file["uids"] = list(arrays.uids)
    whole = append_seal(buffer)
    content = buffer.getbuffer()
    return _check_sealed(content, whole, buffer), content


def append_seal(buffer: io.BytesIO) -> str:
    """Append the hash of an HDF5 file to it; return the hash of the whole."""
    digest = hashlib.sha256(buffer.getbuffer())
    seal = _SEAL + digest.hexdigest().encode()
    digest.update(seal)
    buffer.seek(0, io.SEEK_END)
    buffer.write(seal)
    return digest.hexdigest()


def _write_image(file: h5py.File, image: NDArray[np.int16]) -> None:
    # Early allocation puts all chunks side by side; h5py's high-level call cannot ask for it.
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, *image.shape[1:]))
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(image.shape)
    dataset = h5py.h5d.create(file.id, b"image", h5py.h5t.STD_I16LE, space, layout)
    for number, plane in enumerate(image):
        dataset.write_direct_chunk((number, 0, 0), plane)


def _write_mask(file: h5py.File, name: str, mask: NDArray[np.uint8]) -> None:
    shape = mask.shape
    options = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": _LEVEL}
    dataset = file.create_dataset(name, shape=shape, dtype="u1", **options).id
    empty = zlib_ng.compress(bytes(mask[0].nbytes), _LEVEL)
    for number, plane in enumerate(mask):
        packed = zlib_ng.compress(plane, _LEVEL) if plane.any() else empty
        dataset.write_direct_chunk((number, 0, 0), packed)


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
        crc = zlib_ng.crc32(table.tobytes(), crc)
    return crc


def check_case(content: memoryview | bytes) -> Entry:
    """Check a case's file from its own seal and checksums alone and return its index entry.

    Raises:
        DataError: If it is not a case or some byte of it is wrong (codes `DAMAGED`, `UNSAFE`).
    """
    view = memoryview(content)
    whole = _check_seal(view)
    # A BytesIO of bytes makes no copy of them.
    return _check_sealed(view, whole, io.BytesIO(view.obj if isinstance(view.obj, bytes) else view))


def _check_sealed(view: memoryview, whole: str, source: io.BytesIO) -> Entry:
    """Read back a file whose bytes, in `view` and in `source`, are known to have the hash `whole`."""
    try:
        with open_case(source) as file:
            facts = load_facts(str(file.attrs["facts"]))
            if not fits(file, facts):
                raise ValueError("sizes")
            chunks = image_range(file["image"])
            _check_arrays(file, facts, view, chunks)
    except DataError:
        raise
    except Exception as error:  # HDF5 raises anything on damaged files
        kind = type(error).__name__
        raise damaged(f"a case file that does not agree with its checksums ({kind})") from None
    outside = hashlib.sha256(view[: chunks[0]])
    outside.update(view[chunks[1] :])
    return Entry(facts, len(view), whole, chunks, outside.hexdigest())


def _check_seal(view: memoryview) -> str:
    """Compare a file with the hash at its end; return the hash of the whole file."""
    digest = hashlib.sha256(view[:-_SEAL_BYTES])
    if view[-_SEAL_BYTES:] != _SEAL + digest.hexdigest().encode():
        raise damaged("a case file with changed or missing bytes")
    digest.update(view[-_SEAL_BYTES:])
    return digest.hexdigest()


def _check_arrays(file: h5py.File, facts: CaseFacts, view: memoryview, chunks: tuple[int, int]) -> None:
    crc, depth, positive = (file[name][()] for name in ("slice_crc32", "z_mm", "positive_pixels"))
    if _tables_crc(crc, depth, positive) != facts.tables_crc32:
        raise ValueError("tables")
    pixels = facts.rows * facts.columns
    images, masks = view[slice(*chunks)], chunk_table(file["mask"], gzipped=True)
    for number in range(facts.slices):
        image = images[number * 2 * pixels : (number + 1) * 2 * pixels] if images else file["image"][number]
        if masks is None:
            mask = file["mask"][number]
        else:
            start, size = masks[number].tolist()
            mask = unpack(view[start : start + size], pixels)
        if [zlib_ng.crc32(image), zlib_ng.crc32(mask)] != crc[number].tolist():
            raise ValueError("slice")
    if facts.ct_plane is not None:
        for start, size in np.asarray(chunk_table(file["mask_ct"], gzipped=True)).tolist():
            unpack(view[start : start + size], math.prod(facts.ct_plane))
