"""`kerasbalance study-unit`: one unit of a study, for a cluster's scheduler."""

from pathlib import Path
from typing import Any

import click

from kerasbalance.cli.backend import choose_backend
from kerasbalance.cli.common import CONTEXT, Interrupted, model_option, progress, reports_errors

_MESSAGE = "\ninterrupted; what was trained is saved, run the same command again to go on"


@click.command("study-unit", context_settings=CONTEXT, epilog="Example:  kerasbalance study-unit study 3")
@click.argument("study", type=click.Path(file_okay=False, path_type=Path))
@click.argument("number", type=int)
@model_option
@reports_errors
def study_unit(study: Path, number: int, model: str | None, show_paths: bool) -> None:
    """Train and evaluate unit NUMBER, from 0, of the folder STUDY, which study --plan wrote.

    The unit may be killed at any moment and repeated on another machine; it goes on from its last checkpoint. Two
    processes on one number are refused. A unit that is done ends at once.
    """
    from kerasbalance.experiments.studies.progress import iterations_left
    from kerasbalance.experiments.studies.unit_process import prepare_process, read_unit, train_unit

    record, unit = read_unit(study, number)
    prepare_process(record, number)
    choose_backend(record.backend)
    from kerasbalance import errors

    with progress(iterations_left(study, record, unit), unit.label) as bar:

        def show(kind: str, content: Any) -> None:
            if kind == "iterations":
                bar.update(int(content))

        try:
            train_unit(study, number, model=model, report=show)
        except errors.Interrupted as interruption:
            raise Interrupted(interruption.exit_code, _MESSAGE) from None
        except Interrupted as interruption:  # between two trainings
            raise Interrupted(interruption.code, _MESSAGE) from None
    click.echo(f"done: unit {number}, {unit.label}")
