"""The report in words: the paragraph at its head, and what one run does and does not show."""

from collections.abc import Sequence

import numpy as np

from kerasbalance.experiments.report.contents import Contents
from kerasbalance.experiments.report.hardness import Share, by_area, by_case, by_position
from kerasbalance.experiments.report.tables import number
from kerasbalance.experiments.runs.strategies import STRATEGIES

NETWORKS = {"unet": "U-Net", "fcn": "fully convolutional network (FCN-8s)"}
LIMITS = (
    "This page shows one run: which slices were hard, and how good the model became. It does not show whether mining "
    "helped: another seed alone moves the mean Dice by a tenth of a point to a few tenths, and the worst case by more. "
    "To find out, kerasbalance study trains with all cases, with half of them, with the hard slices and with as many "
    "random ones, at equal iterations and over several seeds.",
    "What we measured on synthetic CT (liver, U-Net, five seeds), in points of mean case Dice against training on all "
    "cases: half of the cases -0.46, half of the cases and then as many random slices -0.28, half of the cases and "
    "then the hard slices -0.21. The hard slices did better than random ones in 3 of 5 seeds. None of these "
    "differences is beyond chance.",
    "Not a medical device. The numbers hold for test cases like these, not for patients.",
)


def summary(contents: Contents) -> str:
    """Return the paragraph at the head of the report, plain text."""
    return " ".join(
        part for part in (_training(contents), _mining(contents), _kept(contents), _results(contents)) if part
    )


def _training(contents: Contents) -> str:
    options = contents.record.options
    own = [row for row in contents.rows if row.part == "B"]
    network = NETWORKS.get(options.model, "network of your own")
    trained = "learned" if contents.finished else "is learning"
    return (
        f"A {network} {trained} to segment {listed(options.organs)} in {options.iterations:,} iterations. It "
        f"trained on {len(own)} CT cases (part B, {sum(row.slices for row in own):,} slices) from the start."
    )


def _mining(contents: Contents) -> str:
    table, options = contents.mining, contents.record.options
    if table is None or not len(table):
        return ""
    hard, cases = int(table.hard.sum()), len(np.unique(table.case))
    whose = (
        f"its own {cases} cases"
        if not STRATEGIES[options.strategy].needs_part_a
        else f"{cases} other cases (part A)"
    )
    slices = f"it scored the {len(table):,} slices of {whose}; "
    scored = f"After {options.mine_iterations[-1]:,} iterations {slices}"
    if len(options.mine_iterations) > 1:
        scored = f"Every {options.mine_every:,} iterations {slices}the last time, "
    share, threshold = 100 * hard / len(table), number(table.threshold, 3)
    lost = int((table.reason == "tied").sum())
    drawn = f", drawn among {lost:,} more of that Dice" if lost else ""
    worst = f"the {hard:,} on which it did worst ({share:.0f} %, Dice up to {threshold}{drawn})"
    return scored + STRATEGIES[options.strategy].outcome.format(worst=worst, hard=hard)


def _kept(contents: Contents) -> str:
    kept = contents.record.kept
    if kept is None:
        return ""
    return f"It holds the {kept.text()}. What counts as predicted: {contents.point.text()}."


def _results(contents: Contents) -> str:
    return " ".join(
        f"On {organ.cases} test cases of patients that it never saw, the case Dice of the {organ.organ} is "
        f"{number(dice.mean, 3)} ± {number(dice.sd, 3)}, from {number(dice.minimum, 3)} to {number(dice.maximum, 3)}; "
        f"it drew some on {organ.false_positive_slices:,} of the {organ.empty_slices:,} slices that show none."
        for organ in contents.summary
        if (dice := organ.metrics["dice"])
    )


def hard_slices(contents: Contents) -> str:
    """Return one paragraph on who the hard slices are."""
    table = contents.mining
    if table is None or not table.hard.any() or not STRATEGIES[contents.record.options.strategy].by_score:
        return ""
    half = len(by_case(table)) // 2 or 1
    hard, total = int(table.hard.sum()), len(table)
    top = by_case(table)[:half]
    ends = [s for s in by_position(table) if s.name in ("top fifth", "lowest fifth")]
    small = [s for s in by_area(table) if s.name == "smallest quarter"]
    empty = [s for s in by_area(table) if s.name == "none"]
    parts = (
        ("the organ's two end fifths", ends),
        ("the quarter of slices with the least of it", small),
        ("slices that do not show it", empty),
        (f"the {half} cases with the most of them", top),
    )
    lines = [f"{name} hold {_both(shares, hard, total)}" for name, shares in parts if shares]
    return (
        f"Of {total:,} candidates {hard:,} were hard, {100 * hard / total:.0f} %. In brackets the share of all "
        f"candidates, which is what a random choice would give: {'; '.join(lines)}."
    )


def _both(shares: Sequence[Share], hard: int, total: int) -> str:
    inside, base = sum(s.hard for s in shares), sum(s.candidates for s in shares)
    return f"{100 * inside / hard:.0f} % ({100 * base / total:.0f} %)"


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
