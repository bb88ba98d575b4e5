"""The tables of a study: the paper's layout and more, as rows that CSV, Markdown and HTML share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kerasbalance.experiments.studies.differences import Compared, Difference
from kerasbalance.experiments.studies.options import StudyRecord
from kerasbalance.experiments.studies.scores import ArmRow, GroupResults
from kerasbalance.experiments.studies.verdict import CAUTION, legend, points, sentences
from kerasbalance.experiments.tabular import to_csv

HEADERS = ["arm", "mean ± SD", "min", "max", "worst tenth", "hard slices", "false positives", "SD of seeds", "seeds",
           "added slices", "iterations"]  # fmt: skip
PAIR_HEADERS = ["arm", "against", "measure", "difference", "interval", "seeds up", "p", "verdict",
                "seeds that would tell"]  # fmt: skip
DIFFERENCE_FIELDS = ("arm", "baseline", "measure", "difference", "low", "high", "bootstrap_low", "bootstrap_high",
                     "seeds_up", "seeds", "p_alone", "registered", "p", "p_not_worse", "verdict",
                     "seeds_needed")  # fmt: skip


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
    few = math.isnan(difference.low)
    return [
        difference.arm,
        difference.baseline,
        difference.measure,
        points(found.difference),
        "–" if few else f"{points(difference.low)} to {points(difference.high)}",
        f"{found.seeds_up} of {found.seeds}",
        _p(difference.p),
        difference.verdict if difference.registered else "exploratory",
        "–" if difference.seeds_needed is None else str(difference.seeds_needed),
    ]


def markdown(record: StudyRecord, compared: Compared) -> str:
    """Return the whole study as Markdown."""
    lines = ["# Study", "", f"{counted(compared)} {CAUTION}", ""]
    for group, differences in compared:
        lines += [f"## {group.organ}, {group.model}", ""]
        lines += [f"* {sentence}" for sentence in sentences(group, differences)]
        lines += ["", *_markdown_table(HEADERS, (cells(row) for row in group.rows)), ""]
        lines += [f"Case Dice of {_cases(group)} test cases that no run trains on; SD between cases; every number is "
                  f"a mean over the seeds. Hard slices: the {group.hard.sum()} test slices on which all runs together "
                  "did worst. False positives: share of the slices without the organ on which something was predicted.",
                  ""]  # fmt: skip
        lines += [*(f"* {line}" for line in legend(group)), ""]
        lines += [*_markdown_table(PAIR_HEADERS, (pair_cells(d) for d in differences)), ""]
    base = record.options.base
    scored = f"after {base.mine_iterations[0]}" if base.mine_every is None else f"every {base.mine_every}"
    lines += ["## What was run", "", f"{base.iterations} iterations of batches of {base.batch_size}, slices scored "
              f"{scored}, rule {base.rule}, flips {', '.join(base.flips)}, {base.optimizer} with momentum "
              f"{base.momentum:g}, backend {record.backend} on {record.threads} cores. Versions: "
              f"{', '.join(f'{name} {version}' for name, version in record.versions.items())}.", ""]  # fmt: skip
    return "\n".join(lines)


def counted(compared: Compared) -> str:
    """Say how many comparisons were made, and how many of them decide."""
    every = [d for _, differences in compared for d in differences]
    return f"{len(every)} comparisons were made, of which {sum(d.registered for d in every)} decide."


def _cases(group: GroupResults) -> int:
    return len(group.arms[0].runs[0].cases)


def _markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [list(headers), ["---"] * len(headers), *map(list, rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def csv_files(compared: Compared) -> dict[str, bytes]:
    """Return the tables for programs, by file name."""
    runs, cases, arms, pairs = [], [], [], []
    for group, differences in compared:
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
        pairs += [[*where, *_plain_difference(d).values()] for d in differences]
    place = ["organ", "model"]
    numbers = [name for name in ArmRow.__dataclass_fields__ if name != "arm"]
    return {
        "runs.csv": to_csv([*place, "arm", "seed", "mean", "minimum", "maximum", "false_positives", "empty_slices",
                          "added", "iterations", "slices_seen"], runs),
        "cases.csv": to_csv([*place, "arm", "seed", "case", "dice"], cases),
        "arms.csv": to_csv([*place, "arm", *numbers], arms),
        "differences.csv": to_csv([*place, *DIFFERENCE_FIELDS], pairs),
    }  # fmt: skip


def plain(compared: Compared) -> dict[str, Any]:
    """Return the study for `results.json` and `--json`; what is not known is None."""
    return {
        "comparisons": sum(len(differences) for _, differences in compared),
        "groups": [
            {
                "organ": group.organ,
                "model": group.model,
                "test_cases": _cases(group),
                "arms": [{"arm": row.arm.name, **_known(row)} for row in group.rows],
                "differences": [_plain_difference(d) for d in differences],
                "verdict": sentences(group, differences),
                "diverged": list(group.diverged),
                "missing": list(group.missing),
            }
            for group, differences in compared
        ],
    }


def _known(row: ArmRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in ArmRow.__dataclass_fields__ if name != "arm"}
    return {name: _or_none(value) for name, value in values.items()}


def _plain_difference(difference: Difference) -> dict[str, Any]:
    found = difference.found
    values = (difference.arm, difference.baseline, difference.measure, found.difference, difference.low,
              difference.high, found.low, found.high, found.seeds_up, found.seeds, found.p, difference.registered,
              difference.p, difference.p_not_worse, difference.verdict, difference.seeds_needed)  # fmt: skip
    return dict(zip(DIFFERENCE_FIELDS, map(_or_none, values), strict=True))


def _p(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _values(row: ArmRow) -> list[Any]:
    return [row.arm.name, *(repr(v) if isinstance(v, float) else v for v in _known(row).values())]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
