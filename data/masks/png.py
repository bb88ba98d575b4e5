"""Masks as a stack of PNG images, one for each slice.

A PNG says nothing about where it lies, so its slice must be stated by the user or proved by equal file names.
Rows and columns are taken as those of the canonical image (`geometry`), which for axial CT is the stored one.

Reference:
    PNG specification, third edition, section 11.2.1 (IHDR).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed, natural_key, read_regular
from kerasbalance.data.ingest.organ_check import hu_spread
from kerasbalance.data.masks.label_map import LabelMap
from kerasbalance.data.masks.mask import Request

MAX_PNG_BYTES = 2**28
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORDERS = ("z-ascending", "z-descending", "file")

_GREY = 0
_STEPS = {1: 255, 2: 85, 4: 17}
"""Pillow stretches 2- and 4-bit grey to 0..255; this undoes it."""
_KNOWN_ENDINGS = (".png", ".dcm", ".dicom", ".ima")

Planes = NDArray[np.uint16]


def is_png(head: bytes) -> bool:
    """Return whether the first bytes are those of a PNG file."""
    return head.startswith(SIGNATURE)


def load_png(paths: Sequence[Path], request: Request) -> LabelMap:
    """Read a PNG stack in the order that is stated or proved.

    Args:
        paths: The files in natural name order.
        request: The CT, and `png_order`: `"z-ascending"` or `"z-descending"` (the first file is the lowest or
            the highest slice), or `"file"` (the files correspond one to one to the CT's, both in natural name
            order), or None where the PNG files bear the names of the CT's.

    Raises:
        DataError: If the order is neither stated nor provable, or stated against the names (`PNG_ORDER`), other counts
            (`PNG_COUNT`) or size (`GEOMETRY`) than the CT's, colours (`PNG_COLOUR`), or damaged
            (`MALFORMED`).
    """
    grid = request.volume.grid
    if len(paths) != grid.shape[0]:
        raise DataError(
            "PNG_COUNT",
            f"{len(paths)} PNG files for {grid.shape[0]} slices",
            "one PNG for each slice of the CT",
            "check that nothing is missing, or give the mask as NIfTI or DICOM SEG",
        )
    stack = np.empty((len(paths), *grid.shape[1:]), np.uint16)
    for number, path in enumerate(paths):
        data = read_regular(path, max_bytes=MAX_PNG_BYTES)
        stack[number] = _decode(data, grid.shape[1:], path, f"file {number + 1} of {len(paths)}")
    order = _order(paths, stack, request)
    text = "PNG rows and columns were taken as those of the CT's image: columns to the left, rows to the back"

    def planes() -> Iterator[NDArray[Any]]:
        return (stack[number] for number in order)

    return LabelMap(planes, grid, "png", (Note("PNG_ORIENTATION", text),))


def _decode(data: bytes, shape: tuple[int, int], path: Path, where: str) -> Planes:
    with malformed("a PNG file", path):
        if not is_png(data) or data[12:16] != b"IHDR":
            raise ValueError("no PNG")
        columns, rows, depth, colour = struct.unpack(">IIBB", data[16:26])
    if (rows, columns) != shape:
        raise DataError(
            "GEOMETRY",
            f"a PNG of {rows} x {columns} pixels",
            f"{shape[0]} x {shape[1]}, as in the CT",
            "give the mask as NIfTI or DICOM SEG if it was cropped or turned",
            path=path,
            where=where,
        )
    with malformed("a PNG file", path), PIL.Image.open(BytesIO(data), formats=["PNG"]) as image:
        frames = getattr(image, "n_frames", 1)
        values = np.asarray(image)
    if values.ndim == 3:
        values = _one_channel(values, path, where)
    if frames != 1:
        raise _colour("an animated PNG", path, where)
    if colour == _GREY and values.dtype != bool:
        values = values // _STEPS.get(depth, 1)
    return values.astype(np.uint16)


def _one_channel(values: NDArray[Any], path: Path, where: str) -> NDArray[Any]:
    alpha = values.shape[2] in (2, 4)
    colours = values[:, :, :-1] if alpha else values
    if (colours != colours[:, :, :1]).any() or (alpha and (values[:, :, -1] != 255).any()):
        raise _colour("a PNG with colours or transparency", path, where)
    first: NDArray[Any] = colours[:, :, 0]
    return first


def _colour(received: str, path: Path, where: str) -> DataError:
    return DataError(
        "PNG_COLOUR",
        received,
        "grey values or palette indices that are label numbers",
        "convert the colours to label numbers first",
        path=path,
        where=where,
    )


def _order(paths: Sequence[Path], stack: Planes, request: Request) -> list[int]:
    """Return which PNG belongs to each slice of the CT."""
    count = len(paths)
    ascending = list(range(count))
    proved = _by_stem(paths, request.volume.identity.file_names)
    makers: dict[str, Callable[[], list[int]]] = {
        "z-ascending": lambda: ascending,
        "z-descending": lambda: ascending[::-1],
        "file": lambda: _by_file(request.volume.identity.file_names, count),
    }
    if request.png_order is None:
        if proved is None:
            raise _unknown_order(stack, request)
        return proved
    stated = makers[request.png_order]()
    if proved is not None and proved != stated:
        raise DataError(
            "PNG_ORDER",
            f"--png-order {request.png_order}, but the PNG files bear the CT files' names in another order",
            "an order that agrees with the names",
            "leave out --png-order",
        )
    return stated


def _by_file(names: Sequence[str], count: int) -> list[int]:
    if len(names) != count:
        raise DataError(
            "PNG_ORDER",
            "--png-order file for a CT that is not one file per slice",
            "a DICOM series",
            "state --png-order z-ascending or z-descending",
        )
    ranked = sorted(range(count), key=lambda number: (natural_key(names[number]), names[number]))
    order = [0] * count
    for place, slice_number in enumerate(ranked):
        order[slice_number] = place
    return order


def _by_stem(paths: Sequence[Path], names: Sequence[str]) -> list[int] | None:
    """Return the order that equal stems prove, or None."""
    ours = {_stem(path.name): number for number, path in enumerate(paths)}
    theirs = [_stem(name) for name in names]
    if len(ours) != len(paths) or len(theirs) != len(paths) or set(theirs) != set(ours):
        return None
    return [ours[stem] for stem in theirs]


def _stem(name: str) -> str:
    name = name.casefold()
    return next((name.removesuffix(e) for e in _KNOWN_ENDINGS if name.endswith(e)), name)


def _unknown_order(stack: Planes, request: Request) -> DataError:
    """Make the error that shows what either order would give: the right one has the smaller HU spread."""
    spreads: list[str] = []
    has_files = len(request.volume.identity.file_names) == request.volume.grid.shape[0]
    for marks in (stack > 0, stack[::-1] > 0):
        (spread,) = hu_spread(request.volume.hu, marks.astype(np.uint8), ("marked",))
        spreads.append(f"{spread.iqr:.0f}" if spread.voxels else "unknown")
    return DataError(
        "PNG_ORDER",
        "a PNG stack that does not say which image is which slice; the interquartile range of HU inside the "
        f"mask would be {spreads[0]} with z-ascending and {spreads[1]} with z-descending",
        "an order (the right one has the smaller range, for an organ of one tissue)",
        "pass --png-order z-ascending or z-descending" + (", or file" if has_files else ""),
    )
