"""What a study shows, in plain words; where it shows nothing it says so."""

import math
from collections.abc import Sequence

from kerasbalance.evaluation.learning_curve import FEWEST_SHARES, expected_growth
from kerasbalance.experiments.runs.strategies import STRATEGIES
from kerasbalance.experiments.studies.differences import FEWEST_SEEDS, Difference
from kerasbalance.experiments.studies.measures import MEASURES
from kerasbalance.experiments.studies.scores import GroupResults

LEARNED = 0.5
"""A Dice below which a model has not learned its task, and the slices on which it does worst are no choice."""
CAUTION = (
    "Differences are in Dice points (hundredths of Dice). The measures that decide were named before the study "
    "(--measures): the intervals and p-values of these comparisons allow for their number, by Bonferroni and Holm. "
    '"Better" and "worse" rest on a t-test over seeds (for the mean of cases also over cases) with at least five '
    'seeds; "not worse" means that a loss of the margin or more (--margin) can be ruled out; all else is "cannot '
    'tell". Other comparisons are exploratory: nothing is concluded from them. The results hold for these data, this '
    "network and this length of training."
)
_CONTROLS = (
    ("all", "training on all cases"),
    ("0.5", "training on half of the cases"),
    ("random", "adding as many random slices"),
)


def points(value: float) -> str:
    """Return a difference of Dice in points, with its sign."""
    return f"{100 * value:+.2f}"


def number(value: float) -> str:
    """Return a margin of Dice in points."""
    return f"{100 * value:.3g}"


def describe(difference: Difference) -> str:
    """Return one comparison in a sentence."""
    found = difference.found
    subject = f"{difference.arm} against {difference.baseline}, {MEASURES[difference.measure].words}"
    numbers = f"{points(found.difference)} points"
    if found.seeds > 1:
        numbers += f", interval {points(difference.low)} to {points(difference.high)}"
    numbers += f", higher in {found.seeds_up} of {found.seeds} seeds"
    return f"{subject}: {_conclusion(difference)} ({numbers})."


def _conclusion(difference: Difference) -> str:
    if difference.found.seeds < FEWEST_SEEDS:
        return f"cannot tell from fewer than {FEWEST_SEEDS} seeds"
    if difference.verdict == "not worse":
        return f"not worse by {number(difference.margin)} points or more"
    if difference.verdict == "cannot tell":
        return f"cannot tell; {needed(difference)}"
    return difference.verdict


def needed(difference: Difference) -> str:
    """Return what would tell, in words."""
    effect = number(max(difference.margin, abs(difference.found.difference)))
    if difference.seeds_needed is None:
        return (
            f"no number of seeds would show {effect} points on these cases: more test cases would be needed"
        )
    return f"about {difference.seeds_needed} seeds on these cases would show a difference of {effect} points"


def headline(differences: Sequence[Difference]) -> str:
    """Return the answer to the question whether mining helps, as far as the arms can give one."""
    parts = []
    for baseline, meaning in _CONTROLS:
        found = [d for d in differences if (d.arm, d.baseline) == ("mined", baseline) and d.registered]
        if found:
            parts.append(f"against {meaning}: {_in_short(found)}")
    if not parts:
        return "No comparison of mining with its controls: the study lacks the arm mined or all of all, 0.5 and random."
    return f"Does mining (the paper's form) help? {'; '.join(parts)}."


def _in_short(differences: Sequence[Difference]) -> str:
    if differences[0].found.seeds < FEWEST_SEEDS:
        return f"cannot tell from fewer than {FEWEST_SEEDS} seeds"
    told = [f"{MEASURES[d.measure].words} {_claim(d)}" for d in differences if d.verdict != "cannot tell"]
    silent = [MEASURES[d.measure].words for d in differences if d.verdict == "cannot tell"]
    return ", ".join([*told, *([f"cannot tell for {' and '.join(silent)}"] if silent else [])])


def _claim(difference: Difference) -> str:
    if difference.verdict == "not worse":
        return f"not worse by {number(difference.margin)} points or more"
    return f"{difference.verdict} by {number(abs(difference.found.difference))} points"


def sentences(group: GroupResults, differences: Sequence[Difference]) -> list[str]:
    """Return the verdict on an organ and network: the headline, then every comparison that decides."""
    lines = [headline(differences)]
    lines += [describe(d) for d in differences if d.registered]
    lines += filter(None, [growth(group)])
    early = [
        f"{arm.arm.name}, seed {run.seed} (up to {run.threshold:.2f})"
        for arm in group.arms
        if STRATEGIES[arm.arm.strategy].by_score
        for run in arm.runs
        if run.threshold < LEARNED
    ]
    if early:
        lines.append(
            "The model had learned little when it scored the slices, and which were hard was then mostly chance: "
            f"{'; '.join(early)}. More --iterations or a later --mine-at would tell more."
        )
    failed = [
        f"{arm.arm.name}, seed {run.seed} ({run.dice.mean():.2f})"
        for arm in group.arms
        for run in arm.runs
        if run.dice.mean() < LEARNED
    ]
    if failed:
        lines.append(
            f"Runs that did not learn, by their mean case Dice: {'; '.join(failed)}. They count like all others, and "
            "differences with them say more about the training than about its slices; try another --learning-rate."
        )
    if group.diverged:
        lines.append(f"Diverged, and left out: {'; '.join(group.diverged)}.")
    if group.missing:
        lines.append(f"Not finished, and left out: {'; '.join(group.missing)}.")
    return lines


def growth(group: GroupResults) -> str:
    """Return what more cases would bring, from the arms that train on shares of the cases; "" where too few do."""
    plain = [arm for arm in group.arms if arm.arm.is_plain]
    seeds = set.intersection(*({*arm.seeds} for arm in plain)) if plain else set()
    if len({arm.arm.ratio for arm in plain}) < FEWEST_SHARES or not seeds:
        return ""
    scores = [arm.dice(sorted(seeds)).mean(axis=1) for arm in plain]
    if any((values >= 1).any() for values in scores):
        return ""
    found = expected_growth([arm.arm.ratio for arm in plain], scores)
    interval = (
        ""
        if math.isnan(found.low)
        else f" (95 % interval over seeds {points(found.low)} to {points(found.high)})"
    )
    return (
        f"Twice the cases would bring about {points(found.gain)} points of mean case Dice{interval}, if the error "
        f"goes on falling with the number of cases as it did over the {len(plain)} shares of this study."
    )


def legend(group: GroupResults) -> list[str]:
    """Return what each arm is."""
    return [f"{row.arm.name}: {row.arm.meaning}" for row in group.rows]
