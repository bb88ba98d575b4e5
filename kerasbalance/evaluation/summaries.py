"""Metrics over all cases of an organ: mean and SD, minimum, maximum, median and worst tenth.

An organ that is absent from both masks of a case is counted, and excluded from the averages.

Reference:
    Zhang et al., Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825 (mean and SD, minimum, maximum).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from kerasbalance.evaluation.cases import METRICS, CaseMetrics
from kerasbalance.notebook import html_table


@dataclass(frozen=True)
class MetricSummary:
    """One metric over cases. An infinite value counts in all but `mean` and `sd`.

    Args:
        count: Cases that have the metric, the infinite ones included.
        infinite: Cases in which it is infinite: one of the two masks was empty.
        mean: Mean of the finite values; NaN where there is none.
        sd: Their standard deviation, with `n - 1`; NaN for fewer than two.
        minimum: The smallest value.
        maximum: The largest value.
        median: The middle value.
        worst_tenth: Mean of the worst tenth of the cases, rounded up: of one case in up to ten.
    """

    count: int
    infinite: int
    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float
    worst_tenth: float


@dataclass(frozen=True)
class OrganSummary:
    """One organ over cases.

    Args:
        organ: Its name.
        cases: All cases.
        absent: Cases in which neither mask has the organ; they are in no average.
        missed: Cases in which only the reference has it.
        invented: Cases in which only the prediction has it.
        empty_slices: Slices of all cases without a voxel of the reference.
        false_positive_slices: Of these, the slices with a voxel of the prediction.
        metrics: By the names of `METRICS`.
    """

    organ: str
    cases: int
    absent: int
    missed: int
    invented: int
    empty_slices: int
    false_positive_slices: int
    metrics: dict[str, MetricSummary]

    def _repr_html_(self) -> str:
        """Return the metrics as a table, for a notebook."""
        columns = [field.name for field in fields(MetricSummary)]
        rows = [
            [name, *(getattr(metric, column) for column in columns)] for name, metric in self.metrics.items()
        ]
        return html_table(
            f"{self.organ}: {self.cases} cases, {self.absent} absent", ["metric", *columns], rows
        )


def summarise_cases(cases: Sequence[CaseMetrics]) -> tuple[OrganSummary, ...]:
    """Summarise each organ over its cases.

    Args:
        cases: In any order; organs are told apart by name.

    Returns:
        One summary for each organ, in the order of their first case; none for no cases. Every case counts the
        same, whatever its size.
    """
    return tuple(
        _summarise_organ(organ, [case for case in cases if case.organ == organ])
        for organ in dict.fromkeys(case.organ for case in cases)
    )


def _summarise_organ(organ: str, cases: Sequence[CaseMetrics]) -> OrganSummary:
    present = [case for case in cases if not case.absent]
    return OrganSummary(
        organ=organ,
        cases=len(cases),
        absent=len(cases) - len(present),
        missed=sum(not case.prediction_voxels for case in present),
        invented=sum(not case.reference_voxels for case in present),
        empty_slices=sum(case.empty_slices for case in cases),
        false_positive_slices=sum(case.false_positive_slices for case in cases),
        metrics={
            name: _summarise([getattr(case, name) for case in present], large_is_bad)
            for name, large_is_bad in METRICS.items()
        },
    )


def _summarise(values: Sequence[float], large_is_bad: bool) -> MetricSummary:
    values = sorted((value for value in values if not math.isnan(value)), reverse=large_is_bad)
    finite = [value for value in values if math.isfinite(value)]
    worst = values[: math.ceil(len(values) / 10)]
    return MetricSummary(
        count=len(values),
        infinite=len(values) - len(finite),
        mean=statistics.fmean(finite) if finite else math.nan,
        sd=statistics.stdev(finite) if len(finite) > 1 else math.nan,
        minimum=min(values, default=math.nan),
        maximum=max(values, default=math.nan),
        median=statistics.median(values) if values else math.nan,
        worst_tenth=statistics.fmean(worst) if worst else math.nan,
    )
