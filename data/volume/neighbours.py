"""Which slices lie before and after a slice."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

GAP = 1.5
"""A step of more than so many median steps is a gap: what lies beyond it is no neighbour."""


def neighbour_table(depth_mm: ArrayLike, neighbours: int) -> NDArray[np.int64]:
    """Return for each slice its neighbours before it, itself, and its neighbours after it.

    At the ends of the stack, and on both sides of a gap, the last slice on this side stands in for those that are
    missing.

    Args:
        depth_mm: Float `(slices,)`, ascending positions along the stack.
        neighbours: How many on each side, >= 0.

    Returns:
        int64 `(slices, 2 * neighbours + 1)`, places in the stack from 0; `(0, ...)` for an empty stack.

    Example:
        >>> neighbour_table([0, 2, 4, 20], 1).tolist()
        [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 3]]
    """
    steps = np.abs(np.diff(np.asarray(depth_mm, np.float64)))
    gaps = steps > GAP * np.median(steps) if len(steps) else np.zeros(0, bool)
    block = np.concatenate([np.zeros(min(1, np.size(depth_mm)), np.int64), np.cumsum(gaps)])
    first, last = np.searchsorted(block, block, "left"), np.searchsorted(block, block, "right") - 1
    wanted = np.arange(len(block))[:, None] + np.arange(-neighbours, neighbours + 1)
    table: NDArray[np.int64] = np.clip(wanted, first[:, None], last[:, None])
    return table
