"""`kerasbalance mine`: score a pool of a run's cases with its model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.backend import backend_option, choose_backend_of, devices_option, use_devices
from kerasbalance.cli.common import (
    CONTEXT,
    json_option,
    model_option,
    print_json,
    progress,
    reports_errors,
    table,
)

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.mine import Mined
    from kerasbalance.experiments.runs.train import Run

_SHOWN = 10


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance mine run --out mined")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--store", type=click.Path(path_type=Path), help="The place of the run's store, if it was moved."
)
@click.option(
    "--part",
    type=click.Choice(["A", "B", "test", "validation"]),
    default="A",
    show_default=True,
    help="The part of the run's cases that is scored.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("mined"),
    show_default=True,
    help="The folder for slices.csv, suspects.csv, gallery.html and gallery.png.",
)
@model_option
@backend_option
@devices_option
@json_option
@reports_errors
def mine(
    run: Path,
    store: Path | None,
    part: str,
    out: Path,
    model: str | None,
    backend: str | None,
    devices: int | str | None,
    as_json: bool,
    show_paths: bool,
) -> None:
    """Score slices with the model of RUN: which are hard, and which of these have a mask that looks wrong.

    The rule is the run's. The run itself is not changed. suspects.csv is a list to review: slices whose mask
    disagrees with its neighbours, with the prediction or with the HU in it; train --exclude takes it.
    """
    choose_backend_of(run, backend)
    use_devices(devices)
    from kerasbalance.experiments.report.mined import write_mined
    from kerasbalance.experiments.runs.train import Run

    opened = Run.open(run, store, model=model)
    mined = _mine(opened, part)
    write_mined(out, opened, mined)
    if as_json:
        print_json(_plain(mined))
        return
    _show(mined)
    click.echo(f"wrote slices.csv, suspects.csv, gallery.html and gallery.png into {out}")


def _mine(run: "Run", part: str) -> "Mined":
    from kerasbalance.experiments.runs.mine import mine_run

    with progress(len(run.refs(part)), "Scoring slices") as bar:
        return mine_run(run, (part,), lambda done, total: bar.update(done - bar.pos))


def _show(mined: "Mined") -> None:
    hard = int(mined.table.hard.sum())
    click.echo(f"{hard} hard slices of {len(mined.table)}, Dice up to {mined.table.threshold:.3f}")
    click.echo(f"{len(mined.suspects)} of their masks look wrong")
    rows = [
        [one.case[:8], one.slice, one.organ, one.reason, f"{one.score:.2f}"]
        for one in mined.suspects[:_SHOWN]
    ]
    if rows:
        click.echo(table(["case", "slice (from 0)", "organ", "reason", "score"], rows))
    if len(mined.suspects) > _SHOWN:
        click.echo(f"and {len(mined.suspects) - _SHOWN} more")


def _plain(mined: "Mined") -> dict[str, object]:
    hard = int(mined.table.hard.sum())
    return {
        "slices": len(mined.table),
        "hard": hard,
        "threshold": mined.threshold if hard else None,
        "suspects": [asdict(one) for one in mined.suspects],
    }
