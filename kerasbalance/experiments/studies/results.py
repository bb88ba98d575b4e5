"""The runs of a study brought together: scores by arm, seed and case, and what differs between arms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.cases import CaseMetrics
from kerasbalance.evaluation.paired import (
    PairedDifference,
    adjust_p_values,
    paired_difference,
    summarise_scores,
)
from kerasbalance.experiments.runs.evaluation_files import read_cases, read_slices
from kerasbalance.experiments.runs.folder import RunFolder
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.studies.arms import BASELINES, Arm, parse_arm
from kerasbalance.experiments.studies.options import StudyRecord, unit_folder
from kerasbalance.experiments.studies.progress import is_done

Scores = NDArray[np.float64]

HARD_SHARE = 0.15
"""Share of the test slices with the organ that count as hard: those on which all runs together did worst."""
MEASURES = ("mean", "worst tenth", "minimum", "hard slices")
LEVEL = 0.95


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

    @property
    def dice(self) -> Scores:
        """Case Dice, float64 `(cases,)`."""
        return np.array([case.dice for case in self.cases])


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
class Difference:
    """One arm against another, paired by seed and case.

    Args:
        arm: name of the one.
        baseline: name of the other.
        measure: one of `MEASURES`.
        found: difference and 95 % interval.
        adjusted_p: p-value that allows for all comparisons of the study (Holm).
    """

    arm: str
    baseline: str
    measure: str
    found: PairedDifference
    adjusted_p: float


@dataclass(frozen=True)
class GroupResults:
    """All of one organ and network.

    Args:
        organ: which.
        model: which.
        arms: with at least one finished run, in the study's order.
        rows: their numbers.
        differences: of the arms to the baselines.
        hard_slices: how many test slices count as hard.
        diverged: "arm, seed n" of runs that could not be trained.
        missing: likewise, of runs that are not finished.
    """

    organ: str
    model: str
    arms: tuple[ArmScores, ...]
    rows: tuple[ArmRow, ...]
    differences: tuple[Difference, ...]
    hard_slices: int
    diverged: tuple[str, ...]
    missing: tuple[str, ...]


def read_results(folder: Path, record: StudyRecord) -> tuple[GroupResults, ...]:
    """Read what is finished of a study, group by group; a group without a finished run is left out.

    The hard test slices are those with the lowest mean Dice over all finished runs of the group, of all arms alike,
    so that no arm chooses them.

    Raises:
        DataError: a table of a run is malformed (codes `REPORT`, `SLICES`).
    """
    options = record.options
    read = {}
    for organ in options.organs:
        for model in options.models:
            read[organ, model] = _read_group(folder, record, organ, model)
    return _adjusted(
        [
            _group(organ, model, arms, diverged, missing)
            for (organ, model), (arms, diverged, missing) in read.items()
            if arms
        ]
    )


def _adjusted(groups: Sequence[GroupResults]) -> tuple[GroupResults, ...]:
    """Adjust the p-values: every comparison of the study counts, whatever group it is in."""
    values = iter(adjust_p_values([d.found.p for group in groups for d in group.differences]))
    return tuple(
        replace(group, differences=tuple(replace(d, adjusted_p=next(values)) for d in group.differences))
        for group in groups
    )


def _read_group(
    folder: Path, record: StudyRecord, organ: str, model: str
) -> tuple[tuple[ArmScores, ...], tuple[str, ...], tuple[str, ...]]:
    found: dict[str, list[RunScores]] = {name: [] for name in record.options.arms}
    diverged, missing = [], []
    for unit in record.options.units():
        if (unit.organ, unit.model) != (organ, model):
            continue
        for arm in unit.arms:
            run = RunFolder(unit_folder(folder, unit) / arm.name)
            label = f"{arm.name}, seed {unit.seed}"
            if run.diverged_file.exists():
                diverged.append(label)
            elif is_done(run.path):
                found[arm.name].append(_read_run(run, unit.seed, record.options.base.batch_size))
            else:
                missing.append(label)
    arms = tuple(ArmScores(parse_arm(name), tuple(runs)) for name, runs in found.items() if runs)
    return arms, tuple(diverged), tuple(missing)


def _read_run(run: RunFolder, seed: int, batch_size: int) -> RunScores:
    cases = sorted(read_cases(run.eval_folder), key=lambda case: case.case)
    added, threshold = 0, math.nan
    if run.slices_file.exists():
        table = SliceTable.read(run.slices_file)
        added, threshold = int(table.hard.sum()), table.threshold
    return RunScores(
        seed=seed,
        cases=tuple(case for case in cases if case.reference_voxels),
        slice_dice=_positive_slices(run.eval_folder),
        false_positives=sum(case.false_positive_slices for case in cases),
        empty=sum(case.empty_slices for case in cases),
        iterations=run.saved_iteration,
        slices_seen=run.saved_iteration * batch_size,
        added=added,
        threshold=threshold,
    )


def _positive_slices(folder: Path) -> Scores:
    rows = [(one.case, one.slice, one.dice) for one in read_slices(folder) if one.reference_pixels]
    return np.array([dice for _, _, dice in sorted(rows)])


def _group(
    organ: str,
    model: str,
    arms: tuple[ArmScores, ...],
    diverged: tuple[str, ...],
    missing: tuple[str, ...],
) -> GroupResults:
    hard = _hard_slices(arms)
    rows = tuple(_row(arm, hard) for arm in arms)
    differences = tuple(
        _difference(arm, baseline, measure, hard) for arm, baseline in _pairs(arms) for measure in MEASURES
    )
    return GroupResults(organ, model, arms, rows, differences, int(hard.sum()), diverged, missing)


def _hard_slices(arms: Sequence[ArmScores]) -> NDArray[np.bool_]:
    """Return a mask of the test slices on which all arms did worst; each arm counts the same."""
    mean = np.mean([arm.slice_dice(arm.seeds).mean(axis=0) for arm in arms], axis=0)
    hard = np.zeros(len(mean), bool)
    hard[np.argsort(mean, kind="stable")[: math.ceil(HARD_SHARE * len(mean))]] = True
    return hard


def _row(arm: ArmScores, hard: NDArray[np.bool_]) -> ArmRow:
    dice, runs = arm.dice(arm.seeds), arm.runs
    means = dice.mean(axis=1)
    return ArmRow(
        arm=arm.arm,
        seeds=len(runs),
        mean=float(means.mean()),
        seed_sd=float(means.std(ddof=1)) if len(means) > 1 else math.nan,
        case_sd=float(dice.std(axis=1, ddof=1).mean()) if dice.shape[1] > 1 else math.nan,
        minimum=float(dice.min(axis=1).mean()),
        maximum=float(dice.max(axis=1).mean()),
        worst_tenth=float(summarise_scores(dice, "worst tenth").mean()),
        hard_slices=float(arm.slice_dice(arm.seeds)[:, hard].mean()),
        false_positive_share=sum(r.false_positives for r in runs) / max(1, sum(r.empty for r in runs)),
        iterations=float(np.mean([run.iterations for run in runs])),
        slices_seen=float(np.mean([run.slices_seen for run in runs])),
        added=float(np.mean([run.added for run in runs])),
    )


def _pairs(arms: Sequence[ArmScores]) -> list[tuple[ArmScores, ArmScores]]:
    """Return every arm with each baseline that shares a seed with it.

    Baselines are compared with those before them only, and selection ratios with all cases only: every comparison
    more makes the others harder to show.
    """
    by_name = {arm.arm.name: arm for arm in arms}
    pairs = []
    for arm in arms:
        alone = (arm.arm.strategy, arm.arm.loss) == ("none", "dice")
        for name in BASELINES[:1] if alone else BASELINES:
            if name == arm.arm.name:
                break  # "all" is compared with nothing, "0.5" with "all", "random" with both
            if name in by_name and set(by_name[name].seeds) & set(arm.seeds):
                pairs.append((arm, by_name[name]))
    return pairs


def _difference(arm: ArmScores, baseline: ArmScores, measure: str, hard: NDArray[np.bool_]) -> Difference:
    seeds = [seed for seed in arm.seeds if seed in baseline.seeds]
    if measure == "hard slices":
        # Neighbouring slices are alike, so that only the seeds are drawn.
        first, second = (
            one.slice_dice(seeds)[:, hard].mean(axis=1, keepdims=True) for one in (arm, baseline)
        )
        statistic = "mean"
    else:
        first, second, statistic = arm.dice(seeds), baseline.dice(seeds), measure
    found = paired_difference(first, second, statistic, level=LEVEL)
    return Difference(arm.arm.name, baseline.arm.name, measure, found, math.nan)
