"""In-plane size of a case, changed only when asked for: one pixel size, a crop, a resampled plane, and the way back.

Rows and columns are treated one after the other by sparse matrices, so the cost is a few additions a pixel and the
result is the same on every machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import AIR_HU

_ROUNDING = 1e-6
"""Of a pixel: differences of this size come from the arithmetic."""


@dataclass(frozen=True)
class Axis:
    """One axis of a slice before and after: new pixel `i` lies at the old coordinate `start + i * step`.

    Args:
        length: Old pixels.
        size: New pixels.
        start: Old coordinate of the first new pixel's centre.
        step: Old pixels to a new one; above 1 the axis becomes coarser.
    """

    length: int
    size: int
    start: float = 0.0
    step: float = 1.0

    def resampled(self, size: int, step: float) -> "Axis":
        """Return the axis with `size` pixels of `step` present ones about the same centre."""
        first = (self.size - 1 - step * (size - 1)) / 2
        return Axis(self.length, size, self.start + self.step * first, self.step * step)

    def cropped(self, size: int) -> "Axis":
        """Return the axis with the central `size` pixels, or padded to so many."""
        return Axis(self.length, size, self.start + self.step * ((self.size - size) // 2), self.step)

    @property
    def inverse(self) -> "Axis":
        """The way back."""
        return Axis(self.size, self.length, -self.start / self.step, 1 / self.step)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Bool `(size,)`: whether the new pixel's centre lies on an old pixel."""
        places = self._places()
        return (places >= -0.5 - _ROUNDING) & (places <= self.length - 0.5 + _ROUNDING)

    def _places(self) -> NDArray[np.float64]:
        return self.start + self.step * np.arange(self.size, dtype=np.float64)

    def weights(self) -> Any:
        """Return the sparse matrix `(size, length)`, float32, from old values to new ones.

        Values in between are linear; where the axis becomes coarser, a Gaussian of (step - 1) / 2 old pixels smooths
        first. Rows of pixels outside the old ones are 0.
        """
        return _weights(self)


@lru_cache(maxsize=64)
def _weights(axis: Axis) -> Any:
    from scipy.ndimage import gaussian_filter1d
    from scipy.sparse import csr_array

    places = np.clip(axis._places(), 0, axis.length - 1)
    low = np.minimum(places.astype(int), max(axis.length - 2, 0))
    matrix = np.zeros((axis.size, axis.length))
    rows = np.arange(axis.size)
    matrix[rows, low] = 1 - (places - low)
    matrix[rows, np.minimum(low + 1, axis.length - 1)] += places - low
    if axis.step > 1 + _ROUNDING:
        matrix @= gaussian_filter1d(np.eye(axis.length), (axis.step - 1) / 2, axis=0, mode="nearest")
    matrix[~axis.inside] = 0
    return csr_array(matrix.astype(np.float32))


@dataclass(frozen=True)
class PlaneMap:
    """The way of a CT's slices to their new size and back.

    Args:
        rows: The rows.
        columns: The columns.
    """

    rows: Axis
    columns: Axis

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns after the change."""
        return self.rows.size, self.columns.size

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return all(axis == Axis(axis.length, axis.length) for axis in (self.rows, self.columns))

    def image(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        """Bring HU to the new size.

        Args:
            hu: int16 `(slices, *old plane)`.

        Returns:
            int16 `(slices, *plane)`, rounded; air where there was nothing.
        """
        new = np.empty((len(hu), *self.plane), np.int16)
        outside = ~np.logical_and.outer(self.rows.inside, self.columns.inside)
        for plane, target in zip(hu, new, strict=True):
            target[...] = np.rint(self._forth(plane))
            target[outside] = AIR_HU
        return new

    def labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring labels to the new size: each pixel gets the label that covers most of it.

        Every label is resampled as HU are, and the largest share wins; background wins a tie.

        Args:
            labels: uint8 `(slices, *old plane)`.

        Returns:
            uint8 `(slices, *plane)`; background where there was nothing.
        """
        new = np.zeros((len(labels), *self.plane), np.uint8)
        for plane, target in zip(labels, new, strict=True):
            _cover(plane, target, self._forth)
        return new

    def grid(self, grid: Grid) -> Grid:
        """Return where the new pixels lie."""
        shift = self.rows.start * grid.row_step_mm + self.columns.start * grid.column_step_mm
        return Grid(
            (grid.shape[0], *self.plane),
            grid.positions_mm + shift,
            self.rows.step * grid.row_step_mm,
            self.columns.step * grid.column_step_mm,
        )

    def restored(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Bring values of the new pixels, such as probabilities, back onto the CT's own.

        Args:
            values: `(slices, *plane, channels)`.

        Returns:
            float32 `(slices, *old plane, channels)`, linear in between; 0 outside of what was cropped.
        """
        full = np.empty((len(values), self.rows.length, self.columns.length, values.shape[-1]), np.float32)
        for number, one in enumerate(values):
            for channel in range(one.shape[-1]):
                full[number, ..., channel] = self._back(one[..., channel])
        return full

    def _forth(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        return _apply(self.rows, self.columns, plane)

    def _back(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        return _apply(self.rows.inverse, self.columns.inverse, plane)


def _apply(rows: Axis, columns: Axis, plane: NDArray[Any]) -> NDArray[np.float32]:
    narrow = columns.weights() @ np.ascontiguousarray(plane.T, np.float32)
    return np.asarray(rows.weights() @ np.ascontiguousarray(narrow.T))


def _cover(
    plane: NDArray[np.uint8],
    target: NDArray[np.uint8],
    resample: Callable[[NDArray[Any]], NDArray[np.float32]],
) -> None:
    """Write into `target`, all 0, the label with the largest share of each pixel."""
    values = np.flatnonzero(np.bincount(plane.ravel(), minlength=2)[1:]) + 1
    if not len(values):
        return
    best = resample(plane == 0)
    for value in values:
        share = resample(plane == value)
        target[share > best] = value
        np.maximum(best, share, out=best)


class Shaping(NamedTuple):
    """What an ingest did to the planes of all its cases, in this order; None where it was not asked for.

    Args:
        crop: Central pixels that are kept of each side, or to which it is padded.
        resize: Pixels that each side is resampled to, over the same field of view.
        spacing_mm: Size of a pixel that each slice is resampled to, before the crop.
    """

    crop: int | None = None
    resize: int | None = None
    spacing_mm: float | None = None

    def of(self, plane: tuple[int, int], pixel_mm: tuple[float, float]) -> PlaneMap:
        """Return what happens to slices of a size.

        Args:
            plane: Rows and columns.
            pixel_mm: Spacing of rows and of columns.
        """
        rows, columns = (self._axis(*one) for one in zip(plane, pixel_mm, strict=True))
        return PlaneMap(rows, columns)

    def _axis(self, length: int, pixel_mm: float) -> Axis:
        axis = Axis(length, length)
        if self.spacing_mm is not None:
            step = self.spacing_mm / pixel_mm
            axis = axis.resampled(max(1, math.ceil(length / step - _ROUNDING)), step)
        if self.crop is not None:
            axis = axis.cropped(self.crop)
        if self.resize is not None:
            axis = axis.resampled(self.resize, axis.size / self.resize)
        return axis
