"""Bringing labels from the mask's own grid onto the CT's, by position and never by shape alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.masks.mask import Request
from kerasbalance.data.volume.geometry import (
    Grid,
    matching_slices,
    mismatch,
    resample_nearest,
    to_canonical,
)

Labels = NDArray[np.uint8]


def place(
    labels: NDArray[Any], grid: Grid, request: Request, *, sparse: bool = False
) -> tuple[Labels, tuple[Note, ...]]:
    """Map labels onto the CT's grid; flips and permutations are silent.

    Args:
        labels: uint8 `(slices, rows, columns)` on `grid`.
        grid: The mask's own grid, any orientation.
        request: The CT and whether resampling is allowed.
        sparse: Whether a CT slice that the mask does not have is an empty slice (DICOM SEG) rather than a
            sign that the mask belongs to another series.

    Returns:
        The labels, uint8 on the CT's grid, and what there is to remark.

    Raises:
        DataError: If the grids do not agree and resampling was not asked for, or the labels lie outside the CT
            (code `GEOMETRY`).
    """
    target = request.volume.grid
    if grid.shape[0] > 1 and np.any(np.abs(np.diff(grid.depth_mm)) < 1e-6):
        raise mismatch("two slices at one position", "one position for each slice")
    canonical, source = to_canonical(labels, grid)
    turned: Labels = canonical.astype(np.uint8, copy=False)
    try:
        slices = matching_slices(source, target)
        if not sparse and (slices < 0).any():
            missing = int(np.count_nonzero(slices < 0))
            raise mismatch(f"no slice at {missing} of {len(slices)} positions", "a mask slice on each slice")
    except DataError:
        if not request.resample:
            raise
        return _resample(turned, source, target)
    placed = turned[np.maximum(slices, 0)]
    placed[slices < 0] = 0
    return placed, _lost(turned, placed)


def _resample(labels: Labels, source: Grid, target: Grid) -> tuple[Labels, tuple[Note, ...]]:
    placed = np.asarray(resample_nearest(labels, source, target), np.uint8)
    if labels.any() and not placed.any():
        raise mismatch("no labelled voxel inside the CT", "labels at positions inside the volume")
    notes = [Note("RESAMPLED", "the mask was mapped onto the CT's grid by nearest position")]
    outside = _outside(source, target)
    if outside:
        text = f"the mask does not reach {outside} of {target.shape[0]} slices; they count as background"
        notes.append(Note("COVERAGE", text, loud=True))
    return placed, tuple(notes)


def _outside(source: Grid, target: Grid) -> int:
    inverse = np.linalg.inv(source.affine())
    middle = (
        0.5 * (target.shape[1] - 1) * target.row_step_mm + 0.5 * (target.shape[2] - 1) * target.column_step_mm
    )
    voxel = (target.positions_mm + middle) @ inverse[:3, :3].T + inverse[:3, 3]
    return int(np.count_nonzero((voxel[:, 2] < -0.5) | (voxel[:, 2] > source.shape[0] - 0.5)))


def _lost(before: Labels, after: Labels) -> tuple[Note, ...]:
    lost = int(np.count_nonzero(before)) - int(np.count_nonzero(after))
    if lost <= 0:
        return ()
    return (Note("OUTSIDE", f"{lost:,} labelled voxels lie on slices that the CT does not have", loud=True),)
