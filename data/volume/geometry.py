"""Where voxels lie: one frame for CT and masks, and the mapping of one grid onto another.

Everything is in DICOM patient coordinates (LPS: x to the patient's left, y to the back, z to the head), in mm.
A stack is an array `(slices, rows, columns)`; in the *canonical* orientation columns grow towards the left, rows
towards the back and slices towards the head, as near as the axes allow.

Reference:
    DICOM PS3.3 section C.7.6.2 (Image Plane); NIfTI-1 uses RAS, which differs by the sign of x and y.
"""

from dataclasses import dataclass, replace

import nibabel
import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError

Array = NDArray[np.float64]

SAME_POSITION_MM = 1e-2
REGULAR_TOLERANCE = 0.01
"""A step may differ from the median step by this share of it (or 0.05 mm) and still count as regular."""
LINE_TOLERANCE = 0.1
"""A slice of a regular stack lies within this share of a step of where the affine matrix puts it."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel centres of a stack of parallel slices.

    Args:
        shape: `(slices, rows, columns)`.
        positions_mm: float64 `(slices, 3)`, the centre of pixel `[row 0, column 0]` of each slice, LPS.
        row_step_mm: float64 `(3,)`, the way from one row to the next.
        column_step_mm: float64 `(3,)`, the way from one column to the next.
    """

    shape: tuple[int, int, int]
    positions_mm: Array
    row_step_mm: Array
    column_step_mm: Array

    @classmethod
    def from_affine(cls, shape: tuple[int, int, int], affine: Array) -> "Grid":
        """Make a grid from a 4 x 4 matrix that maps `(column, row, slice, 1)` to LPS millimetres."""
        affine = np.asarray(affine, float)
        positions = affine[:3, 3] + np.arange(shape[0])[:, None] * affine[:3, 2]
        return cls(shape, positions, affine[:3, 1].copy(), affine[:3, 0].copy())

    @property
    def normal(self) -> Array:
        """Unit normal of the slices, towards growing slice numbers where there are several."""
        normal = np.cross(self.column_step_mm, self.row_step_mm)
        normal = normal / np.linalg.norm(normal)
        if self.shape[0] > 1 and (self.positions_mm[-1] - self.positions_mm[0]) @ normal < 0:
            normal = -normal
        return np.asarray(normal)

    @property
    def depth_mm(self) -> Array:
        """Float64 `(slices,)`: the position of each slice along the normal, relative to the first slice."""
        return np.asarray((self.positions_mm - self.positions_mm[0]) @ self.normal)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """`(slice, row, column)` spacing; the median for slices, NaN where there is only one slice."""
        steps = np.diff(self.depth_mm)
        between = float(np.median(np.abs(steps))) if len(steps) else float("nan")
        return between, float(np.linalg.norm(self.row_step_mm)), float(np.linalg.norm(self.column_step_mm))

    @property
    def is_regular(self) -> bool:
        """Whether one affine matrix describes all slices."""
        if self.shape[0] < 3:
            return True
        steps = np.diff(self.positions_mm, axis=0)
        median = np.median(steps, axis=0)
        tolerance = max(0.05, REGULAR_TOLERANCE * float(np.linalg.norm(median)))
        even = np.linalg.norm(steps - median, axis=1) <= tolerance
        # Small differences of one sign add up, so the slices must lie on a straight, even line as well.
        share = np.linspace(0, 1, self.shape[0])[:, None]
        line = self.positions_mm[0] + share * (self.positions_mm[-1] - self.positions_mm[0])
        drift = np.linalg.norm(self.positions_mm - line, axis=1)
        return bool(np.all(even) and drift.max() <= LINE_TOLERANCE * float(np.linalg.norm(median)))

    def affine(self) -> Array:
        """Return the 4 x 4 matrix from `(column, row, slice, 1)` to LPS millimetres.

        A single slice gets a slice step of 1 mm along the normal.

        Raises:
            DataError: If the slices are not evenly spaced, so no matrix describes them.
        """
        if not self.is_regular:
            raise DataError(
                "UNEVEN",
                "slices that are not evenly spaced",
                "one step between all slices",
                "write a DICOM SEG, which gives the position of each slice",
            )
        count = self.shape[0]
        step = (self.positions_mm[-1] - self.positions_mm[0]) / (count - 1) if count > 1 else self.normal
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = self.column_step_mm, self.row_step_mm, step
        matrix[:3, 3] = self.positions_mm[0]
        return matrix


def to_canonical(volume: NDArray[np.generic], grid: Grid) -> tuple[NDArray[np.generic], Grid]:
    """Permute and flip a stack into the canonical orientation; no voxel value changes.

    Args:
        volume: `(slices, rows, columns)`.
        grid: Where its voxels lie.

    Returns:
        A view of `volume` and its grid. Already canonical input comes back as it is.

    Raises:
        DataError: If the axes must be exchanged but the slices are not evenly spaced.
    """
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = grid.column_step_mm, grid.row_step_mm
    matrix[:3, 2] = grid.positions_mm[-1] - grid.positions_mm[0] if grid.shape[0] > 1 else grid.normal
    orientation = nibabel.orientations.io_orientation(matrix)
    order = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in (0, 1, 2)]
    signs = orientation[order, 1]
    if order != [0, 1, 2]:
        volume, grid = _exchange_axes(volume, grid, order)
    return _flip(volume, grid, signs)


def _exchange_axes(
    volume: NDArray[np.generic], grid: Grid, order: list[int]
) -> tuple[NDArray[np.generic], Grid]:
    affine = grid.affine()
    exchanged = affine.copy()
    exchanged[:3, :3] = affine[:3, order]
    # `order` counts (column, row, slice), the array counts (slice, row, column).
    axes = [2 - axis for axis in reversed(order)]
    volume = volume.transpose(axes)
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    return volume, Grid.from_affine(shape, exchanged)


def _flip(volume: NDArray[np.generic], grid: Grid, signs: Array) -> tuple[NDArray[np.generic], Grid]:
    positions, row, column = grid.positions_mm, grid.row_step_mm, grid.column_step_mm
    if signs[0] < 0:
        volume, positions, column = volume[:, :, ::-1], positions + column * (grid.shape[2] - 1), -column
    if signs[1] < 0:
        volume, positions, row = volume[:, ::-1], positions + row * (grid.shape[1] - 1), -row
    if signs[2] < 0:
        volume, positions = volume[::-1], positions[::-1]
    return volume, replace(grid, positions_mm=positions, row_step_mm=row, column_step_mm=column)


def resample_nearest(labels: NDArray[np.generic], source: Grid, target: Grid) -> NDArray[np.generic]:
    """Map labels onto another grid by position, nearest voxel, 0 outside.

    Args:
        labels: `(slices, rows, columns)` on `source`, which must be evenly spaced.
        source: Where `labels` lies.
        target: Where the result shall lie; may be unevenly spaced.

    Returns:
        The labels on `target`, same dtype.
    """
    inverse = np.linalg.inv(source.affine())
    rows, columns = np.meshgrid(np.arange(target.shape[1]), np.arange(target.shape[2]), indexing="ij")
    plane = rows[..., None] * target.row_step_mm + columns[..., None] * target.column_step_mm
    result = np.zeros(target.shape, labels.dtype)
    limits = np.array(source.shape[::-1])
    for number, position in enumerate(target.positions_mm):
        voxel = np.rint((plane + position) @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
        inside = np.all((voxel >= 0) & (voxel < limits), axis=-1)
        x, y, z = voxel[inside].T
        result[number][inside] = labels[z, y, x]
    return result
