"""What is done to a predicted mask after the threshold: its largest part, its holes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kerasbalance.errors import explain
from kerasbalance.evaluation.cases import keep_largest_component
from kerasbalance.evaluation.surface import Mask, union_box

CLEAN_UPS = {
    "none": "no clean-up",
    "largest": "largest part only",
    "largest+holes": "largest part only, holes filled",
}
"""The clean-ups and their words, the least intervention first."""


def clean_up(mask: Mask, kind: str) -> Mask:
    """Return a mask after a clean-up.

    Args:
        mask: Bool `(slices, rows, columns)`.
        kind: One of `CLEAN_UPS`. A hole is background that no path of face neighbours joins to the border of the
            volume.

    Returns:
        A bool array of the same shape; an empty mask stays empty.

    Raises:
        ValueError: If the clean-up is unknown.

    Example:
        >>> mask = np.ones((3, 3, 3), bool)
        >>> mask[1, 1, 1] = False
        >>> int(clean_up(mask, "largest").sum()), int(clean_up(mask, "largest+holes").sum())
        (26, 27)
    """
    if kind not in CLEAN_UPS:
        raise ValueError(
            explain(f"the clean-up {kind!r}", f"one of {', '.join(CLEAN_UPS)}", "correct the name")
        )
    if kind == "none":
        return mask
    largest = keep_largest_component(mask)
    if kind == "largest":
        return largest
    from scipy import ndimage

    box = union_box(largest, largest)  # what lies outside is joined to the border
    largest[box] = ndimage.binary_fill_holes(largest[box])
    return largest


def clean_labels(labels: NDArray[np.uint8], kinds: Sequence[str]) -> NDArray[np.uint8]:
    """Return the labels of a volume after the clean-up of each organ; a filled hole takes no voxel of another organ.

    Args:
        labels: Uint8 `(slices, rows, columns)`: 0 background, `i + 1` the i-th organ.
        kinds: The clean-up of each organ.
    """
    if all(kind == "none" for kind in kinds):
        return labels
    cleaned = np.zeros_like(labels)
    for value, kind in enumerate(kinds, 1):
        mask = labels == value
        cleaned[clean_up(mask, kind) & (mask | (labels == 0))] = value
    return cleaned
