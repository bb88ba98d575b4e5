"""Which scores are hard: one small rule each, a pure function of the scores."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.index import Refs, as_refs
from kerasbalance.errors import explain
from kerasbalance.mining.counts import SliceScores

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

NO_REFS: Refs = np.zeros(0, np.int64)
_RANDOM_RULE = 1
"""Marks the draw of `at_random` among those of the same seed."""


class Rule(Protocol):
    """Says which of some scores are hard; `repr` of a rule is what a run writes down about it."""

    @property
    def reference(self) -> Refs:
        """Slices to score beside the candidates; empty for most rules."""
        ...

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Return a mask `(slices,)` of the hard ones, and the threshold it amounts to.

        Args:
            scores: Float64 `(slices,)`, from 0 (worst) to 1.
            reference: The scores of the slices `reference`, if there are any.
        """
        ...


@dataclass(frozen=True)
class Below:
    """See `below`."""

    value: float
    reference: Refs = field(default_factory=lambda: NO_REFS, repr=False, compare=False)

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Select the scores under the value."""
        return scores < self.value, self.value


@dataclass(frozen=True)
class Lowest:
    """See `lowest`."""

    share: float
    reference: Refs = field(default_factory=lambda: NO_REFS, repr=False, compare=False)

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Select the lowest share of the scores, but none that is perfect."""
        chosen = np.argsort(scores, kind="stable")[: math.ceil(self.share * len(scores) - 1e-9)]
        mask = np.zeros(len(scores), bool)
        mask[chosen] = True
        mask &= scores < 1
        return mask, float(scores[mask].max()) if mask.any() else 0.0


@dataclass(frozen=True, eq=False)
class BelowWorstCase:
    """See `below_worst_case`."""

    reference: Refs
    cases: NDArray[Any] = field(repr=False)

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Select the scores under the lowest case Dice of the reference slices."""
        if reference is None or not np.array_equal(reference.refs, self.reference):
            raise ValueError(
                explain(
                    "no scores of the rule's reference slices",
                    f"the scores of its {len(self.reference)} slices, in order",
                    "pass reference=score_slices(model, source, sampler.reference) to update",
                )
            )
        threshold = float(reference.case_dice(self.cases)[1].min())
        return scores < threshold, threshold

    def __repr__(self) -> str:
        return f"BelowWorstCase({len(np.unique(self.cases))} cases, {len(self.reference)} slices)"


@dataclass(frozen=True)
class Everything:
    """See `everything`."""

    reference: Refs = field(default_factory=lambda: NO_REFS, repr=False, compare=False)

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Select all."""
        return np.ones(len(scores), bool), math.nan


@dataclass(frozen=True)
class AtRandom:
    """See `at_random`."""

    rule: Rule
    seed: int

    @property
    def reference(self) -> Refs:
        """What the other rule asks for."""
        return self.rule.reference

    def select(self, scores: Scores, reference: SliceScores | None) -> tuple[Mask, float]:
        """Select any slices, as many as the other rule does."""
        count = int(self.rule.select(scores, reference)[0].sum())
        mask = np.zeros(len(scores), bool)
        mask[np.random.default_rng((self.seed, _RANDOM_RULE)).permutation(len(scores))[:count]] = True
        return mask, math.nan


def below(threshold: float) -> Rule:
    """Call every slice hard whose score lies under a fixed threshold; the paper's rule, with 0.923.

    How many slices that is depends on how far the model has come; `lowest` is steadier.

    Args:
        threshold: From 0 (no slice is hard) to 1 (every slice that is not perfect).

    Raises:
        ValueError: If it lies outside 0 to 1.
    """
    return Below(_share("threshold", threshold))


def lowest(share: float) -> Rule:
    """Call the worst share of the slices hard, rounded up to a whole slice.

    Of equal scores the first ones given are taken; the samplers give them in an order that is drawn. A slice with
    score 1 is never hard, so fewer may be chosen.

    Args:
        share: From 0 to 1.

    Raises:
        ValueError: If it lies outside 0 to 1.
    """
    return Lowest(_share("share", share))


def below_worst_case(refs: ArrayLike, cases: ArrayLike) -> Rule:
    """Call every slice hard whose score lies under the Dice of the worst of some other cases.

    A slice is hard if the model does worse on it than on any whole case of, say, the validation set. It hangs
    on that one case, and moved by 0.11 between seeds where it was measured; `lowest` is steadier.

    Args:
        refs: Int64 `(slices,)`, the slices of those cases in the same source.
        cases: `(slices,)`, the case of each of them, as numbers or strings.

    Raises:
        ValueError: If there is no slice, or the lengths differ.
    """
    reference, names = as_refs(refs, "refs"), np.asarray(cases)
    if not len(reference) or names.shape != reference.shape:
        raise ValueError(
            explain(
                f"refs of shape {reference.shape} and cases of shape {names.shape}",
                "one case for each of at least one slice",
                "pass the slices of the validation cases",
            )
        )
    return BelowWorstCase(reference, names)


def everything() -> Rule:
    """Call every slice hard, perfect ones too: all candidates join, the upper bound of what mining can add."""
    return Everything()


def at_random(rule: Rule, seed: int = 0) -> Rule:
    """Draw as many slices as another rule would choose, whatever their score: the control for that rule.

    What mining gains over this is due to *which* slices were added; what this gains over training without them
    is due to more data alone. Perfect slices may be drawn. There is no threshold (NaN).

    Args:
        rule: Says how many.
        seed: Of the draw, >= 0; the same seed and number of candidates give the same order of preference.

    Raises:
        ValueError: If the seed is negative.

    Example:
        >>> mask, _ = at_random(lowest(0.5), seed=1).select(np.array([0.1, 0.9, 0.2, 0.8]), None)
        >>> int(mask.sum())
        2
    """
    if seed < 0:
        raise ValueError(explain(f"seed={seed!r}", "a whole number >= 0", "leave seed out for 0"))
    return AtRandom(rule, seed)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(explain(f"{name}={value!r}", "a number from 0 to 1", "pass 0.1 for a tenth"))
    return float(value)
