"""The options of training: a table in which one entry is one option, with its group and whether `study` has it too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from kerasbalance.cli.common import EVERYDAY, CommaList, Command, GroupedOption
from kerasbalance.experiments.runs.augmentations import STRENGTHS
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.optimizers import OPTIMIZERS
from kerasbalance.experiments.runs.rules import RULE_FORMS
from kerasbalance.experiments.runs.strategies import STRATEGIES

NO_STRATEGY = "none"
CASES, NETWORK, STEPS, MINING = "Cases and slices", "Network", "Training", "Mining"
"""The groups of the options that are not needed every day."""


@dataclass(frozen=True)
class Entry:
    """One option of `train`.

    Args:
        decorator: What adds it to a command.
        study: Whether `study` has it too.
    """

    decorator: Callable[[Command], Command]
    study: bool


def _entry(*words: str, group: str = EVERYDAY, study: bool = False, **attributes: Any) -> Entry:
    return Entry(click.option(*words, cls=GroupedOption, group=group, **attributes), study)


def _meanings(entries: Mapping[str, Any], but: str = "") -> str:
    """Return the words of a table, for help."""
    return " ".join(f"{name}: {entry.help}" for name, entry in entries.items() if name != but)


class HUWindow(click.ParamType[tuple[float, float]]):
    """Two numbers separated by a comma."""

    name = "LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Return the numbers."""
        try:
            low, high = map(float, value.split(",")) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{value!r}; expected two numbers such as -150,250; give LOW,HIGH", param, ctx)
        return low, high


