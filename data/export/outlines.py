"""The outlines of a mask along the edges of its pixels, each a single closed polygon."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def outlines(mask: NDArray[np.bool_]) -> list[Points]:
    """Trace the parts of a slice's mask along the edges of their pixels.

    Pixels that share an edge form a part, and each part is one polygon. A hole is joined to the outline around it by
    a line that is walked in both directions (a keyhole, DICOM PS3.3 section C.8.8.6.3), so readers that unite the
    polygons of a slice, subtract them or fill them by any rule find the same pixels. No line passes a pixel's centre,
    and the area of the polygons is that of the pixels.

    Args:
        mask: Bool `(rows, columns)`.

    Returns:
        One float64 array `(points, 2)` of `(row, column)` for each part, with pixel centres at whole numbers and the
        first point not repeated; an empty list for an empty mask.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask)
    return [
        _outline(parts[box] == number) + np.array([side.start for side in box])
        for number, box in enumerate(ndimage.find_objects(parts), 1)
    ]


def _outline(part: NDArray[np.bool_]) -> Points:
    from skimage.measure import find_contours

    # At half height the points lie in the middle of the pixels' edges, in the order of the outline.
    middles = find_contours(np.pad(part, 1).astype(np.float32), 0.5, fully_connected="low")
    loops = [_from_first(_corners(points[:-1] - 1)) for points in middles]
    outer, *holes = sorted(loops, key=lambda loop: (loop[0, 0], loop[0, 1]))
    for hole in holes:
        outer = _joined(outer, hole)
    return _without_straight_on(outer)


def _corners(middles: Points) -> Points:
    """Return the corners between the middles of successive pixel edges."""
    following = np.roll(middles, -1, axis=0)
    on_line, next_on_line = middles % 1 != 0, following % 1 != 0
    return np.where(on_line, middles, np.where(next_on_line, following, (middles + following) / 2))


def _from_first(loop: Points) -> Points:
    """Let a loop begin at its uppermost corner, of several at the leftmost."""
    return np.roll(loop, -int(np.lexsort((loop[:, 1], loop[:, 0]))[0]), axis=0)


def _joined(outer: Points, hole: Points) -> Points:
    """Join a hole to what lies straight above its first corner: the outline, or a hole that was joined before."""
    above = np.flatnonzero((outer[:, 1] == hole[0, 1]) & (outer[:, 0] < hole[0, 0]))
    place = int(above[outer[above, 0].argmax()])
    return np.concatenate([outer[: place + 1], hole, hole[:1], outer[place:]])


def _without_straight_on(loop: Points) -> Points:
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(loop[turns | ((before * after).sum(axis=1) < 0)])
