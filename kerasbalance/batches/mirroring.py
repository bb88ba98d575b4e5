"""Which batches can be mirrored: images whose targets are masks or labels; and their mirroring."""

from typing import Any

from kerasbalance.batches.index import Codes
from kerasbalance.batches.nested import leaves
from kerasbalance.batches.source import Batch, flip_in_place

Plan = list[bool]
"""For each array of a batch, in the order of `leaves`: whether it is mirrored or left as it is."""


def mirror_plan(batch: Batch) -> Plan | None:
    """Return how a batch is mirrored; None where that is not defined.

    Inputs must be images `(n, height, width, channels)`. Targets and sample weights of the same height and width are
    mirrored with them. Whole numbers of shape `(n,)` or `(n, classes)` are labels, and weights `(n,)` are weights of
    samples: both hold for the mirrored image too. Other targets, for instance the coordinates of a point, would become
    wrong without a word.

    Args:
        batch: A batch, or the arrays that batches are taken from.
    """
    images = leaves(batch[0])
    planes = {tuple(image.shape[1:3]) for image in images}
    targets = [_mirrored_target(array, planes) for array in leaves(batch[1:2])]
    weights = [_mirrored_weight(array, planes) for array in leaves(batch[2:3])]
    rest = [plan for plan in (*targets, *weights) if plan is not None]
    if not all(_is_image(image) for image in images) or len(rest) < len(targets) + len(weights):
        return None
    return [True] * len(images) + rest


def mirror(batch: Batch, flips: Codes, plan: Plan) -> None:
    """Mirror each sample of a batch by its code, in place."""
    for array, mirrored in zip(leaves(batch), plan, strict=True):
        if mirrored:
            flip_in_place(array, flips)


def _is_image(array: Any) -> bool:
    """Return whether an array is a batch of images; torch's order, channels first, is none that can be mirrored."""
    return len(array.shape) == 4 and not array.shape[1] <= 4 < array.shape[3]


def _mirrored_target(array: Any, planes: set[tuple[int, ...]]) -> bool | None:
    if len(array.shape) in (3, 4) and tuple(array.shape[1:3]) in planes:
        return True
    return False if len(array.shape) < 3 and array.dtype.kind in "iub" else None


def _mirrored_weight(array: Any, planes: set[tuple[int, ...]]) -> bool | None:
    if len(array.shape) in (3, 4) and tuple(array.shape[1:3]) in planes:
        return True
    return False if len(array.shape) == 1 else None
