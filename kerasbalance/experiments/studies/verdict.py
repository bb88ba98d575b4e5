"""What a study shows, in plain words; where it shows nothing it says so."""

from collections.abc import Sequence

from kerasbalance.experiments.runs.strategies import STRATEGIES
from kerasbalance.experiments.studies.results import Difference, GroupResults

FEWEST_SEEDS = 5
LEARNED = 0.5
"""A Dice below which a model has not learned its task, and the slices on which it does worst are no choice."""
QUESTION = ("mean", "worst tenth")
NAMES = {
    "mean": "mean case Dice",
    "worst tenth": "the worst tenth of the cases",
    "minimum": "the worst case",
    "hard slices": "the hard slices",
}
LEVEL = 0.05
CAUTION = (
    "Differences are in Dice points (hundredths of Dice). Intervals are 95 % bootstrap intervals over seeds and cases "
    "(of the worst case, the worst tenth and the hard slices over seeds only); with few seeds they are too narrow. "
    '"Shown" rests on a t-test over seeds and cases with at least five seeds, its p-value adjusted for the number of '
    'comparisons made (Holm); "suggested" means that it is so for the one comparison, but not when all count. The '
    "results hold for these data, this network and this length of training."
)


def comparisons(groups: Sequence[GroupResults]) -> int:
    """Return how many comparisons the study made."""
    return sum(len(group.differences) for group in groups)


def points(value: float) -> str:
    """Return a difference of Dice in points, with its sign."""
    return f"{100 * value:+.2f}"


def strength(difference: Difference) -> str:
    """Return "shown", "suggested" or "no": how far a difference is beyond seeds, cases and many comparisons."""
    if difference.found.seeds < FEWEST_SEEDS or not difference.found.p < LEVEL:
        return "no"
    return "shown" if difference.adjusted_p < LEVEL else "suggested"


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
    way = "higher" if found.difference > 0 else "lower"
    verdict = {
        "shown": way,
        "suggested": f"{way}, not beyond the number of comparisons",
        "no": "no difference shown",
    }
    return f"{subject}: {verdict[strength(difference)]} ({numbers})."


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
    shown = [d for d in differences if strength(d) != "no"]
    if shown:
        return " and ".join(_claim(d) for d in shown)
    found = differences[0].found
    return (
        f"no difference shown ({NAMES[differences[0].measure]} {points(found.difference)} points, 95 % interval "
        f"{points(found.low)} to {points(found.high)})"
    )


def _claim(difference: Difference) -> str:
    found = difference.found
    way = "higher" if found.difference > 0 else "lower"
    beyond = (
        "" if strength(difference) == "shown" else " (suggested only: not beyond the number of comparisons)"
    )
    return f"{NAMES[difference.measure]} {way} by {abs(100 * found.difference):.2f} points{beyond}"


def sentences(group: GroupResults) -> list[str]:
    """Return the verdict on an organ and network: the headline, then every comparison of mean and worst tenth."""
    lines = [headline(group)]
    lines += [describe(d) for d in group.differences if d.measure in QUESTION]
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


def legend(group: GroupResults) -> list[str]:
    """Return what each arm is."""
    return [f"{row.arm.name}: {row.arm.meaning}" for row in group.rows]
