"""The tables of a study: the paper's layout and more, as rows that CSV, Markdown and HTML share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kerasbalance.experiments.studies.options import StudyRecord
from kerasbalance.experiments.studies.results import ArmRow, Difference, GroupResults
from kerasbalance.experiments.studies.verdict import CAUTION, comparisons, legend, points, sentences, strength
from kerasbalance.experiments.tabular import to_csv

HEADERS = ["arm", "mean ± SD", "min", "max", "worst tenth", "hard slices", "false positives", "SD of seeds", "seeds",
           "added slices", "iterations"]  # fmt: skip
PAIR_HEADERS = ["arm", "against", "measure", "difference", "95 % interval", "seeds up", "p", "shown"]


def cells(row: ArmRow) -> list[str]:
    """Return an arm as a row of `HEADERS`."""
    return [
        row.arm.name,
        f"{_number(row.mean, 4)} ± {_number(row.case_sd, 4)}",
        _number(row.minimum, 4),
        _number(row.maximum, 4),
        _number(row.worst_tenth, 4),
        _number(row.hard_slices, 4),
        f"{100 * row.false_positive_share:.1f} %",
        _number(row.seed_sd, 4),
        str(row.seeds),
        f"{row.added:.0f}",
        f"{row.iterations:.0f}",
    ]


def pair_cells(difference: Difference) -> list[str]:
    """Return a comparison as a row of `PAIR_HEADERS`."""
    found = difference.found
    interval = "–" if math.isnan(found.low) else f"{points(found.low)} to {points(found.high)}"
    return [
        difference.arm,
        difference.baseline,
        difference.measure,
        points(found.difference),
        interval,
        f"{found.seeds_up} of {found.seeds}",
        _p(difference),
        strength(difference),
    ]


def markdown(record: StudyRecord, groups: Sequence[GroupResults]) -> str:
    """Return the whole study as Markdown."""
    lines = ["# Study", "", f"{comparisons(groups)} comparisons were made. {CAUTION}", ""]
    for group in groups:
        lines += [f"## {group.organ}, {group.model}", ""]
        lines += [f"* {sentence}" for sentence in sentences(group)]
        lines += ["", *_markdown_table(HEADERS, (cells(row) for row in group.rows)), ""]
        lines += [f"Case Dice of {_cases(group)} test cases that no run trains on; SD between cases; every number is "
                  f"a mean over the seeds. Hard slices: the {group.hard_slices} test slices on which all runs together "
                  "did worst. False positives: share of the slices without the organ on which something was predicted.",
                  ""]  # fmt: skip
        lines += [*(f"* {line}" for line in legend(group)), ""]
        lines += [*_markdown_table(PAIR_HEADERS, (pair_cells(d) for d in group.differences)), ""]
    base = record.options.base
    scored = f"after {base.mine_iterations[0]}" if base.mine_every is None else f"every {base.mine_every}"
    lines += ["## What was run", "", f"{base.iterations} iterations of batches of {base.batch_size}, slices scored "
              f"{scored}, rule {base.rule}, flips {', '.join(base.flips)}, {base.optimizer} with momentum "
              f"{base.momentum:g}, backend {record.backend} on {record.threads} cores. Versions: "
              f"{', '.join(f'{name} {version}' for name, version in record.versions.items())}.", ""]  # fmt: skip
    return "\n".join(lines)


def _cases(group: GroupResults) -> int:
    return len(group.arms[0].runs[0].cases)


def _markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [list(headers), ["---"] * len(headers), *map(list, rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def csv_files(groups: Sequence[GroupResults]) -> dict[str, bytes]:
    """Return the tables for programs, by file name."""
    runs, cases, arms, differences = [], [], [], []
    for group in groups:
        where = [group.organ, group.model]
        for arm in group.arms:
            name = arm.arm.name
            for run in arm.runs:
                dice = run.dice
                runs.append([*where, name, run.seed, repr(float(dice.mean())), repr(float(dice.min())),
                             repr(float(dice.max())), run.false_positives, run.empty, run.added, run.iterations,
                             run.slices_seen])  # fmt: skip
                cases += [[*where, name, run.seed, case.case, repr(case.dice)] for case in run.cases]
        arms += [[*where, *_values(row)] for row in group.rows]
        differences += [
            [*where, d.arm, d.baseline, d.measure, *map(repr, (d.found.difference, d.found.low, d.found.high)),
             d.found.seeds_up, d.found.seeds, repr(d.found.p), repr(d.adjusted_p), strength(d)]
            for d in group.differences
        ]  # fmt: skip
    place = ["organ", "model"]
    numbers = [name for name in ArmRow.__dataclass_fields__ if name != "arm"]
    return {
        "runs.csv": to_csv([*place, "arm", "seed", "mean", "minimum", "maximum", "false_positives", "empty_slices",
                          "added", "iterations", "slices_seen"], runs),
        "cases.csv": to_csv([*place, "arm", "seed", "case", "dice"], cases),
        "arms.csv": to_csv([*place, "arm", *numbers], arms),
        "differences.csv": to_csv([*place, "arm", "baseline", "measure", "difference", "low", "high", "seeds_up",
                                   "seeds", "p", "adjusted_p", "shown"], differences),
    }  # fmt: skip


def plain(groups: Sequence[GroupResults]) -> dict[str, Any]:
    """Return the study for `results.json` and `--json`; what is not known is None."""
    return {
        "comparisons": comparisons(groups),
        "groups": [
            {
                "organ": group.organ,
                "model": group.model,
                "test_cases": _cases(group),
                "arms": [{"arm": row.arm.name, **_known(row)} for row in group.rows],
                "differences": [_plain_difference(d) for d in group.differences],
                "verdict": sentences(group),
                "diverged": list(group.diverged),
                "missing": list(group.missing),
            }
            for group in groups
        ],
    }


def _known(row: ArmRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in ArmRow.__dataclass_fields__ if name != "arm"}
    return {name: _or_none(value) for name, value in values.items()}


def _plain_difference(difference: Difference) -> dict[str, Any]:
    found = difference.found
    numbers = {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p,
               "adjusted_p": difference.adjusted_p}  # fmt: skip
    return {
        "arm": difference.arm,
        "baseline": difference.baseline,
        "measure": difference.measure,
        **{name: _or_none(value) for name, value in numbers.items()},
        "seeds_up": found.seeds_up,
        "seeds": found.seeds,
        "shown": strength(difference),
    }


def _p(difference: Difference) -> str:
    p = difference.found.p
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _values(row: ArmRow) -> list[Any]:
    return [row.arm.name, *(repr(v) if isinstance(v, float) else v for v in _known(row).values())]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
