"""How many seeds and cases a comparison needs: components of variance, and the power of the paired test.

References:
    Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4 (two crossed random factors, one value a
    cell). Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988 (power of the t-test).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kerasbalance.errors import explain
from kerasbalance.evaluation.paired import checked_scores

MOST_SEEDS = 1000
"""The largest number of seeds that is looked at."""


@dataclass(frozen=True)
class VarianceComponents:
    """What a paired difference varies with, as variances.

    Args:
        seeds: Between seeds; NaN for fewer than two.
        cases: Between cases; 0 where only one value a seed was given.
        residual: What is left: seed and case together.
    """

    seeds: float
    cases: float
    residual: float

    def squared_error(self, seeds: float, cases: float) -> float:
        """Return the expected squared standard error of `paired_difference` for so many seeds and cases."""
        by_seed = self.seeds + self.residual / cases
        by_case = self.cases + self.residual / seeds if cases > 1 else 0.0
        return by_seed / seeds + by_case / cases


def variance_components(differences: ArrayLike) -> VarianceComponents:
    """Split the variance of paired differences into seeds, cases and the rest.

    Args:
        differences: `(seeds, cases)`, finite; `(seeds, 1)` where there is one value a seed.

    Returns:
        The components; a negative estimate counts as 0.

    Raises:
        ValueError: If the shape is wrong or a difference is not finite.

    Example:
        >>> variance_components([[0.0, 2.0], [4.0, 6.0]])
        VarianceComponents(seeds=8.0, cases=2.0, residual=0.0)
    """
    table = checked_scores(differences, "differences")
    seeds, cases = table.shape
    if seeds < 2:
        return VarianceComponents(math.nan, math.nan, math.nan)
    if cases == 1:
        return VarianceComponents(float(table.var(ddof=1)), 0.0, 0.0)
    by_seed, by_case = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_case[None, :] + table.mean()
    residual = float((rest**2).sum() / ((seeds - 1) * (cases - 1)))
    return VarianceComponents(
        max(0.0, float(by_seed.var(ddof=1)) - residual / cases),
        max(0.0, float(by_case.var(ddof=1)) - residual / seeds),
        residual,
    )


def seeds_needed(
    components: VarianceComponents, cases: int, effect: float, *, level: float = 0.05, power: float = 0.8
) -> int | None:
    """Return how many seeds show a difference of `effect` with the given power.

    Args:
        components: Of the difference.
        cases: How many cases each seed is tested on, 1 or more.
        effect: The difference that is to be shown, above 0, in the unit of the scores.
        level: Of the two-sided test, between 0 and 1.
        power: Probability with which it is to be shown, between 0 and 1.

    Returns:
        The smallest number that suffices, 2 or more; None where no number up to 1,000 does, since the cases differ too
        much, or where the components are not known.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> seeds_needed(VarianceComponents(seeds=4.0, cases=0.0, residual=0.0), cases=1, effect=1.0)
        34
    """
    from scipy import stats

    if cases < 1 or not effect > 0 or not 0 < level < 1 or not 0 < power < 1:
        raise ValueError(
            explain(
                f"cases={cases}, effect={effect}, level={level}, power={power}",
                "one case or more, an effect above 0, level and power between 0 and 1",
                "correct the argument that is out of range",
            )
        )
    if math.isnan(components.seeds):
        return None
    numbers = np.arange(2, MOST_SEEDS + 1)
    errors = np.sqrt([components.squared_error(int(n), cases) for n in numbers])
    limits = stats.t.ppf(1 - level / 2, numbers - 1)
    shift = effect / np.maximum(errors, 1e-12 * effect)
    reached = np.asarray(stats.nct.sf(limits, numbers - 1, np.minimum(shift, 1e3)) >= power)
    return int(numbers[reached.argmax()]) if reached.any() else None