_RATES = "; ".join(
    f"{', '.join(f'{rate:g} for {name}' for name, rate in optimizer.rates.items())} and {optimizer.own_rate:g} for a "
    f"network of your own with {optimizer.name}"
    for optimizer in OPTIMIZERS.values()
)
TABLE = (
    _entry("--organ", "organs", multiple=True, help="An organ to segment. It may be repeated. A new run needs at "
           "least one."),
    _entry("--model", help="The network: unet, fcn, or package.module:function. A run with a network of your own needs "
           "this again with --resume, eval, predict, mine and report, which import it."),
    _entry("--preset", type=click.Choice(["default", "paper"]),
           help="The set of options to begin with, `default` unless named. `paper` is Zhang et al. 2019 to the letter: "
           "a million iterations of a full-width network."),
    _entry("--iterations", study=True, type=int, help="The number of optimizer steps."),
    _entry("--seed", type=int, help="The seed of the split, the weights and the order of the slices."),

    _entry("--ratio", group=CASES, type=float, help="The selection ratio: the share of the training cases that is "
           "part B."),
    _entry("--test-share", group=CASES, study=True, type=float, help="The share of the cases that is kept for "
           "evaluation."),
    _entry("--test-seed", group=CASES, type=int, help="The seed of the choice of the test cases; the default is "
           "--seed. Runs of several seeds with one --test-seed have the same test cases, so that eval can average "
           "them."),
    _entry("--validation-share", group=CASES, type=float, help="The share of the cases that is kept for validation: "
           "their mean Dice is measured after each epoch. They are not trained on."),
    _entry("--keep", group=CASES, type=click.Choice(["best", "last"]), help="The weights that the run keeps: those of "
           "the last epoch (the default), or of the epoch with the best mean Dice of the validation cases since the "
           "mining."),
    _entry("--patience", group=CASES, type=int, metavar="EPOCHS", help="Stop after so many epochs, counted from the "
           "mining on, without a better mean Dice of the validation cases. There are about 100 epochs."),
    _entry("--flips", group=CASES, study=True, type=CommaList(), help="The forms in which slices are trained on, "
           "separated by commas: none, horizontal, vertical, both."),
    _entry("--augment", group=CASES, type=click.Choice(list(STRENGTHS)), help="How strongly slices are changed at "
           f"random each time they are trained on. {_meanings(STRENGTHS)} The default is none; the others need the "
           "extra augment."),
    _entry("--partial-labels", group=CASES, is_flag=True, default=None, help="Also use cases that annotate only "
           "some of the organs. On them, pixels outside of the annotated organs count nowhere."),
    _entry("--neighbours", group=CASES, study=True, type=int, help="How many slices before and after each one "
           "the network sees as channels beside it; none by default."),

    _entry("--base-filters", group=NETWORK, study=True, type=int, help="The number of filters of the first level, for "
           "unet and fcn."),
    _entry("--window-hu", group=NETWORK, study=True, type=HUWindow(), metavar="LOW,HIGH", help="The window of HU that "
           "unet and fcn see, and in which pictures are shown; -150,250 by default."),
    _entry("--precision", group=NETWORK, study=True, help="The precision of the training: float32, mixed_bfloat16 or "
           "mixed_float16."),

    _entry("--batch-size", group=STEPS, study=True, type=int, help="The number of slices in a step."),
    _entry("--optimizer", group=STEPS, study=True, type=click.Choice(list(OPTIMIZERS)), help="What makes a step. "
           f"{_meanings(OPTIMIZERS)} The default is sgd."),
    _entry("--learning-rate", group=STEPS, type=float, help="The learning rate at the beginning; it decays "
           "polynomially to 0. "
           f"The default depends on optimizer and network: {_RATES}."),
    _entry("--power", group=STEPS, study=True, type=float, help="The exponent of the decay of the learning rate; 0.9 "
           "by default."),
    _entry("--momentum", group=STEPS, study=True, type=float, help="The momentum of sgd, which is the first beta of "
           "adamw; 0.9 by default."),
    _entry("--loss", group=STEPS, type=click.Choice(list(LOSSES)), help="What the training minimises. "
           f"{_meanings(LOSSES)} The default is dice."),
    _entry("--callback", "callbacks", group=STEPS, multiple=True, metavar="PACKAGE.MODULE:FUNCTION", help="A function "
           "that takes the run and returns a Keras callback, for instance one of a tracker (docs/tracking.md). It may "
           "be repeated. A run with callbacks needs the same ones again with --resume."),

    _entry("--no-mining", group=MINING, is_flag=True, help="Train on part B alone; with --ratio 1, on all the data."),
    _entry("--strategy", group=MINING, type=click.Choice([name for name in STRATEGIES if name != NO_STRATEGY]),
           help=f"What happens once slices are scored. {_meanings(STRATEGIES, but=NO_STRATEGY)} The default is mined."),
    _entry("--mine-at", group=MINING, study=True, type=float, help="The share of the iterations after which slices are "
           "scored; 0.5 by default."),
    _entry("--mine-every", group=MINING, study=True, type=int, metavar="ITERATIONS", help="Score slices each time so "
           "many iterations are done, and choose the hard ones anew, in place of --mine-at."),
    _entry("--rule", group=MINING, study=True, metavar="RULE", help="The rule that decides which slices are hard: "
           f"{RULE_FORMS}. The default is lowest:0.15."),
    _entry("--repeat", group=MINING, study=True, type=int, help="How often a hard slice is added, in each of its "
           "forms; once by default."),
    _entry("--skip-worst", group=MINING, study=True, type=float, metavar="SHARE", help="The share of the scored "
           "slices, the very worst, that is never added: often their masks are wrong. 0 by default."),
)  # fmt: skip
"""Each option without a word of its own in a command bears the name of a field of `TrainOptions`."""


def training_options(*, study: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds the options of the table to a command, in their order.

    Args:
        study: Whether to add only those that `study` has.
    """

    def add(command: Command) -> Command:
        for entry in reversed(TABLE):
            if entry.study or not study:
                command = entry.decorator(command)
        return command

    return add


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, as `TrainOptions` takes them.

    Raises:
        click.UsageError: If two of them contradict each other.
    """
    stated = {name: value for name, value in given.items() if value not in (None, ())}
    if {"mine_at", "mine_every"} <= stated.keys():
        raise click.UsageError("--mine-at and --mine-every contradict each other: leave one out")
    return stated
