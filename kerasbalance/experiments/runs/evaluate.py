"""A run's model on its test cases: case by case, slice by slice, and as the paper sums it up."""

import csv
import io
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.evaluation.cases import (
    CaseMetrics,
    OrganSummary,
    SliceMetrics,
    evaluate_case,
    evaluate_slices,
    keep_largest_component,
    summarise_cases,
)
from kerasbalance.experiments.runs.segment import load_segmenter, segment_refs
from kerasbalance.experiments.runs.split import TEST
from kerasbalance.experiments.runs.train import Run

Progress = Callable[[int], None]
CLEANED = "largest part only"
"""The key in `summary.json` of the metrics with only the largest connected part of the prediction."""


@dataclass(frozen=True)
class Evaluation:
    """What the model of a run is worth on cases that it has never seen.

    Args:
        cases: one row for each test case and organ.
        slices: one row for each of their slices and organ.
        summary: one entry an organ.
        cleaned: as `summary`, with only the largest connected part of the prediction; empty unless asked for.
    """

    cases: tuple[CaseMetrics, ...]
    slices: tuple[SliceMetrics, ...]
    summary: tuple[OrganSummary, ...]
    cleaned: tuple[OrganSummary, ...] = ()


def evaluate_run(
    run: Run, *, keep_largest: Collection[str] = (), progress: Progress = lambda done: None
) -> Evaluation:
    """Segment the test cases of a run and compare with their reference.

    Args:
        run: the run, opened with its store.
        keep_largest: organs to evaluate once more with only the largest connected part of the prediction.
        progress: called with the number of slices done since the last call.

    Raises:
        DataError: the run has no test cases or no sound checkpoint (codes `SPLIT`, `CHECKPOINT`).
    """
    numbers = [n for n, case in enumerate(run.store.cases) if case.key in _keys(run)]
    if not numbers:
        raise DataError(
            "SPLIT", "a run without test cases", "at least one", "train with --test-share above 0"
        )
    source = run.source()
    segmenter = load_segmenter(run.folder, run.record, source.source.plane)
    cases: list[CaseMetrics] = []
    slices: list[SliceMetrics] = []
    cleaned: list[CaseMetrics] = []
    for number in numbers:
        refs = run.store.refs(run.options.organs, [number])
        predicted = segment_refs(segmenter, source, refs, progress)
        reference = source.source.read(refs)[1][..., 0]
        for value, organ in enumerate(run.options.organs, 1):
            pair = (predicted == value, reference == value)
            cases.append(_case(run, number, organ, *pair))
            slices += evaluate_slices(*pair, case=run.store.cases[number].key, organ=organ)
            if organ in keep_largest:
                cleaned.append(_case(run, number, organ, keep_largest_component(pair[0]), pair[1]))
    return Evaluation(
        tuple(cases), tuple(slices), summarise_cases(cases), summarise_cases(cleaned) if cleaned else ()
    )


def _keys(run: Run) -> set[str]:
    return {row.case for row in run.rows if row.part == TEST}


def _case(
    run: Run, number: int, organ: str, predicted: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> CaseMetrics:
    facts = run.store.cases[number]
    between, *within = facts.spacing_mm
    spacing = (math.nan if between is None else between, *within)
    depth = run.store.reader(number).depth_mm
    even = len(depth) < 3 or np.allclose(np.diff(depth), depth[1] - depth[0], rtol=0, atol=0.05)
    return evaluate_case(
        predicted, reference, spacing, case=facts.key, organ=organ, depth_mm=None if even else depth
    )


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `cases.csv`, `slices.csv` and `summary.json`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "cases.csv", _csv(CaseMetrics, evaluation.cases))
    replace_file(folder / "slices.csv", _csv(SliceMetrics, evaluation.slices))
    text = json.dumps(plain_summary(evaluation), indent=1, allow_nan=False) + "\n"
    replace_file(folder / "summary.json", text.encode())


def plain_summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the summary as JSON takes it: NaN and infinity as words."""
    plain = {"organs": [_without_nan(asdict(organ)) for organ in evaluation.summary]}
    if evaluation.cleaned:
        plain[CLEANED] = [_without_nan(asdict(organ)) for organ in evaluation.cleaned]
    return plain


def _csv(kind: Any, rows: Sequence[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(kind)]
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
