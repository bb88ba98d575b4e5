"""What the report's pictures show: slices and whole cases with the run's prediction beside the reference."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.store.source import NOT_ANNOTATED
from kerasbalance.evaluation.cases import CaseMetrics
from kerasbalance.experiments.report.contents import Contents
from kerasbalance.experiments.report.gallery import Picture
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.segment import segment_refs
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.train import Run


@dataclass(frozen=True, eq=False)
class CaseView:
    """One organ of one test case.

    Args:
        name: for files, e.g. "liver-worst".
        rank: "worst" or "best".
        metrics: its row of the case table.
        reference: bool `(slices, rows, columns)`.
        predicted: likewise.
        spacing_mm: between slices (NaN for a lone one), rows and columns.
    """

    name: str
    rank: str
    metrics: CaseMetrics
    reference: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]


def slice_pictures(
    run: Run, segmenter: Segmenter, table: SliceTable, rows: NDArray[np.int64]
) -> tuple[Picture, ...]:
    """Read some slices of a table and predict them with the run's final model."""
    source = run.source(judged=True)
    refs = table.ref[rows]
    x, y = source.source.read(refs)
    y[y == NOT_ANNOTATED] = 0
    predicted, _ = segment_refs(segmenter, source, refs)
    return tuple(
        Picture(
            case=str(table.case[row]),
            slice=int(table.slice[row]),
            slices=int(table.slices[row]),
            score=float(table.score[row]),
            hu=source.source.middle(x)[number],
            reference=y[number, ..., 0],
            predicted=predicted[number],
        )
        for number, row in enumerate(rows.tolist())
    )


def case_views(run: Run, segmenter: Segmenter, contents: Contents) -> list[CaseView]:
    """Predict for every organ the worst and the best test case; a lone case is shown once."""
    views = []
    for value, organ in enumerate(run.options.organs, 1):
        own = sorted(
            (c for c in contents.cases if c.organ == organ and not c.absent), key=lambda c: (c.dice, c.case)
        )
        chosen = {case.case: case for case in (own[:1] + own[-1:])}.values()
        for rank, metrics in zip(("worst", "best"), chosen, strict=False):
            views.append(_case_view(run, segmenter, metrics, value, rank))
    return views


def _case_view(run: Run, segmenter: Segmenter, metrics: CaseMetrics, value: int, rank: str) -> CaseView:
    number = [case.key for case in run.store.cases].index(metrics.case)
    source = run.source(judged=True)
    refs = run.store.case_refs(number)
    predicted, reference = segment_refs(segmenter, source, refs)
    between, height, width = run.store.cases[number].spacing_mm
    return CaseView(
        name=f"organ{value}-{rank}",
        rank=rank,
        metrics=metrics,
        reference=reference == value,
        predicted=predicted == value,
        spacing_mm=(math.nan if between is None else between, height, width),
    )
