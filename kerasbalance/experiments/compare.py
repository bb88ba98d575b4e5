"""Runs against each other on the same test cases: paired, case by case, with the slices in which they differ."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.evaluation.cases import CaseMetrics, SliceMetrics
from kerasbalance.evaluation.paired import (
    PairedDifference,
    adjust_p_values,
    paired_difference,
    summarise_scores,
)
from kerasbalance.experiments.runs.evaluation_files import read_cases, read_decision, read_slices
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.operating_point import OperatingPoint

FEWEST_CASES = 5
"""With fewer pairs nothing is concluded, as a study concludes nothing from fewer seeds."""
LEVEL = 0.05
SLICES_A_CASE = 3


@dataclass(frozen=True)
class Judged:
    """A run and the tables of its evaluation.

    Args:
        name: Name of the run's folder.
        record: The run.
        cases: One row for each test case and organ.
        slices: One row for each of their slices and organ.
        point: What made masks of the network's output.
    """

    name: str
    record: RunRecord
    cases: tuple[CaseMetrics, ...]
    slices: tuple[SliceMetrics, ...]
    point: OperatingPoint


@dataclass(frozen=True)
class SliceDifference:
    """One slice in which two runs differ.

    Args:
        slice: Its number in the case, from 0.
        first: Slice Dice of the first run.
        second: Slice Dice of the second.
        first_wrong: Pixels that are only in the prediction or only in the reference, in the first run.
        second_wrong: The same in the second.
    """

    slice: int
    first: float
    second: float
    first_wrong: int
    second_wrong: int


@dataclass(frozen=True)
class CaseDifference:
    """One organ of one case in two runs.

    Args:
        case: The case's key.
        first: Case Dice of the first run; NaN where the organ is in neither mask.
        second: Of the second, likewise.
        slices: The slices whose number of wrong pixels changed most, the largest change first; none without one.
    """

    case: str
    first: float
    second: float
    slices: tuple[SliceDifference, ...]

    @property
    def difference(self) -> float:
        """The second less the first; NaN where either is."""
        return self.second - self.first


@dataclass(frozen=True)
class OrganComparison:
    """One organ in two runs.

    Args:
        organ: Its name.
        first: Number of the first run, from 1.
        second: Number of the second.
        found: The difference of the mean case Dice, `second` less `first`, over the pairs. Its `seeds` are cases here:
            interval and test hold for other cases of the same kind and for these two trained models.
        p: Its p-value, adjusted for all comparisons that are made together (Holm).
        worst_tenth: Difference of the means of the worst tenth of the cases, each run's own.
        cases: All cases, the largest difference first; those without a pair last.
        left_out: Cases without a pair, since the organ is in neither mask of at least one run.
    """

    organ: str
    first: int
    second: int
    found: PairedDifference
    p: float
    worst_tenth: float
    cases: tuple[CaseDifference, ...]
    left_out: int

    @property
    def verdict(self) -> str:
        """`"better"`, `"worse"` or `"cannot tell"`."""
        if self.found.seeds < FEWEST_CASES or not self.p < LEVEL:
            return "cannot tell"
        return "better" if self.found.difference > 0 else "worse"


def open_judged(path: Path) -> Judged:
    """Read a run and its evaluation; neither its model nor its store is needed.

    Raises:
        DataError: If there is no run (code `NO_RUN`), or no sound evaluation (`REPORT`).
    """
    folder = RunFolder(path)
    record = RunRecord.read(folder.record_file)
    cases = read_cases(folder.eval_folder)
    if not cases:
        raise DataError("REPORT", "a run that was not evaluated", "the tables that eval writes",
                        "run kerasbalance eval on it first", path=path)  # fmt: skip
    slices, point = read_slices(folder.eval_folder), read_decision(folder.eval_folder, record.options.organs)
    return Judged(path.resolve().name, record, cases, slices, point)


def compare_runs(runs: Sequence[Judged]) -> tuple[OrganComparison, ...]:
    """Compare each later run with the first, organ by organ.

    Args:
        runs: Two or more.

    Returns:
        One comparison for each organ of each later run.

    Raises:
        DataError: If the runs were not judged on the same reference of the same cases (code `NOT_COMPARABLE`; the
            message names what differs).
    """
    first, *others = runs
    for number, other in enumerate(others, 2):
        _check_comparable(first, other, number)
    made = [
        _compare(organ, first, other, number)
        for number, other in enumerate(others, 2)
        for organ in first.record.options.organs
    ]
    adjusted = adjust_p_values([one.p for one in made])
    return tuple(replace(one, p=p) for one, p in zip(made, adjusted, strict=True))


def _check_comparable(first: Judged, other: Judged, number: int) -> None:
    ours, theirs = ({(row.organ, row.case) for row in run.cases} for run in (first, other))
    ours_read, theirs_read = (
        {(row.organ, row.case): row.reference_voxels for row in run.cases} for run in (first, other)
    )
    organs, others = first.record.options.organs, other.record.options.organs
    differs = [
        (organs != others, f"organs ({', '.join(organs)}; {', '.join(others)})"),
        (first.record.store_digest != other.record.store_digest, "cases of the store (store digest)"),
        (
            ours != theirs,
            f"test cases ({len(ours - theirs)} only in run 1, {len(theirs - ours)} only in the other)",
        ),
        (ours == theirs and ours_read != theirs_read, "references (or the grid on which they were judged)"),
    ]
    named = [text for is_different, text in differs if is_different]
    if named:
        raise DataError("NOT_COMPARABLE", f"run {number}, which differs from run 1 in {'; '.join(named)}",
                        "runs that were judged on the same references of the same test cases",
                        "train both on the same store with the same organs, --test-share and --seed, and evaluate both",
                        )  # fmt: skip


def _compare(organ: str, first: Judged, second: Judged, number: int) -> OrganComparison:
    ours, theirs = (
        {row.case: row.dice for row in run.cases if row.organ == organ} for run in (first, second)
    )
    slices = dict(_slice_differences(organ, first, second))
    cases = [CaseDifference(case, ours[case], theirs[case], slices.get(case, ())) for case in ours]
    pairs = [case for case in cases if not math.isnan(case.difference)]
    ordered = sorted(cases, key=_order)
    if not pairs:
        none = PairedDifference(math.nan, math.nan, math.nan, math.nan, 0, 0)
        return OrganComparison(organ, 1, number, none, math.nan, math.nan, tuple(ordered), len(cases))
    scores = np.array([[case.first, case.second] for case in pairs])
    found = paired_difference(scores[:, 1:], scores[:, :1])
    low, high = summarise_scores(scores.T, "worst tenth").tolist()
    return OrganComparison(
        organ, 1, number, found, found.p, high - low, tuple(ordered), len(cases) - len(pairs)
    )


def _order(case: CaseDifference) -> float:
    return 1.0 if math.isnan(case.difference) else -abs(case.difference)


def _slice_differences(
    organ: str, first: Judged, second: Judged
) -> Iterator[tuple[str, tuple[SliceDifference, ...]]]:
    """Yield for each case the slices whose number of wrong pixels changed most."""
    theirs = {(row.case, row.slice): row for row in second.slices if row.organ == organ}
    by_case: dict[str, list[SliceDifference]] = {}
    for row in first.slices:
        if row.organ == organ and (row.case, row.slice) in theirs:
            other = theirs[row.case, row.slice]
            by_case.setdefault(row.case, []).append(
                SliceDifference(row.slice, row.dice, other.dice, _wrong(row), _wrong(other))
            )
    for case, rows in by_case.items():
        changed = [row for row in rows if row.first_wrong != row.second_wrong]
        changed.sort(key=lambda row: (-abs(row.second_wrong - row.first_wrong), row.slice))
        yield case, tuple(changed[:SLICES_A_CASE])


def _wrong(row: SliceMetrics) -> int:
    return row.reference_pixels + row.prediction_pixels - 2 * row.shared_pixels
