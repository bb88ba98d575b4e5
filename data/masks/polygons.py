"""Filling polygons by the even-odd rule at pixel centres."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.files import too_large
from kerasbalance.data.volume.geometry import Array

MAX_CROSSINGS = 20_000_000


def fill_even_odd(polygons: Sequence[Array], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels whose centre lies inside an odd number of polygons.

    Holes, keyholes and islands in holes come out right whatever the order and direction of the polygons.
    Coordinates are not rounded, so the area is that of the polygons on average. A centre on an edge belongs
    to the polygon if the edge is a left or upper one, so polygons side by side share no pixel. The cost grows
    with the vertices and the rows that they span, not with their product by the area.

    Args:
        polygons: float64 `(vertices, 2)` each, `(row, column)` with pixel centres at whole numbers, finite;
            the last vertex is joined to the first.
        shape: `(rows, columns)`. What lies outside is cut off.

    Returns:
        bool `(rows, columns)`; all False without polygons.

    Raises:
        DataError: If there are more than `MAX_CROSSINGS` crossings of edges and rows (code `TOO_LARGE`).
    """
    rows, columns = shape
    toggles = np.zeros(rows * (columns + 1), np.int64)
    for polygon in polygons:
        row, column = _crossings(polygon, rows)
        # A crossing turns every pixel from there on to the right over.
        first = np.clip(np.ceil(column), 0, columns).astype(np.int64)
        toggles += np.bincount(row * (columns + 1) + first, minlength=len(toggles))
    inside = np.cumsum(toggles.reshape(rows, columns + 1), axis=1)[:, :-1] & 1
    return inside.astype(bool)


def _crossings(polygon: Array, rows: int) -> tuple[NDArray[np.int64], Array]:
    """Return where the edges cross the centre lines of the rows: row numbers and columns."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(low), 0, rows).astype(np.int64)
    stop = np.clip(np.ceil(high), 0, rows).astype(np.int64)
    lengths = stop - first
    total = int(lengths.sum())
    if total > MAX_CROSSINGS:
        raise too_large(f"a contour that crosses {total:,} pixel rows", f"at most {MAX_CROSSINGS:,}", None)
    edge = np.repeat(np.arange(len(polygon)), lengths)
    row = first[edge] + np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    share = (row - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
    return row, start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
