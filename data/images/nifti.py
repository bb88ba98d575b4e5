"""The headers of NIfTI files, which nibabel interprets.

Reference:
    NIfTI-1.1 and NIfTI-2 data format standards (https://nifti.nimh.nih.gov).
"""

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np

from kerasbalance.data.errors import Note
from kerasbalance.data.files import malformed
from kerasbalance.data.images.content import Stream, unpacked
from kerasbalance.data.images.header import (
    ImageHeader,
    Place,
    Stated,
    check_count,
    check_dtype,
    damaged,
    not_3d,
    placed,
)
from kerasbalance.data.volume.geometry import RAS_TO_LPS, Array, Grid
from kerasbalance.data.volume.stated_grid import StatedGrid

_FORM = "NIfTI"
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = {348: 352, 540: 544}
_TO_MM = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def is_nifti(head: bytes) -> bool:
    """Return whether the first bytes are a NIfTI header, or gzip that unpacks to one."""
    if head[:2] == _GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 540)
        except zlib.error:
            return False
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def read_nifti_header(file: BinaryIO, path: Path, stated: StatedGrid | None) -> ImageHeader:
    """Read and check a NIfTI header; raises as `image.read_image_header`."""
    packing = "gzip" if file.read(2) == _GZIP else ""
    file.seek(0)
    head, header = _raw_header(unpacked(file, packing), path)
    sizes = _sizes(header, path)
    check_count(_FORM, sizes, path)
    dtype = check_dtype(_FORM, np.dtype(header.get_data_dtype()), path)
    slope, intercept = header.get_slope_inter()
    grid, notes = _grid(header, (sizes[2], sizes[1], sizes[0]), stated, path)
    offset = int(header["vox_offset"]) or len(head)
    if offset < len(head):
        raise damaged(_FORM, f"a NIfTI header that puts the voxels at byte {offset}", path)
    slope, intercept = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    return ImageHeader(_FORM, sizes, grid, dtype, Place(0, offset, packing), slope, intercept, notes)


def _raw_header(stream: Stream, path: Path) -> tuple[bytes, Any]:
    head = stream.read(352)
    if head[4:8] == b"n+2\0":
        head += stream.read(544 - 352)
        kind = nibabel.Nifti2Header
    elif head[344:348] == b"n+1\0":
        kind = nibabel.Nifti1Header
    elif head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise damaged(_FORM, "one half of a NIfTI pair (.hdr and .img)", path)
    else:
        raise damaged(_FORM, "a file without a NIfTI header", path)
    header = kind(head[: kind.template_dtype.itemsize], check=False)
    # A wrong byte-order guess by nibabel shows as an impossible sizeof_hdr; a damaged file as well.
    if int(header["sizeof_hdr"]) not in _HEADER_BYTES:
        raise damaged(_FORM, "a damaged NIfTI header", path)
    return head, header


def _sizes(header: Any, path: Path) -> tuple[int, int, int]:
    dim = [int(n) for n in header["dim"]]
    sizes = dim[1 : dim[0] + 1] if 1 <= dim[0] <= 7 else []
    if len(sizes) < 3 or any(n != 1 for n in sizes[3:]) or min(sizes) < 1:
        raise not_3d(_FORM, tuple(sizes), path)
    return sizes[0], sizes[1], sizes[2]


def _grid(
    header: Any, shape: tuple[int, int, int], stated: StatedGrid | None, path: Path
) -> tuple[Grid, tuple[Note, ...]]:
    sform, qform = _forms(header, path)
    affine = sform if sform is not None else qform
    if affine is None:
        lacking = Stated(None, "a NIfTI file whose sform and qform codes are both 0")
        return placed(_FORM, shape, lacking, stated, path)
    scale = _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    with np.errstate(all="ignore"):  # what is not finite is refused
        to_lps = RAS_TO_LPS @ np.diag([scale, scale, scale, 1.0]) @ affine
    grid, remarks = placed(_FORM, shape, Stated(to_lps), stated, path)
    notes = [*remarks]
    if scale != 1.0:
        notes.append(Note("UNITS", "the NIfTI header gives positions in another unit; they were taken in mm"))
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=0.01):
        notes.append(Note("FORMS", "sform and qform of the NIfTI header disagree; the sform was used"))
    return grid, tuple(notes)


def _forms(header: Any, path: Path) -> tuple[Array | None, Array | None]:
    with malformed("a NIfTI orientation", path), np.errstate(all="ignore"):
        return header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
