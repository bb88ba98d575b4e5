"""`kerasbalance ingest`: CT and masks into a store."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import (
    CONTEXT,
    FAILED,
    PARTLY,
    GroupedCommand,
    GroupedOption,
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


_STORE = "The store"
_option = functools.partial(click.option, cls=GroupedOption)


@click.command(
    cls=GroupedCommand,
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance ingest ct/ --mask liver.nii.gz --label liver=1 --out store",
)
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of the store. It is made if need be.",
)
@_option(
    "--replace",
    "replace_changed",
    group=_STORE,
    is_flag=True,
    help="Replace stored cases whose images, masks or options have changed. Without it they are refused.",
)
@_option(
    "--keep-uids",
    group=_STORE,
    is_flag=True,
    help="Store the original UIDs too, so that a DICOM SEG can be written that refers to the series.",
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
    """Read CT with their masks, check them, and write them into a store.

    SRC is the CT of one case, together with --mask, or a folder or ZIP archive of cases: one with a cases.csv, a known
    layout (nnU-Net, Decathlon, LiTS, KiTS, BTCV, FLARE, 3D-IRCADb, CHAOS, TotalSegmentator, 3D Slicer), or DICOM with
    SEG or RTSTRUCT. A case with doubtful input is refused with the reason, and the other cases are read. The same
    command completes an interrupted ingest and repairs damaged cases.
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
