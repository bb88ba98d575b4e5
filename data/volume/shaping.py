"""In-plane size of a case, changed only when asked for: crop or pad about the centre, or resample."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import AIR_HU


def crop_or_pad(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], grid: Grid, size: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Grid]:
    """Cut the central `size` x `size` pixels out of each slice; what is missing is air and background.

    Args:
        hu: int16 `(slices, rows, columns)`.
        labels: uint8, same shape.
        grid: Where they lie.
        size: Rows and columns of the result, above 0.

    Returns:
        HU, labels and grid of the new size; the voxels keep their places.
    """
    _, rows, columns = hu.shape
    top, left = (rows - size) // 2, (columns - size) // 2
    source, target = zip(*(_overlap(length, size) for length in (rows, columns)), strict=True)
    new_hu = np.full((len(hu), size, size), AIR_HU, np.int16)
    new_labels = np.zeros((len(hu), size, size), np.uint8)
    new_hu[:, target[0], target[1]] = hu[:, source[0], source[1]]
    new_labels[:, target[0], target[1]] = labels[:, source[0], source[1]]
    shift = top * grid.row_step_mm + left * grid.column_step_mm
    return new_hu, new_labels, replace(grid, shape=new_hu.shape, positions_mm=grid.positions_mm + shift)


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    begin = (length - size) // 2
    low, high = max(begin, 0), min(begin + size, length)
    return slice(low, high), slice(low - begin, high - begin)


def resample_plane(
    hu: NDArray[np.int16], labels: NDArray[np.uint8], grid: Grid, size: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Grid]:
    """Resample each slice to `size` x `size` pixels over the same field of view.

    HU linearly, smoothed first where the slice shrinks; labels by the nearest pixel.

    Args:
        hu: int16 `(slices, rows, columns)`.
        labels: uint8, same shape.
        grid: Where they lie.
        size: Rows and columns of the result, above 0.

    Returns:
        HU (rounded to int16), labels and grid of the new size.
    """
    from skimage.transform import resize  # takes half a second to import, and is seldom asked for

    shape = (size, size)
    options = {"preserve_range": True, "mode": "edge"}
    new_hu = np.empty((len(hu), *shape), np.int16)
    new_labels = np.empty((len(hu), *shape), np.uint8)
    for number, (plane, marked) in enumerate(zip(hu, labels, strict=True)):
        smooth = resize(plane.astype(np.float32), shape, order=1, anti_aliasing=True, **options)
        new_hu[number] = np.rint(smooth)
        new_labels[number] = resize(marked, shape, order=0, anti_aliasing=False, **options)
    # Pixels are squares about their centres: the corner of the field of view stays, the first centre moves.
    row, column = (grid.row_step_mm * hu.shape[1] / size, grid.column_step_mm * hu.shape[2] / size)
    shift = (row - grid.row_step_mm + column - grid.column_step_mm) / 2
    moved = replace(grid, shape=new_hu.shape, positions_mm=grid.positions_mm + shift)
    return new_hu, new_labels, replace(moved, row_step_mm=row, column_step_mm=column)


def shape_planes(hu: NDArray[np.int16], crop: int | None, resize_to: int | None) -> NDArray[np.int16]:
    """Crop and resample slices as a store did, for predictions on a new CT.

    Args:
        hu: int16 `(slices, rows, columns)`.
        crop: As `--crop`, or None.
        resize_to: As `--resize`, or None.

    Returns:
        int16 `(slices, rows, columns)` of the new size.
    """
    labels = np.zeros(hu.shape, np.uint8)
    grid = Grid.from_affine((hu.shape[0], hu.shape[1], hu.shape[2]), np.eye(4))
    if crop is not None:
        hu, labels, grid = crop_or_pad(hu, labels, grid, crop)
    if resize_to is not None:
        hu, labels, grid = resample_plane(hu, labels, grid, resize_to)
    return hu


def restore_planes(labels: NDArray[np.uint8], plane: tuple[int, int], crop: int | None) -> NDArray[np.uint8]:
    """Bring labels of shaped slices back onto the CT that `shape_planes` was given.

    Args:
        labels: uint8 `(slices, rows, columns)` on the shaped slices.
        plane: Rows and columns of the CT.
        crop: As `--crop`, or None.

    Returns:
        uint8 `(slices, *plane)`: the nearest pixel's label, background outside of what was cropped.
    """
    from skimage.transform import resize  # see above

    cut = plane if crop is None else (crop, crop)
    if labels.shape[1:] != cut:
        labels = np.stack([
            resize(one, cut, order=0, preserve_range=True, anti_aliasing=False, mode="edge") for one in labels
        ]).astype(np.uint8)  # fmt: skip
    if crop is None:
        return labels
    target, source = zip(*(_overlap(length, crop) for length in plane), strict=True)
    full = np.zeros((len(labels), *plane), np.uint8)
    full[:, target[0], target[1]] = labels[:, source[0], source[1]]
    return full
