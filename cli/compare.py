"""`kerasbalance compare`: runs against each other on their common test cases."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.common import CONTEXT, json_option, print_json, reports_errors, table

if TYPE_CHECKING:
    from kerasbalance.experiments.compare import CaseDifference, Judged, OrganComparison

LISTED = 10
"""Cases of one comparison that are printed."""
_CAUTION = (
    "The test pairs cases: it holds for these trained models on cases of this kind. Whether the training that made one "
    "of them is better needs several seeds, as kerasbalance study has."
)


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance compare baseline mined")
@click.argument("runs", metavar="RUN RUN [RUN]...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@reports_errors
def compare(runs: tuple[Path, ...], as_json: bool, show_paths: bool) -> None:
    """Compare each further RUN with the first one on the test cases that they share, case by case.

    All runs must have been evaluated on the same references of the same cases. The difference of the mean case Dice
    has the interval and the t-test of a study, over cases in the place of seeds, and the p-values allow for their
    number (Holm). For each case, the slices whose number of wrong pixels changed most are listed.
    """
    if len(runs) < 2:
        raise click.UsageError("name two runs or more")
    from kerasbalance.experiments.compare import compare_runs, open_judged

    judged = [open_judged(path) for path in runs]
    found = compare_runs(judged)
    if as_json:
        print_json({"runs": [_run(run) for run in judged], "comparisons": [_plain(one) for one in found]})
        return
    for number, run in enumerate(judged, 1):
        options = run.record.options
        click.echo(
            f"run {number}: {run.name} ({options.model}, strategy {options.strategy}, seed {options.seed})"
        )
        click.echo(f"       predicted: {run.point.text()}")
    for one in found:
        click.echo(f"\n{_sentence(one)}")
        click.echo(_cases(one))
    click.echo(f"\n{_CAUTION}")


def _sentence(one: "OrganComparison") -> str:
    found = one.found
    subject = f"{one.organ}, run {one.second} against run {one.first}: {_verdict(one)}"
    if not found.seeds:
        return f"{subject}; no case has the organ in both runs"
    numbers = f"mean case Dice {_points(found.difference)} points"
    if found.seeds > 1:
        low, high = found.interval()
        numbers += f", interval {_points(low)} to {_points(high)}, p = {one.p:.2g}"
    counts = f"higher in {found.seeds_up} of {found.seeds} cases"
    if one.left_out:
        counts += f", {one.left_out} left out (organ absent)"
    return f"{subject} ({numbers}; worst tenth {_points(one.worst_tenth)}; {counts})"


def _verdict(one: "OrganComparison") -> str:
    from kerasbalance.experiments.compare import FEWEST_CASES

    few = one.found.seeds < FEWEST_CASES
    return f"{one.verdict} from fewer than {FEWEST_CASES} cases" if few else one.verdict


def _cases(one: "OrganComparison") -> str:
    headers = [
        "case",
        f"Dice {one.first}",
        f"Dice {one.second}",
        "points",
        "slices that differ most (wrong pixels)",
    ]
    rows = [
        [case.case[:8], _dice(case.first), _dice(case.second), _points(case.difference), _slices(case)]
        for case in one.cases[:LISTED]
    ]
    more = len(one.cases) - LISTED
    return table(headers, rows) + (f"\nand {more} more cases; --json lists them all" if more > 0 else "")


def _slices(case: "CaseDifference") -> str:
    return ", ".join(f"{s.slice + 1} ({s.first_wrong:,} to {s.second_wrong:,})" for s in case.slices)


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def _dice(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _run(run: "Judged") -> dict[str, Any]:
    options = run.record.options
    return {
        "name": run.name,
        "model": options.model,
        "strategy": options.strategy,
        "seed": options.seed,
        "operating_point": run.point.decision(),
    }


def _plain(one: "OrganComparison") -> dict[str, Any]:
    found = one.found
    return {
        "organ": one.organ,
        "first": one.first,
        "second": one.second,
        "verdict": one.verdict,
        "difference": _finite(found.difference),
        "interval": [_finite(end) for end in found.interval()],
        "p": _finite(one.p),
        "worst_tenth": _finite(one.worst_tenth),
        "pairs": found.seeds,
        "higher": found.seeds_up,
        "left_out": one.left_out,
        "cases": [_case(case) for case in one.cases],
    }


def _case(case: "CaseDifference") -> dict[str, Any]:
    numbers = {"first": case.first, "second": case.second, "difference": case.difference}
    slices: Sequence[dict[str, Any]] = [asdict(row) for row in case.slices]
    return {"case": case.case, **{name: _finite(value) for name, value in numbers.items()}, "slices": slices}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
