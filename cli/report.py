"""`kerasbalance report`: one page that shows what a run did, found and is worth."""

from pathlib import Path

import click

from kerasbalance.cli.backend import backend_option, choose_backend_of
from kerasbalance.cli.common import CONTEXT, model_option, reports_errors, stated_options


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance report run")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--store", type=click.Path(path_type=Path), help="The place of the run's store, if it was moved."
)
@model_option
@backend_option
@reports_errors
def report(run: Path, store: Path | None, model: str | None, backend: str | None, show_paths: bool) -> None:
    """Write report.html, which needs no other file and no network, and figures/ into RUN.

    Cases are named by the first eight digits of their keys; no path, name or date is in it. RUN may also be the folder
    of a study: its tables and study.html are then written from the runs that are finished so far.
    """
    if (run / "study.json").exists():
        _report_study(run)
        return
    choose_backend_of(run, backend)
    from kerasbalance.experiments.report.page import write_report
    from kerasbalance.experiments.runs.train import Run

    path = write_report(Run.open(run, store, model=model), progress=lambda step: click.echo(step, err=True))
    click.echo(f"wrote {path}")


def _report_study(folder: Path) -> None:
    stated = stated_options(but={"show_paths", "debug"})
    if stated:
        raise click.UsageError(
            f"the report of a study reads its runs' tables only: leave out {', '.join(stated)}"
        )
    from kerasbalance.experiments.studies.differences import read_compared
    from kerasbalance.experiments.studies.options import StudyRecord
    from kerasbalance.experiments.studies.page import write_study
    from kerasbalance.experiments.studies.progress import units_left

    record = StudyRecord.read(folder)
    runs = sum(len(unit.arms) for unit in record.options.units())
    left = sum(len(unit.arms) for unit in units_left(folder, record))
    page = write_study(folder, record, read_compared(folder, record))
    click.echo(f"wrote {page}; {runs - left} of {runs} runs are finished")
