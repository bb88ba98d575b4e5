"""The headers of MetaImage files (`.mha`, or `.mhd` with its voxels beside it).

Reference:
    MetaIO/Documentation of the Insight Toolkit (https://itk.org/Wiki/ITK/MetaIO/Documentation). Its space is LPS.
"""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasbalance.data.images.header import (
    ImageHeader,
    Place,
    Stated,
    check_count,
    check_dtype,
    damaged,
    not_3d,
    placed,
    unsupported,
)
from kerasbalance.data.images.text_header import MAX_AXES, beside, floats, header_lines
from kerasbalance.data.volume.stated_grid import StatedGrid

_FORM = "MetaImage"
_DTYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_YES = ("true", "1")


def is_metaimage(head: bytes) -> bool:
    """Return whether the first bytes are lines of the form "key = value", of which one is `NDims`."""
    return re.match(rb"(?:[A-Za-z][^\n\0=]*=[^\n\0]*\n)*NDims[ \t]*=", head) is not None


def read_metaimage_header(file: BinaryIO, path: Path, stated: StatedGrid | None) -> ImageHeader:
    """Read and check a MetaImage header; raises as `image.read_image_header`."""
    fields, end = _fields(file, path)
    missing = [name for name in ("dimsize", "elementtype", "elementdatafile") if name not in fields]
    if missing:
        raise damaged(_FORM, f"a MetaImage header without {missing[0]}", path)
    sizes = tuple(int(size) for size in fields["dimsize"].split())
    if not 3 <= len(sizes) <= MAX_AXES or min(sizes) < 1 or any(size != 1 for size in sizes[3:]):
        raise not_3d(_FORM, sizes, path)
    check_count(_FORM, sizes, path)
    place = _stated(fields, len(sizes))
    grid, notes = placed(_FORM, (sizes[2], sizes[1], sizes[0]), place, stated, path)
    return ImageHeader(_FORM, sizes, grid, _dtype(fields, path), _place(fields, end, path), notes=notes)


def _fields(file: BinaryIO, path: Path) -> tuple[dict[str, str], int]:
    """Return the fields by their names in lower case, and the byte that follows the header."""
    fields: dict[str, str] = {}
    for line in header_lines(file, _FORM, path):
        name, equals, value = line.partition("=")
        if not equals and line.strip():
            raise damaged(_FORM, "a MetaImage header with a line that is no field", path)
        fields[name.strip().casefold()] = value.strip()
        if name.strip().casefold() == "elementdatafile":  # the last field
            break
    return fields, file.tell()


def _first(fields: dict[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _stated(fields: dict[str, str], axes: int) -> Stated:
    directions = _first(fields, "transformmatrix", "orientation", "rotation")
    matrix = floats(directions) if directions is not None else np.eye(axes).ravel().tolist()
    origin = floats(_first(fields, "offset", "position", "origin") or " ".join(["0"] * axes))
    spacing = floats(_first(fields, "elementspacing", "elementsize") or " ".join(["1"] * axes))
    if len(matrix) != axes**2 or not len(origin) == len(spacing) == axes:
        return Stated(None, "a MetaImage matrix, offset or spacing that does not fit the image")
    affine = np.eye(4)
    # Each row of the file is the direction of one axis.
    affine[:3, :3] = np.reshape(matrix, (axes, axes))[:3, :3].T * spacing[:3]
    affine[:3, 3] = origin[:3]
    return Stated(affine, "" if directions is not None else "the MetaImage header has no TransformMatrix")


def _dtype(fields: dict[str, str], path: Path) -> "np.dtype[np.generic]":
    code = _DTYPES.get(fields["elementtype"].casefold())
    if int(fields.get("elementnumberofchannels", 1)) != 1:
        code = None
    big = (_first(fields, "elementbyteordermsb", "binarydatabyteordermsb") or "").casefold() in _YES
    return check_dtype(_FORM, np.dtype((">" if big else "<") + code) if code else None, path)


def _place(fields: dict[str, str], end: int, path: Path) -> Place:
    if fields.get("binarydata", "True").casefold() not in _YES:
        raise unsupported(_FORM, "voxels that are stored as text", path)
    if float(fields.get("elementtointensityfunctionslope", 1)) != 1:
        raise unsupported(_FORM, "values that a function turns into intensities", path)
    packing = "zlib" if fields.get("compresseddata", "").casefold() in _YES else ""
    name, skip = fields["elementdatafile"], int(fields.get("headersize", 0))
    if skip < -1 or (skip == -1 and packing):
        raise unsupported(_FORM, f"a header of {skip} bytes before the voxels", path)
    if name.casefold() == "local":
        return Place(end, 0, packing)
    begin = None if skip == -1 else skip
    return Place(begin, 0, packing, beside(name, _FORM, path))
