"""`kerasbalance study`: the paper's tables with controls, over seeds, and what they show."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.backend import backend_option, choose_backend
from kerasbalance.cli.common import (
    CONTEXT,
    PARTLY,
    GroupedCommand,
    GroupedOption,
    Interrupted,
    duration,
    json_option,
    print_json,
    progress,
    readable,
    reports_errors,
    split_list,
    store_argument,
    table,
)
from kerasbalance.cli.train_options import STEPS, chosen_options, training_options
from kerasbalance.experiments.studies.arms import DEFAULT, NAMED
from kerasbalance.experiments.studies.measures import DEFAULT as MEASURES_DEFAULT
from kerasbalance.experiments.studies.measures import MEASURES

if TYPE_CHECKING:
    from kerasbalance.data.errors import DataError
    from kerasbalance.experiments.studies.differences import Compared
    from kerasbalance.experiments.studies.options import StudyOptions, StudyRecord
    from kerasbalance.experiments.studies.study import Estimate


@click.command(
    cls=GroupedCommand,
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance study store --out study --organs liver --arms all,0.5,random,mined --seeds 5",
)
@store_argument
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The study's folder."
)
@click.option(
    "--organs",
    default="liver",
    show_default=True,
    help="Organs, separated by commas. Each is a study of its own.",
)
@click.option(
    "--models",
    default="unet",
    show_default=True,
    help="Networks, separated by commas: unet, fcn, package.module:function.",
)
@click.option("--arms", default=",".join(DEFAULT), show_default=True,
              help="Ways to train, separated by commas: a selection ratio such as 0.5, or "
              f"{', '.join(NAMED)}.")  # fmt: skip
@click.option(
    "--seeds", type=int, default=5, show_default=True, help="The number of seeds. Fewer than 5 show nothing."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of processes that train at the same time.",
)
@click.option("--measures", default=",".join(MEASURES_DEFAULT), show_default=True,
              help=f"The measures that decide, separated by commas, from {', '.join(MEASURES)}. Their comparisons are "
              "adjusted for their number; all others are exploratory. A study keeps those it began with.")  # fmt: skip
@click.option("--margin", type=float, default=0.2, show_default=True,
              help="How many Dice points lower count as not worse.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what the study will take, and train nothing.")
@click.option("--no-estimate", is_flag=True, help="Begin without measuring a few steps of each network.")
@click.option(
    "--plan",
    is_flag=True,
    help="Write study.json and print how many units there are for study-unit, and train nothing here.",
)
@training_options(study=True)
@click.option(
    "--learning-rate",
    cls=GroupedOption,
    group=STEPS,
    help="The learning rate for all networks, or by network: unet=0.1,fcn=0.003.",
)
@json_option
@backend_option
@reports_errors
def study(
    store: Path,
    out: Path,
    organs: str,
    models: str,
    arms: str,
    seeds: int,
    jobs: int,
    measures: str,
    margin: float,
    dry_run: bool,
    no_estimate: bool,
    plan: bool,
    as_json: bool,
    backend: str | None,
    show_paths: bool,
    **given: Any,
) -> None:
    """Train STORE in several ways at equal cost, over several seeds, and say what differs and what does not.

    All runs have the same iterations and the same test cases; those of a seed share their training up to the moment at
    which they part. Run the same command again after any interruption; organs, models, arms and seeds may be added.
    Writes study.html, study.md, results.json and tables as CSV into the study's folder, and each run into runs/.
    With --plan, a cluster's scheduler runs the units by study-unit; this command then collects them.
    """
    if dry_run and (plan or no_estimate):
        raise click.UsageError("--dry-run contradicts --plan and --no-estimate: leave one out")
    backend = choose_backend(backend)
    from kerasbalance.data.store import SliceStore
    from kerasbalance.experiments.studies.options import open_record
    from kerasbalance.experiments.studies.study import check_store
    from kerasbalance.experiments.studies.workers import threads_for

    lists = [split_list(text) for text in (organs, models, arms, measures)]
    options = _options(lists, seeds, margin, given)
    opened = SliceStore(store)
    record = open_record(
        out,
        options,
        store=str(store.absolute()),
        store_digest=opened.digest,
        backend=backend,
        threads=threads_for(jobs),
    )
    check_store(opened, record)
    if plan:
        record.write(out)
        _show_plan(out, record, as_json)
        return
    if not no_estimate:
        _estimate(out, record, jobs)
    if dry_run:
        return
    record.write(out)
    failures = _train(out, record, jobs)
    _finish(out, record, failures, as_json)


def _estimate(out: Path, record: "StudyRecord", jobs: int) -> None:
    from kerasbalance.experiments.studies.study import check_room, estimate

    needed = estimate(out, record, jobs)
    _show_estimate(needed, record, jobs)
    check_room(out, needed)


def _show_plan(out: Path, record: "StudyRecord", as_json: bool) -> None:
    from kerasbalance.experiments.studies.progress import units_left

    number = len(list(record.options.units()))
    left = [unit.number for unit in units_left(out, record)]
    if as_json:
        print_json({"units": number, "left": left})
    else:
        click.echo(f"{number} units, {len(left)} of them to do: kerasbalance study-unit {out} NUMBER, with the "
                   f"numbers from 0 to {number - 1}")  # fmt: skip


def _finish(out: Path, record: "StudyRecord", failures: "Sequence[DataError]", as_json: bool) -> None:
    """Write and show what is finished, and say what failed."""
    from kerasbalance.experiments.studies.differences import read_compared
    from kerasbalance.experiments.studies.page import write_study
    from kerasbalance.experiments.studies.tables import plain

    compared = read_compared(out, record)
    if failures and not compared:
        raise failures[0]
    page = write_study(out, record, compared)
    if as_json:
        print_json(plain(compared))
    else:
        _show(compared)
        click.echo(f"\nwrote {page}")
    for failure in failures:
        click.echo(f"failed: {readable(failure.message())}", err=True)
    if failures or any(group.diverged for group, _ in compared):
        raise SystemExit(PARTLY)


def _options(
    lists: list[tuple[str, ...]], seeds: int, margin: float, given: dict[str, Any]
) -> "StudyOptions":
    from kerasbalance.experiments.runs.options import TrainOptions
    from kerasbalance.experiments.studies.options import StudyOptions

    stated = chosen_options(given)
    organs, models, arms, measures = lists
    rates = _rates(stated.pop("learning_rate", ""), models)
    return StudyOptions(
        organs, models, arms, seeds, TrainOptions(organs=("any",), **stated), rates, measures, margin
    )


def _rates(text: str, models: tuple[str, ...]) -> dict[str, float]:
    """Read "0.1", for all networks, or "unet=0.1,fcn=0.01"."""
    try:
        if "=" not in text:
            return {model: float(text) for model in models} if text else {}
        return {model: float(rate) for model, _, rate in (part.rpartition("=") for part in split_list(text))}
    except ValueError:
        raise click.UsageError(
            f"--learning-rate {text}: expected a number, or one for each network such as unet=0.1,fcn=0.01"
        ) from None


def _show_estimate(needed: "Estimate", record: "StudyRecord", jobs: int) -> None:
    click.echo(
        f"backend {record.backend}, {jobs} {'process' if jobs == 1 else 'processes'} on {record.threads} "
        f"{'core' if record.threads == 1 else 'cores'} each", err=True
    )  # fmt: skip
    if not needed.runs:
        click.echo("every run is done", err=True)
        return
    click.echo(
        f"{needed.runs} runs to go, {needed.iterations:,} iterations: about {duration(needed.seconds)} of training "
        f"here, with scoring and evaluation on top; {needed.disk_bytes / 2**30:.1f} GiB of disk, "
        f"{needed.memory_bytes / 2**30:.1f} GiB of memory", err=True
    )  # fmt: skip


def _train(out: Path, record: "StudyRecord", jobs: int) -> "tuple[DataError, ...]":
    from kerasbalance.experiments.studies.progress import iterations_left, units_left
    from kerasbalance.experiments.studies.study import train_study

    iterations = sum(iterations_left(out, record, unit) for unit in units_left(out, record))
    with progress(iterations, "Study") as bar:

        def show(iterations: int, run: str) -> None:
            if run:
                bar.label = run
            bar.update(iterations)

        try:
            return train_study(out, record, jobs, show)
        except Interrupted as interruption:
            message = "\ninterrupted; what was trained is saved, run the same command again to go on"
            raise Interrupted(interruption.code, message) from None


def _show(compared: "Compared") -> None:
    from kerasbalance.experiments.studies.tables import HEADERS, cells, counted
    from kerasbalance.experiments.studies.verdict import CAUTION, sentences

    for group, differences in compared:
        click.secho(f"\n{group.organ}, {group.model}", bold=True)
        click.echo(table(HEADERS, [cells(row) for row in group.rows]))
        for sentence in sentences(group, differences):
            click.echo(f"* {sentence}")
    click.echo(f"\n{counted(compared)} {CAUTION}")
