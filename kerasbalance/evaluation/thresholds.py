"""The mean case Dice at several thresholds, and the threshold at which it is best."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.mining.counts import ThresholdScores, dice_from_counts, sums_by_case


def mean_case_dice(scores: ThresholdScores, cases: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean case Dice of each organ at each threshold.

    A case that shows the organ in neither mask is excluded from the mean, as in `summarise_cases`.

    Args:
        scores: The counts of slices.
        cases: `(slices,)`, the case of each of them.

    Returns:
        Float64 `(thresholds, organs)`; NaN where no case has the organ in either mask.

    Example:
        >>> counts = np.array([[[[3, 4, 4]], [[0, 0, 0]]], [[[2, 2, 4]], [[0, 0, 0]]]])
        >>> mean_case_dice(ThresholdScores(np.arange(2), (0.4, 0.6), counts), np.array(["a", "b"])).ravel()
        array([0.75      , 0.66666667])
    """
    _, summed = sums_by_case(scores.counts.swapaxes(0, 1), np.asarray(cases))
    present = summed[..., 1:].sum(axis=-1) > 0
    dice = np.where(present, dice_from_counts(summed), 0.0).sum(axis=0)
    count = present.sum(axis=0)
    return np.where(count > 0, dice / np.maximum(count, 1), np.nan)


def best_threshold(thresholds: tuple[float, ...], means: NDArray[np.float64]) -> int:
    """Return the place of the best threshold: of the highest mean, and of equal ones the nearest to 0.5.

    Args:
        thresholds: The thresholds.
        means: `(thresholds,)`, of one organ; NaN counts as the lowest.
    """
    order = [
        (-mean if np.isfinite(mean) else np.inf, abs(threshold - 0.5), threshold)
        for threshold, mean in zip(thresholds, means.tolist(), strict=True)
    ]
    return order.index(min(order))
