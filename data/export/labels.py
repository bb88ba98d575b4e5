"""Predicted labels on the canonical grid, back in the order in which their source has its voxels."""

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.matching import is_same_place

Labels = NDArray[np.uint8]


def check_labels(labels: Labels, organs: tuple[str, ...], grid: Grid) -> None:
    """Refuse labels that are not what a prediction is.

    Args:
        labels: uint8 `(slices, rows, columns)` on `grid`; `i + 1` is `organs[i]`.
        organs: Names, each once.
        grid: Where the labels lie.

    Raises:
        DataError: If there are no such names (code `LABEL_RULE`).
        ValueError: If the type, shape or range is another.
    """
    for organ in organs:
        OrganRule(organ)
    if not organs or len(set(organs)) != len(organs):
        raise DataError("LABEL_RULE", f"{len(organs)} organs, {len(set(organs))} different ones",
                        "one or more, each once", "name each organ once")  # fmt: skip
    if labels.dtype != np.uint8 or labels.shape != grid.shape:
        raise ValueError(
            f"labels of type {labels.dtype} and shape {labels.shape}; expected uint8 of shape {grid.shape}; "
            "undo crop and resize first"
        )
    highest = int(labels.max(initial=0))
    if highest > len(organs):
        raise ValueError(
            f"labels up to {highest} for {len(organs)} organs; expected 0 to {len(organs)}; name each organ"
        )


def in_source_order(labels: Labels, grid: Grid, source: Grid) -> Labels:
    """Undo `to_canonical`: bring labels into the array order of the source they were predicted from.

    Args:
        labels: uint8 `(slices, rows, columns)` on `grid`, which is canonical.
        grid: The canonical grid.
        source: The source's own grid.

    Returns:
        The same labels, uint8 of shape `source.shape`. No voxel moves in space.

    Raises:
        DataError: If the grids are not of the same voxels (code `GEOMETRY`).
    """
    result = np.empty(source.shape, np.uint8)
    # to_canonical gives a view, so writing into it writes into the source's order.
    view, canonical = to_canonical(result, source)
    _check_same(grid, canonical)
    view[...] = labels
    return result


def _check_same(grid: Grid, canonical: Grid) -> None:
    if not is_same_place(grid, canonical):
        raise DataError("GEOMETRY", "labels that do not lie on the source's voxels", "the grid of that source",
                        "export to the series that was predicted, without crop or resize")  # fmt: skip
