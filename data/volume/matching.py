"""Whether a mask lies on the voxels of its CT: one notion of "the same place", as a share of a voxel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.geometry import Array, Grid

SAME_PLACE = 0.1
"""Voxels are the same if no corner of the image is off by more than this share of a voxel along any axis."""
EXACT = 0.01
"""What is off by less is rounding of the file format and not worth a note."""
ANOTHER_SLICE = 0.75
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Match:
    """Where the voxels of a mask lie in its CT.

    Args:
        slices: int64 `(CT slices,)`: slice numbers of the mask, -1 where it has none.
        corner: Row and column of the CT where the mask's first pixel lies; negative where it lies before it.
        off: The largest distance, as a share of a voxel.
    """

    slices: NDArray[np.int64]
    corner: tuple[int, int]
    off: float


def match(source: Grid, target: Grid) -> Match:
    """Find the voxels of `target` on which those of `source` lie.

    The mask may cover a part of the CT's rows or columns, or reach beyond them, but not both along one axis:
    then it was moved.

    Args:
        source: Grid of the mask, canonical.
        target: Grid of the CT, canonical.

    Raises:
        DataError: If the voxels are not the same ones (code `GEOMETRY`).
    """
    steps = np.stack([_slice_step(target, source), target.row_step_mm, target.column_step_mm])
    to_voxels = np.linalg.inv(steps)
    depth = (target.positions_mm - source.positions_mm[0]) @ source.normal
    nearest = np.abs(depth[:, None] - source.depth_mm[None]).argmin(axis=1)
    offset = (source.positions_mm[nearest] - target.positions_mm) @ to_voxels
    closest = offset[np.abs(offset[:, 0]).argmin()]
    corner = int(np.rint(closest[1])), int(np.rint(closest[2]))
    _check_drift(source, target, to_voxels)
    _check_window(source, target, corner)
    off = np.abs(offset[:, None] - [0, *corner] + _drift(source, target, to_voxels)).max(axis=(1, 2))
    is_same = off <= SAME_PLACE + ROUNDING
    if not is_same.any():
        raise mismatch(f"centres {off.min():.2g} voxels or more off the CT's", "the CT's positions")
    shifted = ~is_same & (np.abs(offset[:, 0]) < ANOTHER_SLICE)
    if shifted.any():
        raise mismatch(
            f"slices up to {off[shifted].max():.2g} voxels off the CT's", "the CT's slice positions"
        )
    return Match(np.where(is_same, nearest, -1), corner, float(off[is_same].max()))


def is_same_place(source: Grid, target: Grid) -> bool:
    """Return whether two canonical grids have the same voxels at the same places, as `match` understands it."""
    if source.shape != target.shape:
        return False
    try:
        found = match(source, target)
    except DataError:
        return False
    return found.corner == (0, 0) and bool(np.array_equal(found.slices, np.arange(target.shape[0])))


def moved_by(source: Grid, target: Grid) -> float:
    """Return by how many voxels a grid is moved that equals another in all but its place; 0 for other grids."""
    if source.shape != target.shape:
        return 0.0
    to_voxels = np.linalg.inv(
        np.stack([_slice_step(target, source), target.row_step_mm, target.column_step_mm])
    )
    ends = (source.positions_mm[[0, -1]] - target.positions_mm[[0, -1]]) @ to_voxels
    is_same = np.abs(_drift(source, target, to_voxels)).max() <= 2 * SAME_PLACE
    return float(np.abs(ends).max()) if is_same and np.ptp(ends, axis=0).max() <= 2 * SAME_PLACE else 0.0


def _slice_step(target: Grid, source: Grid) -> Array:
    between = next((g.spacing_mm[0] for g in (target, source) if g.shape[0] > 1), target.spacing_mm[1])
    return target.normal * between


def _drift(source: Grid, target: Grid, to_voxels: Array) -> Array:
    """Return by how many voxels the grids come apart from the first pixel to each corner, `(4, 3)`."""
    row = (source.shape[1] - 1) * (source.row_step_mm - target.row_step_mm)
    column = (source.shape[2] - 1) * (source.column_step_mm - target.column_step_mm)
    return np.asarray(np.stack([0 * row, row, column, row + column]) @ to_voxels)


def _check_drift(source: Grid, target: Grid, to_voxels: Array) -> None:
    worst = float(np.abs(_drift(source, target, to_voxels)).max())
    if worst > 2 * SAME_PLACE:
        raise mismatch(f"pixels that drift by {worst:.3g} voxels across the slice", "the CT's pixel spacing")


def _check_window(source: Grid, target: Grid, corner: tuple[int, int]) -> None:
    for first, own, ct in zip(corner, source.shape[1:], target.shape[1:], strict=True):
        is_part, is_whole = 0 <= first <= ct - own, first <= 0 and first + own >= ct
        if not is_part and not is_whole:
            raise mismatch(
                f"{source.shape[1]} x {source.shape[2]} pixels, moved by {corner[0]} rows and {corner[1]} columns",
                f"{target.shape[1]} x {target.shape[2]}, or a part of them",
            )


def mismatch(received: str, expected: str) -> DataError:
    """Make the error for a mask that does not lie on the CT's grid."""
    return DataError(
        "GEOMETRY",
        f"a mask with {received}",
        f"{expected}, as in the CT",
        "check that the mask belongs to this CT, or pass --resample-mask to map it by position",
    )
