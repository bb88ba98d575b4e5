"""The slices of a segmentation that has frames only where something is marked."""

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.files import too_large
from kerasbalance.data.volume.geometry import SAME_POSITION_MM, Array, Grid

MAX_SLICES = 16_384


def fill_gaps(positions: Array, normal: Array, target: Grid) -> tuple[Array, NDArray[np.int64]]:
    """Add the slices that are missing between evenly spaced ones, and around them where axes are exchanged.

    Returns:
        The positions of all slices, and the new number of each given slice. Uneven slices come back as they
        are.
    """
    same = np.arange(len(positions))
    steps = np.stack([target.row_step_mm, target.column_step_mm])
    across = float(np.abs(steps @ normal).max())
    exchanged = abs(float(target.normal @ normal)) < 0.7
    gaps = np.diff(positions @ normal)
    if not len(gaps) and not exchanged:
        return positions, same
    shortest = (
        positions[int(gaps.argmin()) + 1] - positions[int(gaps.argmin())] if len(gaps) else across * normal
    )
    total = (positions[-1] - positions[0]) @ normal
    count = int(np.rint(total / (shortest @ normal)))
    step = (positions[-1] - positions[0]) / count if count else shortest
    number = np.rint((positions - positions[0]) @ normal / (step @ normal)).astype(np.int64)
    if np.linalg.norm(positions[0] + number[:, None] * step - positions, axis=1).max() > 5 * SAME_POSITION_MM:
        return positions, same
    first, last = _reach(target, positions[0], normal, step) if exchanged else (0, count)
    first, last = min(first, 0), max(last, count)
    if last - first >= MAX_SLICES:
        raise too_large(
            f"segmentation frames that span {last - first:,} slices", f"at most {MAX_SLICES:,}", None
        )
    filled = positions[0] + np.arange(first, last + 1)[:, None] * step
    filled[number - first] = positions
    return filled, number - first


def _reach(target: Grid, origin: Array, normal: Array, step: Array) -> tuple[int, int]:
    """Return the first and last slice number, counted in steps from `origin`, that the CT's corners need."""
    rows, columns = (target.shape[1] - 1) * target.row_step_mm, (target.shape[2] - 1) * target.column_step_mm
    corners = target.positions_mm[[0, -1]][:, None] + np.stack([0 * rows, rows, columns, rows + columns])
    depth = (corners.reshape(-1, 3) - origin) @ normal / (step @ normal)
    return int(np.rint(depth.min())), int(np.rint(depth.max()))
