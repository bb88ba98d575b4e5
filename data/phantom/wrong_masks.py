"""Masks that are wrong on purpose, so that what finds or suffers from wrong masks can be measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerasbalance.data.phantom.case import PhantomCase
from kerasbalance.data.phantom.liver import LIVER

KINDS = ("erased", "shifted", "mirrored")
SHIFT = 0.12
"""By which share of the image a shifted mask lies too far to the right and to the back."""
_WRONG = 99
"""The number of this random stream of a case; see `case` for the others."""


@dataclass(frozen=True)
class WrongMask:
    """One slice whose mask is wrong.

    Args:
        slice: Its place in the case, from 0 at the feet.
        kind: One of `KINDS`.
    """

    slice: int
    kind: str


def spoil_masks(
    case: PhantomCase, key: Sequence[int], share: float
) -> tuple[PhantomCase, tuple[WrongMask, ...]]:
    """Make the masks of some slices that show the liver wrong, all organs alike.

    Args:
        case: As `make_case` made it; it is not changed.
        key: The seed of the case.
        share: Which share of those slices, 0 to 1; the count is rounded.

    Returns:
        The case with wrong masks, and which they are, in the order of the slices.
    """
    rng = np.random.default_rng((*key, _WRONG))
    shown = np.flatnonzero((case.labels == LIVER).any(axis=(1, 2)))
    count = int(round(share * len(shown)) or (rng.random() < share * len(shown)))
    labels, wrong = case.labels.copy(), []
    for number in sorted(int(n) for n in rng.choice(shown, count, replace=False)):
        kind = str(rng.choice(KINDS))
        plane = labels[number]
        if kind == "erased":
            labels[number] = 0
        elif kind == "mirrored":
            labels[number] = plane[:, ::-1]
        else:
            labels[number] = np.roll(
                plane, [max(1, round(SHIFT * side)) for side in plane.shape], axis=(0, 1)
            )
        wrong.append(WrongMask(number, kind))
    return replace(case, labels=labels), tuple(wrong)
