"""Rendered surfaces of an organ: marching cubes, shaded, seen from the patient's front."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.surface import union_box
from kerasbalance.experiments.report.figures import INK, MUTED, TEXT, new_figure, to_png

Mask = NDArray[np.bool_]
Vectors = NDArray[np.float64]
Mesh = tuple[Vectors, NDArray[np.int64]]

LARGEST_SIDE = 52
"""Cells along the longest side: enough for the shape, few enough to draw in a second."""
FAR_MM = 10.0
TRUTH_RGB, NEAR_RGB, FAR_RGB = (0.36, 0.62, 0.93), (1.0, 0.84, 0.80), (0.80, 0.04, 0.07)
LIGHT = np.array([0.55, -0.75, -0.40])
"""Towards the light, as (z, y, x): above, in front, and from the viewer's left."""


def surface_pair(
    reference: Mask,
    predicted: Mask,
    spacing_mm: Sequence[float],
    titles: tuple[str, str] = ("reference", "prediction"),
) -> bytes:
    """Draw reference and prediction of one case beside each other, on the same scale.

    The deeper the red of the prediction, the farther it lies from the surface of the reference, up to `FAR_MM`.

    Args:
        reference: bool `(slices, rows, columns)` in the canonical orientation: towards head, back and left.
        predicted: likewise.
        spacing_mm: between slices, rows and columns; an unknown first one (NaN) counts as the second.
        titles: above the two.
    """
    depth = spacing_mm[1] if math.isnan(spacing_mm[0]) else spacing_mm[0]
    spacing = (float(depth), float(spacing_mm[1]), float(spacing_mm[2]))
    box = union_box(predicted, reference)
    extent = np.array([side * step for side, step in zip(reference[box].shape, spacing, strict=True)])
    meshes = [surface_mesh(mask[box], spacing) for mask in (reference, predicted)]
    figure = new_figure((4.8, 2.4), constrained=False)
    for number, (mesh, title) in enumerate(zip(meshes, titles, strict=True)):
        axes: Any = figure.add_axes((number / 2, 0.0, 0.5, 0.92), projection="3d")
        figure.text((number + 0.5) / 2, 0.97, title, fontsize=TEXT, color=INK, ha="center", va="top")
        if mesh is None:
            axes.text2D(0.5, 0.5, "empty", ha="center", color=MUTED, transform=axes.transAxes)
        else:
            _draw(axes, mesh, _error_tint(mesh, meshes[0]) if number else np.array([TRUTH_RGB]))
        _frame(axes, np.maximum(extent, 1.0))
    return to_png(figure)


def surface_mesh(mask: Mask, spacing_mm: tuple[float, float, float]) -> Mesh | None:
    """Return vertices `(n, 3)` in mm as (z, y, x) and triangles `(m, 3)`; None for an empty mask.

    The mask is resampled to cells of equal sides, `LARGEST_SIDE` along its longest one, and smoothed by less
    than a cell.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    if not mask.any():
        return None
    extent = np.array(mask.shape) * spacing_mm
    cell = max(float(extent.max()) / LARGEST_SIDE, min(spacing_mm))
    factors = np.array(spacing_mm) / cell
    margin = np.ceil(2 / factors).astype(int) + 1
    field = np.pad(mask, [(m, m) for m in margin]).astype(np.float32)
    field = ndimage.gaussian_filter(field, np.maximum(0.6, 0.5 / factors))
    field = ndimage.zoom(field, factors, order=1, grid_mode=True, mode="grid-constant")
    field = np.pad(field, 1)
    steps = (margin * 2 + mask.shape) * spacing_mm / (np.array(field.shape) - 2)
    level = min(0.5, float(field.max()) / 2)  # a sliver that the smoothing thinned is still drawn
    vertices, faces, _, _ = marching_cubes(field, level, spacing=tuple(steps), allow_degenerate=False)
    return vertices - (margin * spacing_mm + steps), faces.astype(np.int64)


def _error_tint(mesh: Mesh, reference: Mesh | None) -> Vectors:
    """Return a colour for each triangle: pale on the surface of the reference, deep red far from it."""
    from scipy.spatial import cKDTree

    if reference is None:
        return np.array([FAR_RGB])
    centres = mesh[0][mesh[1]].mean(axis=1)
    surface = np.concatenate([reference[0], reference[0][reference[1]].mean(axis=1)])
    share = np.clip(cKDTree(surface).query(centres)[0] / FAR_MM, 0, 1)[:, None]
    return np.asarray((1 - share) * NEAR_RGB + share * FAR_RGB)


def _draw(axes: Any, mesh: Mesh, tint: Vectors) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    corners = mesh[0][mesh[1]]
    lit = np.clip(_normals(mesh) @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)[:, None]
    colors = np.clip(tint * (0.36 + 0.68 * lit), 0, 1)
    axes.add_collection3d(
        Poly3DCollection(corners[:, :, ::-1], facecolors=colors, edgecolors=colors, linewidths=0.2)
    )


def _normals(mesh: Mesh) -> Vectors:
    """Return an outward unit normal for each triangle, the mean of its corners' so that facets do not show."""
    vertices, faces = mesh
    corners = vertices[faces]
    flat = np.cross(corners[:, 2] - corners[:, 0], corners[:, 1] - corners[:, 0])
    smooth = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(smooth, faces[:, corner], flat)
    normals = smooth[faces].mean(axis=1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))


def _frame(axes: Any, extent: Vectors) -> None:
    depth, height, width = extent.tolist()
    axes.set(xlim=(0, width), ylim=(0, height), zlim=(0, depth))
    axes.set_box_aspect((width, height, depth), zoom=1.35)
    axes.view_init(elev=12, azim=-82)
    axes.set_proj_type("ortho")
    axes.set_axis_off()
