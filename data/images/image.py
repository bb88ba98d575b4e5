"""NIfTI files: a bounded reader for CT and masks.

nibabel interprets the header; the voxels are read here, after the declared shape was checked, so that neither
a huge declared shape nor a gzip bomb takes memory.

Reference:
    NIfTI-1.1 and NIfTI-2 data format standards (https://nifti.nimh.nih.gov).
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed, open_regular, too_large
from kerasbalance.data.volume.geometry import RAS_TO_LPS, Array, Grid
from kerasbalance.data.volume.volume import MAX_VOXELS

FREE_BYTES = 64 * 2**20
TRAILING_BYTES = 2**20
CHUNK_BYTES = 2**24

_SNIFF_BYTES = 4096
_HEADER_BYTES = {348: 352, 540: 544}
_TO_MM = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a NIfTI header says; it was checked, and no voxel was read yet.

    Args:
        grid: Where the voxels lie, LPS millimetres, in the file's axis order.
        dtype: The type of the stored values.
        offset: The byte at which the voxels begin.
        slope: What a stored value is multiplied with; 1.0 where the header gives none.
        intercept: What is added afterwards.
        notes: What was tolerated.
    """

    grid: Grid
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    notes: tuple[Note, ...]


@dataclass(frozen=True, eq=False)
class StoredImage:
    """The voxels of a NIfTI file as stored, and where they lie.

    Args:
        stored: `(slices, rows, columns)` in the file's axis order and data type; read-only.
        slope: What a stored value is multiplied with; 1.0 where the header gives none.
        intercept: What is added afterwards.
        grid: Where the voxels lie, LPS millimetres, not yet canonical.
        notes: What was tolerated.
    """

    stored: NDArray[Any]
    slope: float
    intercept: float
    grid: Grid
    notes: tuple[Note, ...]

    @property
    def is_scaled(self) -> bool:
        """Whether slope or intercept change the stored values."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def slices(self) -> Iterator[NDArray[Any]]:
        """Return the `(rows, columns)` slices with slope and intercept applied (float64 where they matter)."""
        return map(self.plane, range(self.stored.shape[0]))

    def plane(self, number: int) -> NDArray[Any]:
        """Return one of the slices that `slices` yields."""
        plane: NDArray[Any] = self.stored[number]
        return plane * self.slope + self.intercept if self.is_scaled else plane


def is_image(head: bytes) -> bool:
    """Say whether the first bytes are a NIfTI header, or gzip that unpacks to one.

    Args:
        head: At least the first 540 bytes of the file, or all of it.
    """
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 540)
        except zlib.error:
            return False
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def read_image(path: Path, *, max_voxels: int = MAX_VOXELS, max_ratio: float = math.inf) -> StoredImage:
    """Read a `.nii` or `.nii.gz` file.

    Args:
        path: The file.
        max_voxels: A header that declares more is refused before any voxel is read.
        max_ratio: A compressed file that would grow more than this is refused before that, unless it is
            small.

    Raises:
        DataError: If it is not a regular file, no NIfTI, truncated or damaged (`MALFORMED`), too large (`TOO_LARGE`),
            not 3D numbers (`NOT_3D`, `NOT_NUMBERS`), or without usable geometry (`NO_GEOMETRY`).
    """
    with open_regular(path) as file, malformed("a NIfTI file", path):
        size = os.fstat(file.fileno()).st_size
        stream = _unpacked(file)
        head, header = _read_header(stream, path, max_voxels)
        count = math.prod(header.grid.shape)
        length = count * header.dtype.itemsize
        if stream is not file and length > max(FREE_BYTES, max_ratio * size):
            raise too_large(f"{size:,} bytes that unpack to {length:,}", f"at most {max_ratio:g} times", path)
        content = _read_content(stream, head, header.offset, length, path)
    stored = np.frombuffer(content, header.dtype, count, header.offset).reshape(header.grid.shape)
    return StoredImage(stored, header.slope, header.intercept, header.grid, header.notes)


def read_image_header(path: Path) -> ImageHeader:
    """Read and check the header of a `.nii` or `.nii.gz` file; its voxels are not unpacked.

    Raises:
        DataError: As `read_image`, except for what only the voxels show.
    """
    with open_regular(path) as file, malformed("a NIfTI file", path):
        return _read_header(_unpacked(file), path, MAX_VOXELS)[1]


def begins_as_image(path: Path) -> bool:
    """Say whether the content of a file begins with a NIfTI header, packed or not.

    Raises:
        DataError: If it is not a readable regular file.
    """
    with open_regular(path) as file:
        return is_image(file.read(_SNIFF_BYTES))


def _unpacked(file: BinaryIO) -> BinaryIO:
    """Return the file, or a stream that unpacks it where it is gzip."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file


def _not_nifti(received: str, path: Path) -> DataError:
    return DataError(
        "MALFORMED",
        received,
        "a single-file NIfTI (.nii or .nii.gz)",
        "convert the image to .nii.gz",
        path=path,
    )


