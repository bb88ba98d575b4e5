"""By what the arms of a study are compared: one entry a measure. A new one is one entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.experiments.studies.scores import ArmScores

Scores = NDArray[np.float64]
Pair = tuple[Scores, Scores]


@dataclass(frozen=True)
class Measure:
    """One way to compare two arms.

    Args:
        name: the word for it in options, tables and files.
        words: what is compared, in a sentence.
        statistic: how the scores of a seed are summed up, see `kerasbalance.paired_difference`.
        scores: gives the scores of an arm and of its baseline, `(seeds, cases)` or `(seeds, 1)`, from the two, the
            seeds that both have, and which slices are hard.
        curves: whether the runs' `OperatingCurve` is needed.
    """

    name: str
    words: str
    statistic: str
    scores: Callable[[ArmScores, ArmScores, Sequence[int], NDArray[np.bool_]], Pair]
    curves: bool = False


def _cases(arm: ArmScores, baseline: ArmScores, seeds: Sequence[int], hard: NDArray[np.bool_]) -> Pair:
    return arm.dice(seeds), baseline.dice(seeds)


def _hard_slices(arm: ArmScores, baseline: ArmScores, seeds: Sequence[int], hard: NDArray[np.bool_]) -> Pair:
    """Neighbouring slices are alike, so that only the seeds are drawn."""
    first, second = (one.slice_dice(seeds)[:, hard].mean(axis=1, keepdims=True) for one in (arm, baseline))
    return first, second


def _cases_at_equal(
    arm: ArmScores, baseline: ArmScores, seeds: Sequence[int], hard: NDArray[np.bool_]
) -> Pair:
    return arm.dice(seeds), np.stack([cases for cases, _ in _moved(arm, baseline, seeds)])


def _hard_at_equal(
    arm: ArmScores, baseline: ArmScores, seeds: Sequence[int], hard: NDArray[np.bool_]
) -> Pair:
    first, _ = _hard_slices(arm, baseline, seeds, hard)
    return first, np.stack([slices[hard].mean(keepdims=True) for _, slices in _moved(arm, baseline, seeds)])


def _moved(arm: ArmScores, baseline: ArmScores, seeds: Sequence[int]) -> list[Pair]:
    """Return the baseline's case and slice Dice of each seed where it invents as much as the arm does."""
    curves = {run.seed: run.curve for run in baseline.runs if run.curve is not None}
    return [curves[seed].at(arm.run(seed).false_positive_share) for seed in seeds]


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("mean", "mean case Dice", "mean", _cases),
        Measure("worst-tenth", "the worst tenth of the cases", "worst tenth", _cases),
        Measure("minimum", "the worst case", "minimum", _cases),
        Measure("hard-slices", "the hard slices", "mean", _hard_slices),
        Measure("mean-at-equal-fp", "mean case Dice at equal false positives", "mean", _cases_at_equal, curves=True),
        Measure(
            "worst-tenth-at-equal-fp", "the worst tenth of the cases at equal false positives", "worst tenth",
            _cases_at_equal, curves=True,
        ),
        Measure(
            "hard-slices-at-equal-fp", "the hard slices at equal false positives", "mean", _hard_at_equal, curves=True
        ),
    )
}  # fmt: skip
DEFAULT = ("mean", "worst-tenth-at-equal-fp", "hard-slices-at-equal-fp")
