"""Options of training that `train` and `study` share."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from kerasbalance.cli.common import Command
from kerasbalance.experiments.runs.strategies import RULE_FORMS

BASE_FILTERS = click.option(
    "--base-filters", type=int, help="The number of filters of the first level, for unet and fcn."
)
BATCH_SIZE = click.option("--batch-size", type=int, help="The number of slices in a step.")
MOMENTUM = click.option("--momentum", type=float, help="The momentum of SGD.")
MINE_AT = click.option(
    "--mine-at", type=float, help="The share of the iterations after which slices are scored."
)
RULE = click.option("--rule", help=f"The rule that decides which slices are hard: {RULE_FORMS}.")
FLIPS = click.option(
    "--flips",
    help="The forms in which slices are trained on, separated by commas: none, horizontal, vertical, both.",
)
TEST_SHARE = click.option(
    "--test-share", type=float, help="The share of the cases that is kept for evaluation."
)
PRECISION = click.option(
    "--precision", help="The precision of the training: float32, mixed_bfloat16 or mixed_float16."
)


def add_options(options: Sequence[Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def split_list(text: str) -> tuple[str, ...]:
    """Split what is separated by commas; blanks and empty parts do not count."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
