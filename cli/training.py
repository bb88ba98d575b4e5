"""Options of training that `train` and `study` share."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from kerasbalance.cli.common import Command

BASE_FILTERS = click.option("--base-filters", type=int, help="Filters of the first level (unet and fcn).")
BATCH_SIZE = click.option("--batch-size", type=int, help="Slices a step.")
MOMENTUM = click.option("--momentum", type=float, help="Of SGD.")
MINE_AT = click.option("--mine-at", type=float, help="Share of the iterations after which slices are scored.")
RULE = click.option("--rule", help="Which slices are hard: below:SCORE or lowest:SHARE.")
FLIPS = click.option(
    "--flips", help="Forms of the slices, separated by commas: none, horizontal, vertical, both."
)
TEST_SHARE = click.option("--test-share", type=float, help="Share of the cases kept for evaluation.")
PRECISION = click.option("--precision", help="float32, mixed_bfloat16 or mixed_float16.")


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
