"""How the closed contours of one ROI on one slice combine: holes, islands, crossings and repetitions.

DICOM leaves it open how contours of one ROI that lie in or on each other combine, unless their type is
CLOSEDPLANAR_XOR. Here a contour inside another one is a hole, one inside the hole an island, and so on;
contours that cross each other, as two strokes over one organ do, unite; a repeated contour counts once. A
contour inside another one that runs along its line is another stroke and no hole: a hole there would have been
drawn as a notch.

Reference:
    DICOM PS3.3 section C.8.8.6.3 (Representing Inner and Outer Contours).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from kerasbalance.data.files import too_large
from kerasbalance.data.masks.polygons import fill_even_odd
from kerasbalance.data.volume.geometry import Array

NEAR_PIXELS = 0.25
"""What two contours differ by within this distance of their lines is drawing, and not a crossing."""
SHARED_LINE = 0.25
"""A contour inside another one crosses it if it runs along its line for more than this share of its length."""
SAMPLE_PIXELS = 0.1
MAX_LENGTH_PIXELS = 200_000
MAX_CONTOURS_OF_SLICE = 4_000

Plane = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Combined:
    """The pixels of one ROI on one slice.

    Args:
        inside: bool `(rows, columns)`.
        crossing: How many contours cross another one; they were united.
        repeated: How many contours repeat another one; they were left out.
    """

    inside: Plane
    crossing: int = 0
    repeated: int = 0


@dataclass(frozen=True, eq=False)
class _Area:
    """The pixels of one contour in its own window, and those that are not too near its line to decide by.

    Args:
        line: float64 `(vertices, 2)`, the contour.
        corner: Row and column of the window's first pixel.
        filled: bool, the pixels inside the contour.
        near: bool, the pixels near the line.
    """

    line: Array
    corner: NDArray[np.int64]
    filled: Plane
    near: Plane

    @property
    def end(self) -> NDArray[np.int64]:
        return self.corner + self.filled.shape

    def window(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[Plane, Plane]:
        place = tuple(slice(a, b) for a, b in zip(low - self.corner, high - self.corner, strict=True))
        return self.filled[place], self.near[place]


def combine(polygons: Sequence[Array], shape: tuple[int, int]) -> Combined:
    """Fill the contours of one ROI on one slice.

    The order and the direction of the contours do not matter, nor do their first points. Two contours are the
    same, or one lies inside the other, if this holds for all pixels that are more than `NEAR_PIXELS` from both
    lines, so contours may touch.

    Args:
        polygons: As in `polygons.fill_even_odd`.
        shape: `(rows, columns)`.

    Raises:
        DataError: If there are more than `MAX_CONTOURS_OF_SLICE` contours, or too long ones (code `TOO_LARGE`).
    """
    if len(polygons) > MAX_CONTOURS_OF_SLICE:
        received = f"{len(polygons):,} contours of one ROI on one slice"
        raise too_large(received, f"at most {MAX_CONTOURS_OF_SLICE:,}", None)
    areas = [area for polygon in polygons if (area := _area(polygon, shape)) is not None]
    inner, crossing, same = _relations(areas)
    repeated = np.tril(same, -1).any(axis=1)
    inner[:, repeated] = crossing[:, repeated] = crossing[repeated] = False
    groups = _groups(crossing)
    # A hole of one of several united contours is a hole of all of them.
    inside_of = np.zeros((len(areas), len(areas)), bool)
    for one, other in np.argwhere(inner):
        inside_of[groups[one], groups[other]] = groups[one] != groups[other]
    depth = inside_of.sum(axis=1)[groups]
    result = np.zeros(shape, bool)
    for number in sorted(np.flatnonzero(~repeated), key=lambda n: depth[n]):
        area, is_filled = areas[number], depth[number] % 2 == 0
        target = result[area.corner[0] : area.end[0], area.corner[1] : area.end[1]]
        target[area.filled] = is_filled
    return Combined(result, int(crossing.any(axis=1).sum()), int(repeated.sum()))


def _area(polygon: Array, shape: tuple[int, int]) -> _Area | None:
    low = np.clip(np.floor(polygon.min(axis=0)) - 1, 0, shape).astype(np.int64)
    high = np.clip(np.ceil(polygon.max(axis=0)) + 2, 0, shape).astype(np.int64)
    if (high <= low).any():
        return None
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    filled = fill_even_odd([polygon - low], size)
    near = _near_line(polygon - low, size)
    if not (filled & ~near).any():
        near = np.zeros(size, bool)  # a contour of one or two pixels: all that there is decides
    return _Area(polygon, low, filled, near)


def _samples(line: Array) -> Array:
    """Return points on a closed line, at most `SAMPLE_PIXELS` apart."""
    ways = np.roll(line, -1, axis=0) - line
    lengths = np.linalg.norm(ways, axis=1)
    if lengths.sum() > MAX_LENGTH_PIXELS:
        received = f"a contour of {lengths.sum():,.0f} pixels' length"
        raise too_large(received, f"at most {MAX_LENGTH_PIXELS:,}", None)
    counts = np.ceil(lengths / SAMPLE_PIXELS).astype(np.int64) + 1
    edge = np.repeat(np.arange(len(line)), counts)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(line[edge] + ways[edge] * (step / counts[edge])[:, None])


def _near_line(line: Array, size: tuple[int, int]) -> Plane:
    """Mark the pixels whose centres are within `NEAR_PIXELS` of the line."""
    points = _samples(line)
    pixels = np.rint(points)
    is_near = np.linalg.norm(points - pixels, axis=1) <= NEAR_PIXELS
    is_near &= ((pixels >= 0) & (pixels < size)).all(axis=1)
    near = np.zeros(size, bool)
    near[tuple(pixels[is_near].astype(np.int64).T)] = True
    return near


def _runs_along(inner: _Area, outer: _Area) -> bool:
    """Return whether a contour inside another one follows its line rather than lying free in it."""
    points, line = _samples(inner.line), _samples(outer.line)
    low, high = points.min(axis=0) - NEAR_PIXELS, points.max(axis=0) + NEAR_PIXELS
    line = line[((line >= low) & (line <= high)).all(axis=1)]
    if not len(line):
        return False
    distance, _ = cKDTree(line).query(points, distance_upper_bound=NEAR_PIXELS)
    return bool(np.isfinite(distance).mean() > SHARED_LINE)


def _relations(areas: Sequence[_Area]) -> tuple[Plane, Plane, Plane]:
    """Return for each pair whether one lies inside the other, whether they cross, and whether they are the same."""
    inner, crossing, same = (np.zeros((len(areas), len(areas)), bool) for _ in range(3))
    if not areas:
        return inner, crossing, same
    low, high = np.stack([a.corner for a in areas]), np.stack([a.end for a in areas])
    overlap = ((low[:, None] < high) & (low < high[:, None])).all(axis=-1)
    for one, other in np.argwhere(np.triu(overlap, 1)):
        common, first_only, second_only = _compare(areas[one], areas[other])
        if not first_only and not second_only:
            same[one, other] = same[other, one] = True
            continue
        small, large = (other, one) if first_only else (one, other)
        if common and ((first_only and second_only) or _runs_along(areas[small], areas[large])):
            crossing[one, other] = crossing[other, one] = True
        elif common:
            inner[small, large] = True
    return inner, crossing, same


def _compare(first: _Area, second: _Area) -> tuple[bool, bool, bool]:
    """Return whether there are decisive pixels in both, in the first only, and in the second only."""
    low, high = np.maximum(first.corner, second.corner), np.minimum(first.end, second.end)
    (one, near_one), (two, near_two) = first.window(low, high), second.window(low, high)
    is_clear = ~near_one & ~near_two
    beyond_first = np.count_nonzero(first.filled & ~first.near) - np.count_nonzero(one & ~near_one)
    beyond_second = np.count_nonzero(second.filled & ~second.near) - np.count_nonzero(two & ~near_two)
    return (
        bool((one & two & is_clear).any()),
        bool(beyond_first or (one & ~two & is_clear).any()),
        bool(beyond_second or (two & ~one & is_clear).any()),
    )


def _groups(crossing: Plane) -> NDArray[np.int64]:
    """Number the contours so that those linked by crossings, directly or through others, share a number."""
    groups = np.arange(len(crossing))
    for one, other in np.argwhere(np.triu(crossing)):
        groups[groups == groups[other]] = groups[one]
    return groups
