"""A new run of `train`: its options put together, where it starts from, and its folder."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from kerasbalance.cli.train_options import NO_STRATEGY, chosen_options
from kerasbalance.experiments.runs.strategies import STRATEGIES

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.options import TrainOptions
    from kerasbalance.experiments.runs.starting_weights import StartingWeights
    from kerasbalance.experiments.runs.train import Run

_OF_MINING = ("strategy", "mine_at", "mine_every", "rule", "repeat", "skip_worst")
"""Options by parameter that mean nothing without mining."""


def first_weights(init_from: Path | None, encoder_weights: Path | None) -> "StartingWeights | None":
    """Return where the first weights come from; None for random ones."""
    from kerasbalance.experiments.runs.starting_weights import StartingWeights

    if init_from is not None and encoder_weights is not None:
        raise click.UsageError("--init-from and --encoder-weights contradict each other: leave one out")
    path = init_from or encoder_weights
    return None if path is None else StartingWeights(path, encoder=encoder_weights is not None)


def new_options(store: Path | None, given: dict[str, Any], like: Path | None) -> "TrainOptions":
    """Put together the options of a new run: of a preset or of another run, and those that were given.

    Args:
        store: The store, which must have been named.
        given: Options by parameter.
        like: A run whose options are repeated.

    Raises:
        click.UsageError: If one is missing or two contradict each other.
    """
    from kerasbalance.experiments.runs.options import PRESETS, TrainOptions

    if store is None:
        raise click.UsageError("a new run needs STORE")
    preset = given.pop("preset")
    if like is not None and preset is not None:
        raise click.UsageError("--like and --preset contradict each other: leave one out")
    base = PRESETS[preset or "default"].options if like is None else _repeated(like, given)
    if given.pop("no_mining"):
        needless = [f"--{name.replace('_', '-')}" for name in _OF_MINING if given[name] is not None]
        if needless:
            raise click.UsageError(f"--no-mining and {needless[0]} contradict each other: leave one out")
        given["strategy"] = NO_STRATEGY
    elif given["strategy"] and not STRATEGIES[given["strategy"]].needs_part_a and given["ratio"] is None:
        given["ratio"] = 1.0
    stated = chosen_options(given)
    if "organs" not in {**base, **stated}:
        raise click.UsageError("a new run needs --organ")
    return TrainOptions(**{**base, **stated})


def _repeated(like: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of another run, but for those that a given one makes meaningless."""
    from kerasbalance.experiments.runs.folder import read_options
    from kerasbalance.experiments.runs.optimizers import default_rate

    options = read_options(like)
    if ":" in options.model and given["model"] is None:
        raise click.UsageError(
            f"--like with a run whose network is {options.model}; expected that its code is named again; "
            f"if you trust it, pass --model {options.model}, or another --model"
        )
    repeated = {**dataclasses.asdict(options), "callbacks": ()}
    if options.learning_rate == default_rate(options.optimizer, options.model):
        del repeated["learning_rate"]  # follows from the network and the optimizer, which may be others now
    if given["mine_at"] is not None:
        del repeated["mine_every"]
    return repeated


def create_run(
    store: Path | None,
    out: Path,
    options: "TrainOptions",
    exclude: Path | None,
    start: "StartingWeights | None",
) -> "Run":
    """Create the run; what cannot be done is refused before anything is written."""
    from kerasbalance.experiments.runs.own_code import find_callbacks
    from kerasbalance.experiments.runs.train import Run

    find_callbacks(options.callbacks)
    return Run.create(cast(Path, store), out, options, exclude, start=start)
