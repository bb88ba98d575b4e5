"""`kerasbalance train --dry-run`: what a run would take."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import duration

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.train import Run


def show_cost(create: Callable[[Path], "Run"]) -> None:
    """Create a run in a folder that is removed again, measure a few steps, and print what the whole will take."""
    from kerasbalance.experiments.runs.cost import measure_cost, scored_slices

    with tempfile.TemporaryDirectory(prefix="kerasbalance-cost-") as scratch:
        run = create(Path(scratch) / "run")
        cost, scored = measure_cost(run), scored_slices(run)
    steps, batch = run.options.iterations, run.options.batch_size
    training_s, scoring_s = steps * cost.step_s, -(-scored // batch) * cost.scored_batch_s
    click.echo(f"training: {steps:,} iterations of {batch} slices, {1000 * cost.step_s:.0f} ms each: "
               f"{duration(training_s)}")  # fmt: skip
    if scored:
        click.echo(
            f"scoring: {scored:,} slices, {1000 * cost.scored_batch_s:.0f} ms for {batch}: {duration(scoring_s)}"
        )
    click.echo(f"in all: about {duration(training_s + scoring_s)}, {cost.memory_bytes / 2**30:.1f} GiB of memory "
               f"on each device, {cost.disk_bytes / 2**30:.2f} GiB of disk")  # fmt: skip
