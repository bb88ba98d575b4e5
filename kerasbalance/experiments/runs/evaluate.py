"""A run's model on its test cases: case by case, slice by slice, and as the paper sums it up."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.store.source import NOT_ANNOTATED
from kerasbalance.evaluation.cases import (
    CaseMetrics,
    SliceMetrics,
    evaluate_case,
    evaluate_slices,
    keep_largest_component,
)
from kerasbalance.evaluation.summaries import summarise_cases
from kerasbalance.experiments.runs.ensemble import Ensemble
from kerasbalance.experiments.runs.evaluation_files import Evaluation
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.parts import TEST
from kerasbalance.experiments.runs.segment import segment_case
from kerasbalance.experiments.runs.train import Run

Progress = Callable[[int], None]


def evaluate_run(
    run: Run,
    *,
    point: OperatingPoint | None = None,
    keep_largest: Collection[str] = (),
    progress: Progress = lambda done: None,
) -> Evaluation:
    """Segment the test cases of a run and compare with their reference; see `evaluate_runs`."""
    return evaluate_runs([run], point=point, keep_largest=keep_largest, progress=progress)


def common_test_cases(runs: Sequence[Run]) -> list[int]:
    """Return the numbers of the cases on which runs can be judged together: test cases of each of them.

    Raises:
        DataError: If there is none, or the runs were trained on different stores (codes `SPLIT`, `ENSEMBLE`).
    """
    if len({run.record.store_digest for run in runs}) > 1:
        raise DataError("ENSEMBLE", "runs on different cases", "one store for all runs",
                        "evaluate together only runs that were trained on the same store")  # fmt: skip
    tested = set.intersection(*({row.case for row in run.rows if row.part == TEST} for run in runs))
    numbers = [n for n, case in enumerate(runs[0].store.cases) if case.key in tested]
    if not numbers:
        which = "a run without test cases" if len(runs) == 1 else "runs without a common test case"
        raise DataError("SPLIT", which, "at least one", "train with --test-share above 0, and runs to be averaged with "
                        "the same test cases")  # fmt: skip
    return numbers


def evaluate_runs(
    runs: Sequence[Run],
    flips: tuple[str, ...] = ("none",),
    *,
    point: OperatingPoint | None = None,
    keep_largest: Collection[str] = (),
    progress: Progress = lambda done: None,
) -> Evaluation:
    """Segment the common test cases of runs with the average of their networks and compare with their reference.

    Args:
        runs: one run or several on the same store, opened with it.
        flips: the flips over which outputs are averaged too.
        point: the threshold and the clean-up of each organ; that of `Ensemble.point` by default.
        keep_largest: organs to evaluate once more with only the largest connected part of the prediction.
        progress: called with the number of slices done since the last call.

    Raises:
        DataError: the runs have no common test cases, do not fit together, or lack a sound checkpoint or a readable
            operating point (codes `SPLIT`, `ENSEMBLE`, `CHECKPOINT`, `OPERATING_POINT`).
    """
    run, numbers = runs[0], common_test_cases(runs)
    source = run.source(judged=True)
    ensemble = Ensemble(tuple((each.folder, each.record) for each in runs), flips)
    segmenter = ensemble.load(source.source.plane, point)
    cases: list[CaseMetrics] = []
    slices: list[SliceMetrics] = []
    cleaned: list[CaseMetrics] = []
    for number in numbers:
        predicted, reference = segment_case(segmenter, source, number, progress)
        known = reference != NOT_ANNOTATED
        for value, organ in enumerate(run.options.organs, 1):
            if organ not in run.store.cases[number].organs:
                continue
            pair = ((predicted == value) & known, reference == value)
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
        notes=(*ensemble.notes(), *_left_out(run, numbers)),
        on_store=sum(not run.store.cases[number].is_judged_on_ct for number in numbers),
    )


def _left_out(run: Run, numbers: Sequence[int]) -> Iterator[Note]:
    """Say of each organ how many of the cases do not annotate it."""
    for organ in run.options.organs:
        missing = sum(organ not in run.store.cases[number].organs for number in numbers)
        if missing:
            text = f"{organ}: {missing} of {len(numbers)} test cases do not annotate it and are left out"
            yield Note("PARTIAL", text)


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
