"""Reads the finished runs of a study."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.paired import summarise_scores
from kerasbalance.experiments.runs.evaluation_files import read_cases, read_slices
from kerasbalance.experiments.runs.folder import RunFolder
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.studies.arms import parse_arm
from kerasbalance.experiments.studies.curve import read_curve
from kerasbalance.experiments.studies.options import StudyRecord, unit_folder
from kerasbalance.experiments.studies.progress import is_done
from kerasbalance.experiments.studies.scores import ArmRow, ArmScores, GroupResults, RunScores

Scores = NDArray[np.float64]

HARD_SHARE = 0.15
"""Share of the test slices with the organ that count as hard: those on which all runs together did worst."""


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
    return tuple(
        _group(organ, model, arms, diverged, missing)
        for (organ, model), (arms, diverged, missing) in read.items()
        if arms
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
        curve=read_curve(run.eval_folder),
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
    return GroupResults(organ, model, arms, rows, hard, diverged, missing)


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
