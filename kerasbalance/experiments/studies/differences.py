"""What differs between the arms of a study: measures, pairs, and how sure each comparison is.

The study says beforehand which measures decide (`--measures`): those comparisons are adjusted for their number, all
others are exploratory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.paired import (
    PairedDifference,
    adjust_p_values,
    paired_difference,
    summarise_scores,
)
from kerasbalance.evaluation.power import seeds_needed, variance_components
from kerasbalance.experiments.studies.measures import MEASURES, Measure
from kerasbalance.experiments.studies.options import StudyRecord
from kerasbalance.experiments.studies.results import read_results
from kerasbalance.experiments.studies.scores import ArmScores, GroupResults, Scores

LEVEL = 0.05
"""Of every test, after adjustment."""
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Difference:
    """One arm against another, paired by seed and case.

    Args:
        arm: name of the one.
        baseline: name of the other.
        measure: one of `MEASURES`.
        found: difference, bootstrap interval and p-value of this comparison alone.
        registered: whether it was named before the study as one that decides.
        margin: how much lower counts as not worse, in Dice.
        low: lower end of the interval of the t-test; for a registered comparison it allows for their number.
        high: upper end.
        p: p-value; for a registered comparison adjusted for their number (Holm).
        p_not_worse: likewise, of "lower by the margin or more".
        seeds_needed: seeds that would show a difference of the size found, or of the margin if that is larger, with a
            power of 80 %; None where no number does or nothing is known.
    """

    arm: str
    baseline: str
    measure: str
    found: PairedDifference
    registered: bool
    margin: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_not_worse: float = math.nan
    seeds_needed: int | None = None

    @property
    def verdict(self) -> str:
        """Return "better", "worse", "not worse" (by more than the margin), or "cannot tell"."""
        if self.found.seeds < FEWEST_SEEDS:
            return "cannot tell"
        if self.p < LEVEL:
            return "better" if self.found.difference > 0 else "worse"
        return "not worse" if self.p_not_worse < LEVEL else "cannot tell"


Compared = Sequence[tuple[GroupResults, tuple[Difference, ...]]]
"""The groups of a study, each with its comparisons."""


def read_compared(folder: Path, record: StudyRecord) -> Compared:
    """Read what is finished of a study, and compare its arms as the study's record says.

    Raises:
        DataError: If a table of a run is malformed (codes `REPORT`, `SLICES`).
    """
    options = record.options
    return compare(read_results(folder, record), options.measures, options.margin / 100)


def compare(groups: Sequence[GroupResults], measures: Sequence[str], margin: float) -> Compared:
    """Compare every arm with its baselines, by every measure.

    Args:
        groups: what is finished.
        measures: those that decide.
        margin: how much lower counts as not worse, in Dice.

    Returns:
        Each group with its comparisons. Those that decide are adjusted for their number, whatever group they are in.
    """
    found = [
        [_difference(group, *pair, measure, measure.name in measures, margin)
         for pair in _pairs(group.arms) for measure in MEASURES.values()
         if not measure.equal_fp or all(run.curve for arm in pair for run in arm.runs)]
        for group in groups
    ]  # fmt: skip
    registered = [d for group in found for d in group if d.registered]
    values = iter(adjust_p_values([d.p for d in registered]))
    not_worse = iter(adjust_p_values([d.p_not_worse for d in registered]))
    level = 1 - LEVEL / max(1, len(registered))

    def adjusted(difference: Difference) -> Difference:
        if not difference.registered:
            return difference
        low, high = difference.found.interval(level)
        return replace(difference, p=next(values), p_not_worse=next(not_worse), low=low, high=high)

    return [(group, tuple(map(adjusted, pairs))) for group, pairs in zip(groups, found, strict=True)]


def _pairs(arms: Sequence[ArmScores]) -> list[tuple[ArmScores, ArmScores]]:
    """Return every arm with each of its controls that shares a seed with it."""
    by_name = {arm.arm.name: arm for arm in arms}
    return [
        (arm, by_name[name])
        for arm in arms
        for name in arm.arm.controls
        if name in by_name and set(by_name[name].seeds) & set(arm.seeds)
    ]


def _difference(
    group: GroupResults,
    arm: ArmScores,
    baseline: ArmScores,
    measure: Measure,
    registered: bool,
    margin: float,
) -> Difference:
    seeds = [seed for seed in arm.seeds if seed in baseline.seeds]
    first, second = _scores(measure, arm, baseline, seeds, group.hard)
    found = paired_difference(first, second, measure.statistic)
    low, high = found.interval()
    return Difference(
        arm.arm.name, baseline.arm.name, measure.name, found, registered, margin, low, high, found.p,
        found.p_not_worse(margin), _seeds_needed(first, second, measure.statistic, max(margin, abs(found.difference))),
    )  # fmt: skip


def _scores(
    measure: Measure, arm: ArmScores, baseline: ArmScores, seeds: Sequence[int], hard: NDArray[np.bool_]
) -> tuple[Scores, Scores]:
    """Return the scores of an arm and of its control, `(seeds, cases)`, or `(seeds, 1)` of the hard slices.

    Neighbouring slices are alike, so that of them only the seeds are drawn.
    """
    first, second = (one.slice_dice(seeds) if measure.slices else one.dice(seeds) for one in (arm, baseline))
    if measure.equal_fp:
        curves = {run.seed: run.curve for run in baseline.runs if run.curve is not None}
        moved = [curves[seed].at(arm.run(seed).false_positive_share) for seed in seeds]
        second = np.stack([scores[measure.slices] for scores in moved])
    if measure.slices:
        first, second = (scores[:, hard].mean(axis=1, keepdims=True) for scores in (first, second))
    return first, second


def _seeds_needed(first: Scores, second: Scores, statistic: str, effect: float) -> int | None:
    if not effect > 0:
        return None
    if statistic != "mean":
        first, second = (summarise_scores(one, statistic)[:, None] for one in (first, second))
    return seeds_needed(variance_components(first - second), first.shape[1], effect)
