"""A run's model on its test cases: case by case, slice by slice, and as the paper sums it up."""

import math
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.evaluation.cases import (
    CaseMetrics,
    SliceMetrics,
    evaluate_case,
    evaluate_slices,
    keep_largest_component,
    summarise_cases,
)
from kerasbalance.experiments.runs.evaluation_files import Evaluation
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.parts import TEST
from kerasbalance.experiments.runs.segment import load_segmenter, segment_case
from kerasbalance.experiments.runs.train import Run

Progress = Callable[[int], None]


def evaluate_run(
    run: Run,
    *,
    point: OperatingPoint | None = None,
    keep_largest: Collection[str] = (),
    progress: Progress = lambda done: None,
) -> Evaluation:
    """Segment the test cases of a run and compare with their reference.

    Args:
        run: the run, opened with its store.
        point: the threshold and the clean-up of each organ; the run's own by default.
        keep_largest: organs to evaluate once more with only the largest connected part of the prediction.
        progress: called with the number of slices done since the last call.

    Raises:
        DataError: the run has no test cases, no sound checkpoint or no readable operating point (codes `SPLIT`,
            `CHECKPOINT`, `OPERATING_POINT`).
    """
    tested = {row.case for row in run.rows if row.part == TEST}
    numbers = [n for n, case in enumerate(run.store.cases) if case.key in tested]
    if not numbers:
        raise DataError(
            "SPLIT", "a run without test cases", "at least one", "train with --test-share above 0"
        )
    source = run.source()
    segmenter = load_segmenter(run.folder, run.record, source.source.plane, point)
    cases: list[CaseMetrics] = []
    slices: list[SliceMetrics] = []
    cleaned: list[CaseMetrics] = []
    for number in numbers:
        predicted, reference = segment_case(segmenter, source, number, progress)
        for value, organ in enumerate(run.options.organs, 1):
            pair = (predicted == value, reference == value)
            cases.append(_case(run, number, organ, *pair))
            slices += evaluate_slices(*pair, case=run.store.cases[number].key, organ=organ)
            if organ in keep_largest:
                cleaned.append(_case(run, number, organ, keep_largest_component(pair[0]), pair[1]))
    return Evaluation(
        tuple(cases),
        tuple(slices),
        summarise_cases(cases),
        summarise_cases(cleaned) if cleaned else (),
        point=segmenter.point,
        on_ct=sum(run.store.cases[number].is_judged_on_ct for number in numbers),
        on_store=sum(not run.store.cases[number].is_judged_on_ct for number in numbers),
    )


def _case(
    run: Run, number: int, organ: str, predicted: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> CaseMetrics:
    facts = run.store.cases[number]
    between, *within = facts.spacing_mm
    within = within if facts.ct_pixel_mm is None else list(facts.ct_pixel_mm)
    spacing = (math.nan if between is None else between, *within)
    depth = run.store.reader(number).depth_mm
    even = len(depth) < 3 or np.allclose(np.diff(depth), depth[1] - depth[0], rtol=0, atol=0.05)
    return evaluate_case(
        predicted, reference, spacing, case=facts.key, organ=organ, depth_mm=None if even else depth
    )