def _read_header(stream: BinaryIO, path: Path, max_voxels: int) -> tuple[bytes, ImageHeader]:
    head, header = _raw_header(stream, path)
    shape, dtype = _shape(header, path), _dtype(header, path)
    count = math.prod(shape)
    if count > max_voxels:
        raise too_large(f"a NIfTI header that declares {count:,} voxels", f"at most {max_voxels:,}", path)
    slope, intercept = header.get_slope_inter()
    grid, notes = _grid(header, shape, path)
    offset = int(header["vox_offset"]) or len(head)
    slope, intercept = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    return head, ImageHeader(grid, dtype, offset, slope, intercept, notes)


def _raw_header(stream: BinaryIO, path: Path) -> tuple[bytes, Any]:
    head = stream.read(352)
    if head[4:8] == b"n+2\0":
        head += stream.read(544 - 352)
        kind = nibabel.Nifti2Header
    elif head[344:348] == b"n+1\0":
        kind = nibabel.Nifti1Header
    elif head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise _not_nifti("one half of a NIfTI pair (.hdr and .img)", path)
    else:
        raise _not_nifti("a file without a NIfTI header", path)
    header = kind(head[: kind.template_dtype.itemsize], check=False)
    # A wrong byte-order guess by nibabel shows as an impossible sizeof_hdr; a damaged file as well.
    if int(header["sizeof_hdr"]) not in _HEADER_BYTES:
        raise _not_nifti("a damaged NIfTI header", path)
    return head, header


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    dim = [int(n) for n in header["dim"]]
    sizes = dim[1 : dim[0] + 1] if 1 <= dim[0] <= 7 else []
    if len(sizes) < 3 or any(n != 1 for n in sizes[3:]) or min(sizes) < 1:
        raise DataError(
            "NOT_3D",
            f"a NIfTI image of shape {tuple(sizes)}",
            "three dimensions",
            "split a time series into one file per volume",
            path=path,
        )
    columns, rows, slices = sizes[:3]
    return slices, rows, columns


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(
            "NOT_NUMBERS",
            f"NIfTI voxels of type {dtype}",
            "integers, or floats of 32 or 64 bits",
            "convert the image to int16 (CT) or uint8 (mask)",
            path=path,
        )
    return dtype


def _read_content(stream: BinaryIO, head: bytes, offset: int, length: int, path: Path) -> NDArray[np.uint8]:
    """Read `offset + length` bytes and what little follows, so that gzip's checksum is tested."""
    if not len(head) <= offset <= TRAILING_BYTES * 64:
        raise _not_nifti(f"a NIfTI header that puts the voxels at byte {offset}", path)
    content = np.empty(offset + length, np.uint8)
    content[: len(head)] = np.frombuffer(head, np.uint8)
    view, done = content.data, len(head)
    while done < len(content):
        part = stream.read(min(CHUNK_BYTES, len(content) - done))
        if not part:
            raise _not_nifti(f"a file that ends after {done:,} of {len(content):,} bytes", path)
        view[done : done + len(part)] = part
        done += len(part)
    if len(stream.read(TRAILING_BYTES + 1)) > TRAILING_BYTES:
        raise too_large("a file much longer than its header says", f"{len(content):,} bytes", path)
    return content


def _grid(header: Any, shape: tuple[int, int, int], path: Path) -> tuple[Grid, tuple[Note, ...]]:
    sform, qform = _forms(header, path)
    affine = sform if sform is not None else qform
    if affine is None:
        raise no_geometry("a NIfTI file whose sform and qform codes are both 0", path)
    if not np.isfinite(affine).all():
        raise no_geometry("a NIfTI affine that is not finite", path)
    is_placeholder = _is_placeholder(affine)
    scale = _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    affine = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ affine
    _check_affine(affine, path)
    notes = []
    if is_placeholder:
        text = "the NIfTI header is a placeholder (voxels of 1 x 1 x 1 mm, the first one at the origin): orientation "
        notes.append(
            Note(
                "PLACEHOLDER", text + "and millimetres are unknown, so left and right may be exchanged", True
            )
        )
    if scale != 1.0:
        notes.append(Note("UNITS", "the NIfTI header gives positions in another unit; they were taken in mm"))
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=0.01):
        notes.append(Note("FORMS", "sform and qform of the NIfTI header disagree; the sform was used"))
    return Grid.from_affine(shape, affine), tuple(notes)


def _is_placeholder(affine: Array) -> bool:
    """Whether a matrix is what programs write who know no positions: one voxel a millimetre, from the origin on."""
    return bool(np.array_equal(np.abs(affine), np.eye(4)))


def _forms(header: Any, path: Path) -> tuple[Array | None, Array | None]:
    with malformed("a NIfTI orientation", path), np.errstate(all="ignore"):
        return header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]


def _check_affine(affine: Array, path: Path) -> None:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if steps.min() < 1e-3 or steps.max() > 1e3 or np.abs(affine[:3, 3]).max() > 1e6:
        raise no_geometry(f"voxel steps of {np.round(steps, 4).tolist()} mm in a NIfTI affine", path)
    if abs(np.linalg.det(affine[:3, :3] / steps)) < 0.1:
        raise no_geometry("a NIfTI affine whose axes are not independent", path)


def no_geometry(received: str, path: Path) -> DataError:
    """Make the error for a NIfTI file that does not say where its voxels lie."""
    return DataError(
        "NO_GEOMETRY",
        received,
        "an affine that says where each voxel lies, in mm",
        "convert the image again from its DICOM series",
        path=path,
    )
