"""Dice from pixel counts, in float64 on the host."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dice = NDArray[np.float64]
Counts = NDArray[np.int64]


def dice_from_counts(counts: NDArray[Any]) -> Dice:
    """Return `2 * intersection / (predicted + reference)`.

    Where both are empty the Dice is 1, since nothing was missed and nothing invented; any pixel predicted
    where the reference is empty gives 0. The loss and the metric of this package keep to the same policy.

    Args:
        counts: Whole numbers `(..., 3)`: intersection, predicted, reference.

    Returns:
        float64 `(...)`, from 0 to 1, never NaN.

    Example:
        >>> dice_from_counts(np.array([[5, 10, 10], [0, 0, 0], [0, 4, 0]]))
        array([0.5, 1. , 0. ])
    """
    counts = np.asarray(counts, np.int64)
    size = counts[..., 1] + counts[..., 2]
    return np.where(size > 0, 2.0 * counts[..., 0] / np.maximum(size, 1), 1.0)


@dataclass(frozen=True, eq=False)
class SliceScores:
    """The scores of some slices.

    Args:
        refs: Int64 `(slices,)`, rows of the source.
        counts: Int64 `(slices, organs, 3)`: pixels in both, predicted, in the reference.
    """

    refs: NDArray[np.int64]
    counts: Counts

    @property
    def dice(self) -> Dice:
        """Float64 `(slices, organs)`; see `dice_from_counts` for empty slices."""
        return dice_from_counts(self.counts)

    def case_dice(self, cases: NDArray[Any]) -> tuple[NDArray[Any], Dice]:
        """Return the distinct `cases` and the Dice `(cases, organs)` of the counts summed over each case."""
        names, summed = sums_by_case(self.counts, cases)
        return names, dice_from_counts(summed)


@dataclass(frozen=True, eq=False)
class ThresholdScores:
    """The scores of some slices at several thresholds.

    Args:
        refs: Int64 `(slices,)`, rows of the source.
        thresholds: The thresholds, in the caller's order.
        counts: Int64 `(thresholds, slices, organs, 3)`: pixels in both, predicted, in the reference.
    """

    refs: NDArray[np.int64]
    thresholds: tuple[float, ...]
    counts: Counts

    @property
    def dice(self) -> Dice:
        """Float64 `(thresholds, slices, organs)`; see `dice_from_counts` for empty slices."""
        return dice_from_counts(self.counts)

    def at(self, threshold: float) -> SliceScores:
        """Return the scores at one of the thresholds.

        Raises:
            ValueError: If it is none of them.
        """
        return SliceScores(self.refs, self.counts[self.thresholds.index(threshold)])


def sums_by_case(counts: Counts, cases: NDArray[Any]) -> tuple[NDArray[Any], Counts]:
    """Return the distinct cases, and the counts `(cases, ...)` summed over the slices of each.

    Args:
        counts: `(slices, ...)`.
        cases: `(slices,)`, the case of each slice.
    """
    names, number = np.unique(cases, return_inverse=True)
    summed = np.zeros((len(names), *counts.shape[1:]), np.int64)
    np.add.at(summed, number, counts)
    return names, summed
