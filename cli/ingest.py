"""`kerasbalance ingest`: CT and masks into a store."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import (
    CONTEXT,
    PARTLY,
    Interrupted,
    interruptible,
    json_option,
    key_file_option,
    print_json,
    progress,
    reports_errors,
)
from kerasbalance.cli.sources import case_options, outcome_json, outcome_messages, outcome_table

if TYPE_CHECKING:
    from kerasbalance.data.case import CaseOptions
    from kerasbalance.data.ingest import Outcome
    from kerasbalance.data.layouts import Layout


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance ingest ct/ --mask liver.nii.gz --label "
               "liver=1 --out store")  # fmt: skip
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The store.")
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
    from kerasbalance.data import ingest as engine
    from kerasbalance.data.store import Pseudonyms, Store

    layout = find_layout()
    pseudonyms = Pseudonyms.load(key_file)
    store = Store.create(out, pseudonyms)
    if not as_json:
        click.echo(f"{layout.name}: {len(layout.requests)} cases")
    outcomes: list[Outcome] = []
    with interruptible(), progress(len(layout.requests), "Ingesting") as bar:
        try:
            for outcome in engine.ingest(
                layout.requests, store, pseudonyms, options, jobs=jobs, replace_changed=replace_changed
            ):
                outcomes.append(outcome)
                bar.update(1)
        except Interrupted as interruption:
            kept = sum(outcome.error is None for outcome in outcomes)
            click.echo(f"\ninterrupted; kept {kept} of {len(layout.requests)} cases; "
                       "run the same command again to go on", err=True)  # fmt: skip
            raise SystemExit(interruption.code) from None
    order = {request.where: number for number, request in enumerate(layout.requests)}
    outcomes.sort(key=lambda outcome: order[outcome.request.where])
    _report(outcomes, as_json, show_paths)


def _report(outcomes: "list[Outcome]", as_json: bool, show_paths: bool) -> None:
    refused = sum(outcome.error is not None for outcome in outcomes)
    if as_json:
        print_json([outcome_json(outcome, show_paths=show_paths) for outcome in outcomes])
    else:
        click.echo(outcome_table(outcomes, show_paths=show_paths))
        for line in outcome_messages(outcomes, show_paths=show_paths):
            click.echo(line)
        counts = Counter(outcome.status for outcome in outcomes)
        click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    if refused and refused == len(outcomes):
        raise SystemExit(1)
    if refused:
        raise SystemExit(PARTLY)
