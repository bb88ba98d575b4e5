"""Distances between the surfaces of two masks: HD95, normalised surface Dice, mean and maximum distance.

The surface of a mask is the set of its voxels that have a neighbour outside the mask, of the six (in 2D four)
that share a face with it. A distance runs between voxel centres, in mm, from a voxel of one surface to the
nearest of the other.

All metrics come from one pass: the masks are cropped to the box around their union, which is exact, since no
surface lies outside of it, and each surface voxel is looked up in a k-d tree of the other surface. That equals
the Euclidean distance transform to rounding, costs less where the surfaces are small against the box, and far
less where false positives are scattered over the whole volume.

References:
    Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT Datasets", IEEE
    Transactions on Medical Imaging 28(8), 2009, doi 10.1109/TMI.2009.2013851 (symmetric surface distance).
    Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy", Journal of
    Medical Internet Research 23(7):e26151, 2021, doi 10.2196/26151 (surface Dice at a tolerance).
    Kavur et al., "CHAOS Challenge", Medical Image Analysis 69:101950, 2021, doi 10.1016/j.media.2020.101950.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]
Box = tuple[slice, ...]

TOLERANCE_MM = 2.0
PERCENTILE = 95.0

_LEAF_POINTS = 32


@dataclass(frozen=True)
class SurfaceMetrics:
    """How far two surfaces lie apart.

    Both masks empty: all four are NaN. One mask empty: the distances are infinite and `nsd` is 0.

    Args:
        hd95_mm: The larger of the two directed 95th percentiles.
        nsd: Share of both surfaces that lies within the tolerance of the other, from 0 to 1.
        assd_mm: Mean distance over all voxels of both surfaces.
        mssd_mm: The largest of these distances (the Hausdorff distance, CHAOS' maximum symmetric surface distance).
    """

    hd95_mm: float
    nsd: float
    assd_mm: float
    mssd_mm: float


def surface_metrics(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    depth_mm: NDArray[Any] | None = None,
) -> SurfaceMetrics:
    """Compare two masks by their surfaces.

    HD95 is the maximum of the two directed 95th percentiles (linear interpolation), not the percentile of the
    pooled distances. NSD counts surface voxels, not surface area. Both take what lies outside the volume as
    background, so that an organ that the scan cuts off has a surface at the cut. For ASSD and MSSD the cut is no
    surface, as in the CHAOS challenge; the two agree unless a mask touches the edge of the volume.

    Equal to MONAI's `compute_hausdorff_distance(percentile=95)`, `compute_surface_dice` and, unless a mask
    touches the edge of the volume, `compute_average_surface_distance(symmetric=True)` and
    `compute_hausdorff_distance()`, each to the rounding of its float32 (in which it also ranks the percentile, so
    that its HD95 of a large surface may move towards the next distance). Where one mask is empty, its percentile is
    NaN and only its maximum infinite as here.
    DeepMind's `surface_distance` weights by area and gives other numbers.

    Args:
        prediction: Bool `(slices, rows, columns)`, or `(rows, columns)`.
        reference: Bool of the same shape.
        spacing_mm: Distance of voxel centres along each axis.
        tolerance_mm: Distance that NSD forgives, 0 or more; exactly this far counts as within.
        depth_mm: `(slices,)` position of each slice where the slices are not evenly spaced; replaces
            `spacing_mm[0]`. Neighbours in the stack count as adjacent, however far apart they lie.

    Returns:
        The metrics; see `SurfaceMetrics` for empty masks. A mask without any surface (it fills the volume)
        counts as empty for ASSD and MSSD.

    Raises:
        ValueError: shapes, types, spacing, depth or tolerance do not fit.
    """
    if not 0 <= tolerance_mm < math.inf:
        raise ValueError(f"tolerance_mm={tolerance_mm!r}; expected 0 or more; give it in mm")
    box = union_box(prediction, reference)
    cropped = prediction[box], reference[box]
    depth = None if depth_mm is None else np.asarray(depth_mm, float)[box[0]]
    closed = surface_distances(*cropped, spacing_mm, depth_mm=depth)
    cut = any(_touches_edge(mask) for mask in cropped)
    open_ = surface_distances(*cropped, spacing_mm, depth_mm=depth, cut_is_surface=False) if cut else closed
    return SurfaceMetrics(_hd95(*closed), _nsd(*closed, tolerance_mm), *_mean_and_maximum(*open_))


def surface_distances(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    depth_mm: NDArray[Any] | None = None,
    cut_is_surface: bool = True,
) -> tuple[Distances, Distances]:
    """Return the distance of each surface voxel to the other surface.

    Args:
        prediction: As in `surface_metrics`.
        reference: As in `surface_metrics`.
        spacing_mm: As in `surface_metrics`.
        depth_mm: As in `surface_metrics`.
        cut_is_surface: Whether voxels at the edge of the volume are surface.

    Returns:
        Float64 `(voxels,)` twice: from the prediction's surface to the reference's, and back. Where the other
        surface is empty the distances are infinite; where a surface is empty its array is.

    Raises:
        ValueError: as `surface_metrics`.
    """
    axes = _positions(prediction, reference, spacing_mm, depth_mm)
    box = union_box(prediction, reference)
    axes = [positions[part] for positions, part in zip(axes, box, strict=True)]
    ours, theirs = (_surface(mask[box], cut_is_surface) for mask in (prediction, reference))
    return _nearest(ours, theirs, axes), _nearest(theirs, ours, axes)


def union_box(prediction: Mask, reference: Mask) -> Box:
    """Return the box around all voxels of two masks, one voxel wider where the volume allows it.

    Two empty masks give an empty box.

    Raises:
        ValueError: the masks differ in shape or are not bool.
    """
    _check_masks(prediction, reference)
    union = np.logical_or(prediction, reference)
    box: list[slice] = []
    for axis in range(union.ndim):
        others = tuple(other for other in range(union.ndim) if other != axis)
        marked = np.flatnonzero(union.any(axis=others))
        if not len(marked):
            return (slice(0, 0),) * prediction.ndim
        box.append(slice(max(int(marked[0]) - 1, 0), int(marked[-1]) + 2))
        # Later axes need look only at what is left.
        union = union[(slice(None),) * axis + (box[-1],)]
    return tuple(box)


def _check_masks(prediction: Mask, reference: Mask) -> None:
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != bool or mask.ndim not in (2, 3):
            raise ValueError(
                f"{name} of type {mask.dtype} and shape {mask.shape}; expected bool of 2 or 3 dimensions; "
                "compare one organ at a time, e.g. labels == 1"
            )
    if prediction.shape != reference.shape:
        raise ValueError(
            f"a prediction of shape {prediction.shape} and a reference of shape {reference.shape}; expected "
            "the same grid; map one onto the other first"
        )


def _positions(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], depth_mm: NDArray[Any] | None
) -> list[Distances]:
    """Return the positions of the voxel centres along each axis."""
    _check_masks(prediction, reference)
    spacing = [float(value) for value in spacing_mm]
    if len(spacing) == prediction.ndim and depth_mm is not None:
        depth = np.asarray(depth_mm, float)
        steps = np.diff(depth)
        if depth.shape != prediction.shape[:1] or not (np.all(steps > 0) or np.all(steps < 0)):
            raise ValueError(
                f"depth_mm of shape {depth.shape} for {prediction.shape[0]} slices; expected one position a "
                "slice, growing or falling; take it from the source of the slices"
            )
        spacing[0] = 1.0
    if len(spacing) != prediction.ndim or not all(0 < value < math.inf for value in spacing):
        raise ValueError(
            f"spacing_mm={tuple(spacing_mm)} for {prediction.ndim} axes; expected a positive number of mm for "
            "each axis, slices first"
        )
    axes = [np.arange(size) * step for size, step in zip(prediction.shape, spacing, strict=True)]
    return axes if depth_mm is None else [depth, *axes[1:]]


def _surface(mask: Mask, cut_is_surface: bool) -> Mask:
    inner = mask.copy()
    for axis in range(mask.ndim):
        lower, upper = (np.moveaxis(array, axis, 0) for array in (mask, inner))
        upper[1:] &= lower[:-1]
        upper[:-1] &= lower[1:]
        if cut_is_surface:
            upper[:1] = upper[-1:] = False
    return mask & ~inner


def _touches_edge(mask: Mask) -> bool:
    sides = (np.moveaxis(mask, axis, 0) for axis in range(mask.ndim))
    return any(bool(side[:1].any() or side[-1:].any()) for side in sides)


def _nearest(surface: Mask, other: Mask, axes: list[Distances]) -> Distances:
    """Return the distance of each voxel of `surface` to the nearest of `other`."""
    from scipy.spatial import cKDTree

    points, targets = _points(surface, axes), _points(other, axes)
    if not len(points) or not len(targets):
        return np.full(len(points), np.inf)
    # Voxels lie on a lattice: splitting cells in the middle is as good as at the median, and sooner done.
    tree = cKDTree(targets, leafsize=_LEAF_POINTS, compact_nodes=False, balanced_tree=False)
    return np.asarray(tree.query(points)[0], np.float64)


def _points(surface: Mask, axes: list[Distances]) -> Distances:
    numbers = np.unravel_index(np.flatnonzero(surface), surface.shape)
    return np.stack([positions[n] for positions, n in zip(axes, numbers, strict=True)], axis=1)


def _hd95(to_reference: Distances, to_prediction: Distances) -> float:
    if not len(to_reference) or not len(to_prediction):
        return _without_surface(to_reference, to_prediction)
    return max(float(np.percentile(way, PERCENTILE)) for way in (to_reference, to_prediction))


def _nsd(to_reference: Distances, to_prediction: Distances, tolerance_mm: float) -> float:
    both = np.concatenate([to_reference, to_prediction])
    # In float32 a voxel exactly at the tolerance is within, whatever the rounding of its position.
    within = both.astype(np.float32) <= np.float32(tolerance_mm)
    return float(np.count_nonzero(within) / len(both)) if len(both) else math.nan


def _mean_and_maximum(to_reference: Distances, to_prediction: Distances) -> tuple[float, float]:
    if not len(to_reference) or not len(to_prediction):
        missing = _without_surface(to_reference, to_prediction)
        return missing, missing
    both = np.concatenate([to_reference, to_prediction])
    return float(both.mean()), float(both.max())


def _without_surface(to_reference: Distances, to_prediction: Distances) -> float:
    return math.inf if len(to_reference) or len(to_prediction) else math.nan
