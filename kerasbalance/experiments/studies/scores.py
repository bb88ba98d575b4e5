"""What the finished runs of a study say, by arm, seed and case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.cases import CaseMetrics
from kerasbalance.experiments.studies.arms import Arm
from kerasbalance.experiments.studies.curve import OperatingCurve

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class RunScores:
    """One finished run.

    Args:
        seed: of the run.
        cases: of the organ, in the order of their keys; cases whose reference has none of it left out.
        slice_dice: Dice of the test slices that show the organ, in the order of case and slice.
        false_positives: test slices without the organ on which something was predicted.
        empty: test slices without the organ.
        iterations: optimizer steps, from its last checkpoint.
        slices_seen: iterations times batch size.
        added: slices that scoring added; 0 where none was.
        threshold: highest score of a slice that was added as hard; NaN where none was.
        curve: its scores at other thresholds; None in a study of version 0.1.
    """

    seed: int
    cases: tuple[CaseMetrics, ...]
    slice_dice: Scores
    false_positives: int
    empty: int
    iterations: int
    slices_seen: int
    added: int
    threshold: float
    curve: OperatingCurve | None = None

    @property
    def dice(self) -> Scores:
        """Case Dice, float64 `(cases,)`."""
        return np.array([case.dice for case in self.cases])

    @property
    def false_positive_share(self) -> float:
        """Share of the slices without the organ on which something was predicted; 0 where there are none."""
        return self.false_positives / max(1, self.empty)


@dataclass(frozen=True)
class ArmScores:
    """The finished runs of one arm, by seed."""

    arm: Arm
    runs: tuple[RunScores, ...]

    def dice(self, seeds: Sequence[int]) -> Scores:
        """Case Dice, `(seeds, cases)`."""
        return np.stack([run.dice for run in self.runs if run.seed in seeds])

    def slice_dice(self, seeds: Sequence[int]) -> Scores:
        """Dice of the test slices that show the organ, `(seeds, slices)`."""
        return np.stack([run.slice_dice for run in self.runs if run.seed in seeds])

    def run(self, seed: int) -> RunScores:
        """Return the run of a seed."""
        return next(run for run in self.runs if run.seed == seed)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the finished runs."""
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True)
class ArmRow:
    """One arm in numbers; each is a mean over its seeds.

    Args:
        arm: which.
        seeds: how many.
        mean: mean case Dice.
        seed_sd: standard deviation of that mean between seeds; NaN for one seed.
        case_sd: standard deviation between cases, as the paper prints it.
        minimum: lowest case.
        maximum: highest case.
        worst_tenth: mean of the worst tenth of the cases.
        hard_slices: mean Dice of the hard test slices.
        false_positive_share: of the slices without the organ, those on which something was predicted.
        iterations: optimizer steps a run.
        slices_seen: slices trained on, a run.
        added: slices added by scoring, a run.
    """

    arm: Arm
    seeds: int
    mean: float
    seed_sd: float
    case_sd: float
    minimum: float
    maximum: float
    worst_tenth: float
    hard_slices: float
    false_positive_share: float
    iterations: float
    slices_seen: float
    added: float


@dataclass(frozen=True)
class GroupResults:
    """All of one organ and network.

    Args:
        organ: which.
        model: which.
        arms: with at least one finished run, in the study's order.
        rows: their numbers.
        hard: which of the test slices that show the organ count as hard, in the order of `RunScores.slice_dice`.
        diverged: "arm, seed n" of runs that could not be trained.
        missing: likewise, of runs that are not finished.
    """

    organ: str
    model: str
    arms: tuple[ArmScores, ...]
    rows: tuple[ArmRow, ...]
    hard: NDArray[np.bool_]
    diverged: tuple[str, ...]
    missing: tuple[str, ...]


def mean_curve(arm: ArmScores) -> tuple[Scores, Scores]:
    """Return an arm's shares of false positives and of missed slices `(thresholds,)`, each a mean over its seeds."""
    curves = [run.curve for run in arm.runs if run.curve is not None]
    return (
        np.mean([curve.false_positives for curve in curves], axis=0),
        np.mean([curve.missed for curve in curves], axis=0),
    )
