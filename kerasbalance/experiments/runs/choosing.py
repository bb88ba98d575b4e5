"""Chooses a run's operating point on its validation cases, and on no others."""

from dataclasses import replace
from typing import Any

import numpy as np

import kerasbalance as kb
from kerasbalance.backend.inference import slices_at_a_time
from kerasbalance.batches.source import Source
from kerasbalance.evaluation.clean_up import CLEAN_UPS, clean_up
from kerasbalance.evaluation.thresholds import best_threshold, mean_case_dice
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.operating_point import OperatingPoint, OrganPoint, Trial
from kerasbalance.experiments.runs.segment import segment_case
from kerasbalance.mining.counts import dice_from_counts
from kerasbalance.mining.decision import THRESHOLDS


def choose_operating_point(
    model: Any, source: Any, refs: np.ndarray, organs: tuple[str, ...], batch_size: int
) -> OperatingPoint | None:
    """Choose threshold and clean-up of each organ by the mean case Dice of the validation cases.

    First the threshold, without a clean-up; of equally good ones the nearest to 0.5. Then the clean-up at that
    threshold; one that is not better than a lesser intervention is not taken.

    Args:
        model: The network, with the weights that the run keeps.
        source: A `PaddedSource` of the run's store.
        refs: Int64 `(slices,)`, the slices of the validation cases.
        organs: The organs, in the order of the labels.
        batch_size: Slices a step at most.

    Returns:
        The point with the table that it was chosen from; None without validation cases.
    """
    if not len(refs):
        return None
    store = source.source.store
    cases = store.case_of(refs)
    thresholds = _thresholds(model, source, refs, cases, organs, slices_at_a_time(model, batch_size))
    point = OperatingPoint(tuple(OrganPoint(organ, _best_threshold(thresholds, organ)) for organ in organs))
    numbers = np.unique(cases).tolist()
    clean_ups = _clean_ups(Segmenter(model, batch_size, point), source, numbers, point)
    chosen = [replace(one, clean_up=_best_clean_up(clean_ups, one.organ)) for one in point.organs]
    return OperatingPoint(tuple(chosen), len(numbers), tuple(thresholds), tuple(clean_ups))


def _thresholds(
    model: Any, source: Source, refs: np.ndarray, cases: np.ndarray, organs: tuple[str, ...], size: int
) -> list[Trial]:
    scores = kb.score_at_thresholds(model, source, refs, size)
    means = mean_case_dice(scores, cases)
    return [
        Trial(organ, threshold, "none", float(mean))
        for column, organ in enumerate(organs)
        for threshold, mean in zip(THRESHOLDS, means[:, column], strict=True)
    ]


def _best_threshold(table: list[Trial], organ: str) -> float:
    means = np.array([trial.dice for trial in table if trial.organ == organ])
    return THRESHOLDS[best_threshold(THRESHOLDS, means)]


def _clean_ups(segmenter: Segmenter, source: Any, numbers: list[int], point: OperatingPoint) -> list[Trial]:
    """Return the mean Dice of each clean-up, on the grid on which the cases are judged."""
    kinds = list(CLEAN_UPS)
    organs = [one.organ for one in point.organs]
    dice = np.full((len(numbers), len(point.organs), len(kinds)), np.nan)
    for row, number in enumerate(numbers):
        labels, reference = segment_case(segmenter, source, number)
        for column, place in np.ndindex(dice.shape[1:]):
            if organs[column] not in source.source.store.cases[number].organs:
                continue
            found = clean_up(labels == column + 1, kinds[place]), reference == column + 1
            counts = [np.count_nonzero(mask) for mask in (found[0] & found[1], *found)]
            if any(counts):
                dice[row, column, place] = dice_from_counts(np.array(counts))
    means = np.nanmean(dice, axis=0)
    return [
        Trial(one.organ, one.threshold, kind, float(means[column, place]))
        for column, one in enumerate(point.organs)
        for place, kind in enumerate(kinds)
    ]


def _best_clean_up(table: list[Trial], organ: str) -> str:
    rows = [trial for trial in table if trial.organ == organ]
    return max(rows, key=lambda trial: trial.dice).clean_up  # the first of equal ones: the least intervention
