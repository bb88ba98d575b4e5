"""The headers of NRRD files, with the segments that 3D Slicer writes into `.seg.nrrd`.

Reference:
    Definition of NRRD file format (https://teem.sourceforge.net/nrrd/format.html).
"""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasbalance.data.images.header import (
    ImageHeader,
    Place,
    Segment,
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

_FORM = "NRRD"
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names}
_PACKINGS = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
"""The signs that turn a space into LPS."""
_UNITS_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3}


def is_nrrd(head: bytes) -> bool:
    """Return whether the first bytes are those of a NRRD file."""
    return re.match(rb"NRRD000\d\r?\n", head) is not None


def read_nrrd_header(file: BinaryIO, path: Path, stated: StatedGrid | None) -> ImageHeader:
    """Read and check a NRRD header; raises as `image.read_image_header`."""
    fields, values, end = _fields(file, path)
    missing = [name for name in ("type", "sizes", "encoding") if name not in fields]
    if missing:
        raise damaged(_FORM, f"a NRRD header without {missing[0]}", path)
    sizes = tuple(int(size) for size in fields["sizes"].split())
    if not 3 <= len(sizes) <= MAX_AXES or min(sizes) < 1:
        raise not_3d(_FORM, sizes, path)
    check_count(_FORM, sizes, path)
    steps = _steps(fields, len(sizes))
    spatial = (
        list(range(len(sizes))) if steps is None else [n for n, step in enumerate(steps) if step is not None]
    )
    segments = _segments(values)
    if len(spatial) != 3:
        raise not_3d(_FORM, sizes, path)
    layer_axis = _layer_axis(sizes, spatial, bool(segments), path)
    place = _stated(fields, None if steps is None else [steps[axis] for axis in spatial])
    columns, rows, slices = (sizes[axis] for axis in spatial)
    grid, notes = placed(_FORM, (slices, rows, columns), place, stated, path)
    dtype = check_dtype(_FORM, _dtype(fields, path), path)
    layers = 1 if layer_axis is None else sizes[layer_axis]
    return ImageHeader(_FORM, sizes, grid, dtype, _place(fields, end, path), notes=notes,
                       layer_axis=layer_axis, segments=_checked(segments, layers, path))  # fmt: skip


def _fields(file: BinaryIO, path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Return the fields, the key/value pairs, and the byte that follows the header."""
    fields: dict[str, str] = {}
    values: dict[str, str] = {}
    lines = header_lines(file, _FORM, path)
    next(lines)  # the magic
    for line in lines:
        if not line:
            break
        field = re.match(r"([^:#][^:]*):(?!=)\s*(.*)", line)
        pair = re.match(r"([^:#][^:]*):=(.*)", line)
        if field:
            fields[field[1].strip().casefold().replace(" ", "")] = field[2].strip()
        elif pair:
            values[pair[1]] = pair[2].replace("\\n", "\n").replace("\\\\", "\\")
        elif not line.startswith("#"):
            raise damaged(_FORM, "a NRRD header with a line that is no field", path)
    return fields, values, file.tell()


def _steps(fields: dict[str, str], axes: int) -> list[list[float] | None] | None:
    """Return the step of each axis, None for an axis that has none; None if the file states no steps that fit."""
    if "spacedirections" not in fields:
        return None
    found = re.findall(r"none|\([^)]*\)", fields["spacedirections"])
    steps = [None if each == "none" else floats(each) for each in found]
    if len(steps) != axes or any(step is not None and len(step) != 3 for step in steps):
        return None
    return steps


def _stated(fields: dict[str, str], steps: list[list[float] | None] | None) -> Stated:
    signs = _SPACES.get(fields.get("space", "").casefold())
    if steps is None or signs is None:
        return Stated(None, "a NRRD file that does not state the directions of the body")
    origin = floats(fields.get("spaceorigin", ""))
    if len(origin) != 3:
        return Stated(None, "a NRRD file that does not state the place of its first voxel")
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    scale = {_UNITS_MM.get(unit.strip(), 1.0) for unit in units} or {1.0}
    if len(scale) > 1:
        return Stated(None, "a NRRD file with several units")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.array(steps, float).T, origin
    matrix[:3] *= scale.pop()
    return Stated(np.asarray(np.diag([*signs, 1]) @ matrix))


def _layer_axis(sizes: tuple[int, ...], spatial: list[int], is_segmented: bool, path: Path) -> int | None:
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if len(others) > 1 or (others and not is_segmented):
        raise not_3d(_FORM, sizes, path)
    return others[0] if others else None


def _dtype(fields: dict[str, str], path: Path) -> "np.dtype[np.generic] | None":
    code = _DTYPES.get(fields["type"].casefold())
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").casefold())
    if code is not None and order is None and not code.endswith("1"):
        raise damaged(_FORM, "a NRRD header that does not state the order of the bytes", path)
    return np.dtype((order or "") + code) if code else None


def _place(fields: dict[str, str], end: int, path: Path) -> Place:
    packing = _PACKINGS.get(fields["encoding"].casefold())
    if packing is None:
        raise unsupported(_FORM, "voxels that are stored as text", path)
    if int(fields.get("lineskip", 0)):
        raise unsupported(_FORM, "lines to skip before the voxels", path)
    skip, name = int(fields.get("byteskip", 0)), fields.get("datafile")
    if skip < -1 or (skip == -1 and packing):
        raise unsupported(_FORM, f"{skip} bytes to skip before the voxels", path)
    begin = None if skip == -1 else 0 if name is not None else end
    return Place(begin, max(skip, 0), packing, None if name is None else beside(name, _FORM, path))


def _segments(values: dict[str, str]) -> list[Segment]:
    """Return the segments of 3D Slicer; where it states no layer and no value, each has a layer of its own."""
    numbers = sorted(int(key[7:-3]) for key in values if re.fullmatch(r"Segment\d{1,5}_ID", key))
    segments = []
    for place, number in enumerate(numbers):
        own = {
            key: values.get(f"Segment{number}_{key}", "") for key in ("Name", "LabelValue", "Layer", "Tags")
        }
        terms = re.search(r"TerminologyEntry:([^|]*)", own["Tags"])
        # category, type, ...; each of them scheme, code and meaning
        _, code, meaning, *_ = (
            [*(terms[1].split("~")[2:3] or [""])[0].split("^"), "", ""] if terms else ["", "", ""]
        )
        value, layer = int(own["LabelValue"] or 1), int(own["Layer"] or place)
        segments.append(Segment(own["Name"], value, layer, code, meaning))
    return segments


def _checked(segments: list[Segment], layers: int, path: Path) -> tuple[Segment, ...]:
    if any(not 0 <= segment.layer < layers for segment in segments):
        raise damaged(_FORM, f"a segmentation with {layers} layers and a segment in another one", path)
    return tuple(segments)
