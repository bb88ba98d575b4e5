"""What more cases would bring: the error of trainings on shares of the cases, followed as a power law.

References:
    Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017, arXiv 1712.00409 (errors fall as a power
    of the amount of data). Viering and Loog, "The Shape of Learning Curves: a Review", IEEE Transactions on Pattern
    Analysis and Machine Intelligence 45(6), 2023, doi 10.1109/TPAMI.2022.3220744 (what speaks against it).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.errors import explain

RESAMPLES = 2_000
FEWEST_SHARES = 3


@dataclass(frozen=True)
class Growth:
    """The error at another number of cases, as a power law foretells it.

    Args:
        factor: How many times the cases of the full training.
        gain: By how much the mean score would rise.
        low: Lower end of the 95 % interval over seeds; NaN for fewer than two seeds.
        high: Upper end.
        exponent: The error is multiplied by `factor ** -exponent`.
    """

    factor: float
    gain: float
    low: float
    high: float
    exponent: float


def expected_growth(
    shares: Sequence[float],
    scores: ArrayLike,
    factor: float = 2.0,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Growth:
    """Fit `1 - score = b * share ** -c` to trainings on shares of the cases, and read it off at `factor`.

    The line is fitted to logarithms by least squares. The interval is a bootstrap over seeds; it does not hold the
    doubt whether the power law goes on beyond the cases that there are.

    Args:
        shares: Share of the cases of each training, above 0; the largest is the full training.
        scores: Mean scores `(shares, seeds)`, from 0 to below 1.
        factor: How many times the cases of the full training, above 0.
        resamples: Bootstrap samples, 1 or more.
        seed: Of the resampling.

    Returns:
        The gain over the fitted score of the full training.

    Raises:
        ValueError: If there are fewer than three shares, or a number is out of range.

    Example:
        >>> growth = expected_growth([0.25, 0.5, 1.0], [[0.6], [0.8], [0.9]])  # twice the cases halve the error
        >>> round(growth.exponent, 3), round(growth.gain, 3)
        (1.0, 0.05)
    """
    table, places = np.asarray(scores, np.float64), np.asarray(shares, np.float64)
    sound = table.ndim == 2 and len(table) == len(places) and table.size and np.isfinite(table).all()
    if not sound or len(set(shares)) < FEWEST_SHARES or not (places > 0).all() or not factor > 0:
        raise ValueError(
            explain(
                f"shares {tuple(shares)}, scores of shape {table.shape}, factor={factor}",
                "three different shares or more, one row of finite scores for each, a factor above 0",
                "train on more shares of the cases",
            )
        )
    if (table >= 1).any() or (table < 0).any():
        raise ValueError(
            explain(
                f"scores up to {table.max():g}",
                "scores from 0 to below 1",
                "leave out trainings without error",
            )
        )
    rng = np.random.default_rng(seed)
    gain, exponent = _fit(places, table.mean(axis=1), factor)
    low = high = math.nan
    if table.shape[1] > 1:
        draws = rng.integers(table.shape[1], size=(resamples, table.shape[1]))
        gains = [_fit(places, table[:, drawn].mean(axis=1), factor)[0] for drawn in draws]
        low, high = (float(end) for end in np.quantile(gains, [0.025, 0.975]))
    return Growth(factor, gain, low, high, exponent)


def _fit(shares: NDArray[np.float64], scores: NDArray[np.float64], factor: float) -> tuple[float, float]:
    """Return the gain and the exponent of the fitted line."""
    slope, level = np.polyfit(np.log(shares), np.log(1 - scores), 1)
    largest = shares.max()
    now, then = (math.exp(level + slope * math.log(size)) for size in (largest, factor * largest))
    return now - then, -float(slope)
