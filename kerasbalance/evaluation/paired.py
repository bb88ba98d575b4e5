"""Is one training better than another? Paired differences over seeds and cases, with a bootstrap interval.

References:
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile intervals). Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1(2):386-411, 2007, doi 10.1214/07-AOAS122 (resampling of two crossed
    factors: here seeds and cases).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.errors import explain

RESAMPLES = 10_000
STATISTICS = ("mean", "minimum", "worst tenth")


@dataclass(frozen=True)
class PairedDifference:
    """How much higher a score is than another of the same seeds and cases.

    Args:
        difference: Mean over the seeds.
        low: Lower end of the bootstrap interval; NaN for fewer than two seeds.
        high: Upper end.
        p: Two-sided p-value of the t-test described at `paired_difference`; NaN for fewer than two seeds.
        seeds: How many seeds were compared.
        seeds_up: In how many of them the difference is above 0.
        standard_error: Of the difference, as the t-test uses it; NaN for fewer than two seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int
    seeds_up: int
    standard_error: float = math.nan

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the t-test, lower and upper end; NaN for fewer than two seeds.

        Args:
            level: Between 0 and 1. For the interval that allows for `m` comparisons (Bonferroni), `1 - 0.05 / m`.
        """
        from scipy import stats

        if self.seeds < 2:
            return math.nan, math.nan
        half = float(stats.t.ppf((1 + level) / 2, self.seeds - 1)) * self.standard_error
        return self.difference - half, self.difference + half

    def p_not_worse(self, margin: float) -> float:
        """Return the one-sided p-value of "lower by `margin` or more"; small where that can be ruled out.

        Args:
            margin: In the unit of the scores, 0 or more.

        Returns:
            From 0 to 1; NaN for fewer than two seeds.
        """
        from scipy import stats

        if self.seeds < 2:
            return math.nan
        if self.standard_error < 1e-12:  # no spread but rounding
            return float(self.difference <= -margin)
        return float(stats.t.sf((self.difference + margin) / self.standard_error, self.seeds - 1))


def summarise_scores(scores: ArrayLike, statistic: str) -> NDArray[np.float64]:
    """Sum up the cases of each seed.

    Args:
        scores: `(seeds, cases)`.
        statistic: "mean", "minimum", or "worst tenth": the mean of the lowest tenth of the cases, rounded up.

    Returns:
        `(seeds,)`.

    Raises:
        ValueError: If the shape, the statistic or the number of cases is wrong.
    """
    array = checked_scores(scores, "scores")
    if statistic not in STATISTICS:
        raise ValueError(
            explain(f"statistic={statistic!r}", f"one of {', '.join(STATISTICS)}", "pass one of these names")
        )
    if statistic == "mean":
        return np.asarray(array.mean(axis=1))
    if statistic == "minimum":
        return np.asarray(array.min(axis=1))
    worst = math.ceil(array.shape[1] / 10)
    return np.asarray(np.sort(array, axis=1)[:, :worst].mean(axis=1))


def paired_difference(
    scores: ArrayLike,
    baseline: ArrayLike,
    statistic: str = "mean",
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two trainings on the same seeds and the same cases.

    For the mean, seeds and cases are both drawn with replacement: the interval holds for other seeds and other
    cases of the same kind. The minimum and the worst tenth are properties of the given cases, so only seeds are
    drawn. With few seeds (fewer than about ten) percentile intervals are too narrow: where all seeds point one way
    the interval excludes 0, however few they are. The p-value does not have that fault. It is that of a t-test with
    one degree of freedom less than there are seeds; the squared standard error is that of the seeds' means, and for
    the mean that of the cases' means is added (which counts their common noise twice: the test errs on the safe side).

    Args:
        scores: `(seeds, cases)`, finite.
        baseline: Of the same shape; entry by entry the same seed and case.
        statistic: As for `summarise_scores`.
        level: Of the interval, between 0 and 1.
        resamples: Bootstrap samples, >= 1.
        seed: Of the resampling.

    Returns:
        The difference, `scores` less `baseline`.

    Raises:
        ValueError: If the shapes differ, a score is not finite, or an argument is out of range.

    Example:
        >>> found = paired_difference([[0.9, 0.8], [0.8, 0.9]], [[0.8, 0.8], [0.7, 0.8]])
        >>> round(found.difference, 3), found.seeds_up
        (0.075, 2)
    """
    first, second = checked_scores(scores, "scores"), checked_scores(baseline, "baseline")
    if first.shape != second.shape or not 0 < level < 1 or resamples < 1:
        raise ValueError(
            explain(
                f"scores {first.shape}, baseline {second.shape}, level={level}, resamples={resamples}",
                "equal shapes, a level between 0 and 1, at least one resample",
                "leave out the seeds and cases that only one of them has",
            )
        )
    by_seed = summarise_scores(first, statistic) - summarise_scores(second, statistic)
    low = high = math.nan
    if len(by_seed) > 1:
        drawn = _resampled(first - second if statistic == "mean" else by_seed[:, None], resamples, seed)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    error = _standard_error(by_seed, (first - second).mean(axis=0) if statistic == "mean" else None)
    difference, seeds = float(by_seed.mean()), len(by_seed)
    p = _p_value(difference, error, seeds)
    return PairedDifference(difference, low, high, p, seeds, int((by_seed > 0).sum()), error)


def adjust_p_values(values: Sequence[float]) -> list[float]:
    """Allow for many comparisons: Holm's step-down adjustment.

    Args:
        values: P-values; NaN ones stay NaN and count as comparisons all the same.

    Returns:
        Adjusted p-values, in the same order, at most 1.

    Example:
        >>> adjust_p_values([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
        6(2):65-70, 1979.
    """
    adjusted, largest = [math.nan] * len(values), 0.0
    ordered = sorted((value, number) for number, value in enumerate(values) if not math.isnan(value))
    for rank, (value, number) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(values) - rank) * value))
        adjusted[number] = largest
    return adjusted


def _standard_error(by_seed: NDArray[np.float64], by_case: NDArray[np.float64] | None) -> float:
    if len(by_seed) < 2:
        return math.nan
    squared = by_seed.var(ddof=1) / len(by_seed)
    if by_case is not None and len(by_case) > 1:
        squared += by_case.var(ddof=1) / len(by_case)
    return float(np.sqrt(squared))


def _p_value(difference: float, error: float, seeds: int) -> float:
    from scipy import stats

    if seeds < 2:
        return math.nan
    if error <= 1e-12 * max(1.0, abs(difference)):  # no spread but rounding
        return 1.0 if abs(difference) < 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, seeds - 1))


def _resampled(differences: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of each resample; rows (seeds) and columns (cases) are drawn independently."""
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        for count in differences.shape
    )
    return np.asarray(((rows @ differences) * columns).sum(axis=1))


def checked_scores(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return scores as float64 `(seeds, cases)`.

    Args:
        scores: What was passed.
        name: How an error calls it.

    Raises:
        ValueError: If they have another shape, there are none, or one is not finite.
    """
    array = np.asarray(scores, np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(
            explain(
                f"{name} of shape {array.shape}, of which {np.count_nonzero(~np.isfinite(array))} are not finite",
                "finite numbers (seeds, cases), at least one of each",
                "leave out cases without a score",
            )
        )
    return array
