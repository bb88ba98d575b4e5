"""`kerasbalance ingest`: CT and masks into a store."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import (
    CONTEXT,
    FAILED,
    PARTLY,
    Interrupted,
    json_option,
    key_file_option,
    print_json,
    progress,
    reports_errors,
)
from kerasbalance.cli.sources import (
    case_options,
    layout_line,
    outcome_json,
    outcome_messages,
    outcome_table,
    problem_json,
    show_notes,
)

if TYPE_CHECKING:
    from kerasbalance.data.ingest.case import CaseOptions
    from kerasbalance.data.ingest.ingest import Outcome
    from kerasbalance.data.ingest.layouts import Layout


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance ingest ct/ --mask liver.nii.gz --label "
               "liver=1 --out store")  # fmt: skip
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store.")
@click.option("--replace", "replace_changed", is_flag=True, help="Put changed cases in place of stored ones.")
@click.option(
    "--keep-uids", is_flag=True, help="Store the original UIDs, to reference the series from a SEG."
)
@key_file_option
@json_option
@reports_errors
@case_options
def ingest(
    source: Path | None,
    find_layout: "Callable[[], Layout]",
    options: "CaseOptions",
    jobs: int,
    out: Path,
    replace_changed: bool,
    key_file: Path | None,
    as_json: bool,
    show_paths: bool,
) -> None:
    """Read CT series with masks, check them, and keep them in a store.

    SRC is the CT of one case (with --mask), or a folder of cases: one with a cases.csv, nnU-Net or Decathlon,
    3D-IRCADb, CHAOS, TotalSegmentator, or DICOM with SEG or RTSTRUCT. What is refused is listed with the reason
    and stops nothing else. The same command again completes an interrupted ingest and mends damaged cases.
    """
    from kerasbalance.data.ingest import ingest as engine
    from kerasbalance.data.store import Pseudonyms, Store

    layout = find_layout()
    pseudonyms = Pseudonyms.load(key_file)
    store = Store.create(out, pseudonyms)
    if not as_json:
        click.echo(layout_line(layout))
        show_notes(layout.notes)
    outcomes: list[Outcome] = []
    running = engine.ingest(
        layout.requests, store, pseudonyms, options, jobs=jobs, replace_changed=replace_changed
    )
    with (
        progress(len(layout.requests), "Ingesting") as bar,
        _telling_what_is_kept(outcomes, layout),
        contextlib.closing(running),
    ):
        for outcome in running:
            outcomes.append(outcome)
            bar.update(1)
    order = {request.where: number for number, request in enumerate(layout.requests)}
    outcomes.sort(key=lambda outcome: order[outcome.request.where])
    _report(outcomes, layout, as_json, show_paths)


@contextlib.contextmanager
def _telling_what_is_kept(outcomes: "list[Outcome]", layout: "Layout") -> Iterator[None]:
    """Say, when the ingest ends early, how much of it is done for good."""
    from kerasbalance.data.errors import DataError

    def kept() -> str:
        done = sum(outcome.error is None for outcome in outcomes)
        return f"kept {done} of {len(layout.requests)} cases"

    try:
        yield
    except Interrupted as interruption:
        message = f"interrupted; {kept()}; run the same command again to go on"
        raise Interrupted(interruption.code, message) from None
    except DataError as error:
        if outcomes and error.code in ("DISK_FULL", "UNWRITABLE"):
            click.echo(kept(), err=True)
        raise


def _report(outcomes: "list[Outcome]", layout: "Layout", as_json: bool, show_paths: bool) -> None:
    if as_json:
        plain = [outcome_json(outcome, show_paths=show_paths) for outcome in outcomes]
        print_json([*plain, *(problem_json(problem, show_paths=show_paths) for problem in layout.problems)])
    else:
        click.echo(outcome_table(outcomes, show_paths=show_paths))
        for line in outcome_messages(outcomes, layout.problems, show_paths=show_paths):
            click.echo(line)
        counts = Counter([*(outcome.status for outcome in outcomes), *("refused" for _ in layout.problems)])
        click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    taken = sum(outcome.error is None for outcome in outcomes)
    if taken < len(outcomes) + len(layout.problems):
        raise SystemExit(PARTLY if taken else FAILED)
