"""A canvas in millimetres: coordinates, signed distances and soft painting.

A shape is a signed distance: float32 `(slices, rows, columns)`, millimetres, positive inside. Painting blends
Hounsfield units over one pixel at the edge, which is what partial volume looks like, and writes the label of
every voxel whose centre is inside. Whatever is painted last owns the voxel.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
"""`(x, y, z)` in millimetres: x to the patient's left, y to the back, z to the head (LPS)."""

WARP_REACH_MM = 22.0
"""Bent coordinates stay this close to straight ones: a box with this margin holds the whole shape."""

AIR_HU = -1000.0


@dataclass(frozen=True)
class Pose:
    """How the patient lies: turned by `roll` radians about the long axis, and off the centre."""

    roll: float
    offset_mm: tuple[float, float]

    def to_patient(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Map scanner coordinates to patient coordinates."""
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        x, y = x - self.offset_mm[0], y - self.offset_mm[1]
        return cos * x + sin * y, cos * y - sin * x

    def to_scanner(self, x: float, y: float) -> tuple[float, float]:
        """Map patient coordinates to scanner coordinates."""
        cos, sin = float(np.cos(self.roll)), float(np.sin(self.roll))
        return cos * x - sin * y + self.offset_mm[0], sin * x + cos * y + self.offset_mm[1]


@dataclass(frozen=True, eq=False)
class Scene:
    """Voxels of one scan, or a box of them, with their patient coordinates.

    Args:
        z_mm: float32 `(slices,)`, heights in the scanner, ascending to the head.
        y_mm: float32 `(rows,)`, in the scanner.
        x_mm: float32 `(columns,)`, in the scanner.
        x: float32 `(slices, rows, columns)`, where a voxel lies in the patient (turned and bent).
        y: Likewise, to the back.
        z: Likewise, to the head; 0 is the top of the right dome of the diaphragm.
        hu: float32 `(slices, rows, columns)`, painted in place.
        labels: uint8 `(slices, rows, columns)`, painted in place.
        pixel_mm: The width of the soft edge.
        pose: How the patient lies.
    """

    z_mm: Array
    y_mm: Array
    x_mm: Array
    x: Array
    y: Array
    z: Array
    hu: Array
    labels: NDArray[np.uint8]
    pixel_mm: float
    pose: Pose

    def near(self, centre: Point, reach_mm: float) -> "tuple[Scene, tuple[slice, slice, slice]]":
        """Return the box around a point, painting into the same voxels, and its index; it may be empty."""
        x, y = self.pose.to_scanner(centre[0], centre[1])
        reach_mm = reach_mm + WARP_REACH_MM
        box = (
            _window(self.z_mm, centre[2], reach_mm),
            _window(self.y_mm, y, reach_mm),
            _window(self.x_mm, x, reach_mm),
        )
        part = replace(
            self,
            z_mm=self.z_mm[box[0]],
            y_mm=self.y_mm[box[1]],
            x_mm=self.x_mm[box[2]],
            x=self.x[box],
            y=self.y[box],
            z=self.z[box],
            hu=self.hu[box],
            labels=self.labels[box],
        )
        return part, box

    def soft(self, inside_mm: Array) -> Array:
        """Turn a signed distance into a share of the voxel, 0 to 1."""
        return np.asarray(np.clip(0.5 + inside_mm / self.pixel_mm, 0, 1))

    def paint(
        self, inside_mm: Array, hu: float | Array, label: int | None = 0, opacity: float | Array = 1.0
    ) -> None:
        """Blend a tissue into the scene.

        Args:
            inside_mm: Signed distance.
            hu: Hounsfield units, one value or one a voxel.
            label: What voxels inside become; 0 clears them, None leaves the labels as they are.
            opacity: 0 to 1.
        """
        share = self.soft(inside_mm) * opacity
        hu_here = self.hu
        hu_here += share * (hu - hu_here)
        if label is not None:
            self.labels[inside_mm > 0] = label

    def ellipsoid(self, centre: Point, radii: Point, lean: tuple[float, float] = (0.0, 0.0)) -> Array:
        """Signed distance to an ellipsoid; `lean` shifts x and y per millimetre of height."""
        z = self.z - centre[2]
        squares = (z / radii[2]) ** 2
        squares += ((self.x - centre[0] - lean[0] * z) / radii[0]) ** 2
        squares += ((self.y - centre[1] - lean[1] * z) / radii[1]) ** 2
        return np.asarray((1 - np.sqrt(squares)) * min(radii))

    def tube(self, start: Point, end: Point, start_mm: float, end_mm: float) -> Array:
        """Signed distance to a straight tube whose radius goes from `start_mm` to `end_mm`."""
        way = np.subtract(end, start)
        x, y, z = self.x - start[0], self.y - start[1], self.z - start[2]
        along = np.clip((x * way[0] + y * way[1] + z * way[2]) / max(float(way @ way), 1e-6), 0, 1)
        x, y, z = x - along * way[0], y - along * way[1], z - along * way[2]
        return np.asarray(start_mm + along * (end_mm - start_mm) - np.sqrt(x * x + y * y + z * z))


def _window(axis_mm: Array, centre: float, reach_mm: float) -> slice:
    first, last = np.searchsorted(axis_mm, [centre - reach_mm, centre + reach_mm])
    return slice(int(first), int(last))


def both(first: Array, second: Array, round_mm: float = 0.0) -> Array:
    """Intersect two shapes; `round_mm` rounds the edge where they meet."""
    if round_mm <= 0:
        return np.minimum(first, second)
    return np.minimum(first, second) - round_mm * np.log1p(np.exp(-np.abs(first - second) / round_mm))


def axis_of(length_mm: float, count: int) -> Array:
    """Centres of `count` pixels that fill `length_mm`, symmetric about 0."""
    return (((np.arange(count) + 0.5) / count - 0.5) * length_mm).astype(np.float32)


def smooth_field(
    rng: np.random.Generator,
    axes_mm: tuple[Array, ...],
    bounds_mm: tuple[tuple[float, float], ...],
    knot_mm: float,
) -> Array:
    """Draw a smooth random field of about unit variance: a cubic B-spline on random knots.

    The knots depend on `bounds_mm` alone, so that one seed gives one field at every sampling.

    Args:
        rng: What draws the knots.
        axes_mm: Sample positions along each axis.
        bounds_mm: The interval that each axis lies in.
        knot_mm: Distance of the knots; the field has no finer detail.

    Returns:
        float32, one axis for each of `axes_mm`.
    """
    counts = [int(np.ceil((high - low) / knot_mm)) + 3 for low, high in bounds_mm]
    field = rng.standard_normal(counts).astype(np.float32)
    for axis, (positions, (low, _)) in enumerate(zip(axes_mm, bounds_mm, strict=True)):
        basis = _spline_basis((positions - low) / knot_mm, counts[axis])
        field = np.moveaxis(np.tensordot(basis, field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field) * np.float32(1.45 ** len(axes_mm))


def _spline_basis(position: Array, count: int) -> Array:
    """Weights of the cubic B-spline: `(samples, knots)`."""
    cell = np.clip(np.floor(position).astype(int), 0, count - 4)
    t = position - cell
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = np.zeros((len(position), count), np.float32)
    for shift, weight in enumerate(weights):
        basis[np.arange(len(position)), cell + shift] = weight / 6
    return basis
