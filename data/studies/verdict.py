"""What a study shows, in plain words; where it shows nothing it says so."""

from collections.abc import Sequence

from kerasbalance.data.studies.arms import parse_arm
from kerasbalance.data.studies.results import Difference, GroupResults

FEWEST_SEEDS = 5
LEARNED = 0.5
"""A Dice below which the hardest slices are no choice."""
QUESTION = ("mean", "worst tenth")
NAMES = {
    "mean": "mean case Dice",
    "worst tenth": "the worst tenth of the cases",
    "minimum": "the worst case",
    "hard slices": "the hard slices",
}
CAUTION = (
    "Differences are in Dice points (hundredths of Dice). Intervals are 95 % bootstrap intervals over seeds and cases "
    "(of the minimum, the worst tenth and the hard slices over seeds only); with few seeds they are too narrow. "
    '"Shown" means that the interval excludes 0 when it is widened for the number of comparisons made. The results '
    "hold for these data, this network and this length of training."
)


def comparisons(groups: Sequence[GroupResults]) -> int:
    """Return how many comparisons the study made."""
    return sum(len(group.differences) for group in groups)


def points(value: float) -> str:
    """Return a difference of Dice in points, with its sign."""
    return f"{100 * value:+.2f}"


def is_shown(difference: Difference) -> bool:
    """Say whether a difference is beyond what seeds, cases and many comparisons explain."""
    return difference.found.seeds >= FEWEST_SEEDS and (difference.low > 0 or difference.high < 0)


def describe(difference: Difference) -> str:
    """Return one comparison in a sentence."""
    found = difference.found
    subject = f"{difference.arm} against {difference.baseline}, {NAMES[difference.measure]}"
    numbers = f"{points(found.difference)} points"
    if found.seeds > 1:
        numbers += f", 95 % interval {points(found.low)} to {points(found.high)}"
    numbers += f", higher in {found.seeds_up} of {found.seeds} seeds"
    if found.seeds < FEWEST_SEEDS:
        return f"{subject}: too few seeds to say ({numbers})."
    if not is_shown(difference):
        return f"{subject}: no difference shown ({numbers})."
    return f"{subject}: {'higher' if difference.found.difference > 0 else 'lower'} ({numbers})."


def headline(group: GroupResults) -> str:
    """Return the answer to the question whether mining helps, as far as the group's arms can give one."""
    found = {(d.arm, d.baseline, d.measure): d for d in group.differences}
    parts = []
    for baseline, meaning in (
        ("all", "training on all cases"),
        ("0.5", "training on half of the cases"),
        ("random", "adding as many random slices"),
    ):
        differences = [found[key] for measure in QUESTION if (key := ("mined", baseline, measure)) in found]
        if differences:
            parts.append(f"against {meaning}: {_in_short(differences)}")
    if not parts:
        return "No comparison of mining with its controls: the study lacks the arm mined or all of all, 0.5 and random."
    return f"Does mining (the paper's form) help? {'; '.join(parts)}."


def _in_short(differences: Sequence[Difference]) -> str:
    if differences[0].found.seeds < FEWEST_SEEDS:
        return f"too few seeds to say (at least {FEWEST_SEEDS})"
    shown = [d for d in differences if is_shown(d)]
    if not shown:
        return "no difference shown"
    return " and ".join(
        f"{NAMES[d.measure]} {'higher' if d.found.difference > 0 else 'lower'} by "
        f"{abs(100 * d.found.difference):.2f} points"
        for d in shown
    )


def sentences(group: GroupResults) -> list[str]:
    """Return the verdict on an organ and network: the headline, then every comparison of mean and worst tenth."""
    lines = [headline(group)]
    lines += [describe(d) for d in group.differences if d.measure in QUESTION]
    early = [
        f"{arm.arm.name}, seed {run.seed} (up to {run.threshold:.2f})"
        for arm in group.arms
        if arm.arm.strategy in ("mined", "mined-all")
        for run in arm.runs
        if run.threshold < LEARNED
    ]
    if early:
        lines.append(
            "The model had learned little when it scored the slices, and which were hard was then mostly chance: "
            f"{'; '.join(early)}. More --iterations or a later --mine-at would tell more."
        )
    if group.diverged:
        lines.append(f"Diverged, and left out: {'; '.join(group.diverged)}.")
    if group.missing:
        lines.append(f"Not finished, and left out: {'; '.join(group.missing)}.")
    return lines


def legend(group: GroupResults) -> list[str]:
    """Return what each arm is."""
    return [f"{row.arm.name}: {parse_arm(row.arm.name).meaning}" for row in group.rows]
