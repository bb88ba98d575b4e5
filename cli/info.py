"""`kerasbalance info` and `kerasbalance verify`: what a store holds and whether it is whole."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import (
    CONTEXT,
    FAILED,
    json_option,
    key_file_option,
    print_json,
    progress,
    readable,
    reports_errors,
    store_argument,
    table,
)

if TYPE_CHECKING:
    from kerasbalance.data.store import Rejection
    from kerasbalance.data.store.summary import StoreSummary


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance info store")
@store_argument
@json_option
@key_file_option
@reports_errors
def info(store: Path, as_json: bool, key_file: Path | None, show_paths: bool) -> None:
    """Show what a store holds: cases, patients, slices, organs, spacings, HU, warnings.

    With --show-paths also where each case came from, as far as this key file's folder remembers it.
    """
    from kerasbalance.data.store import Pseudonyms, SliceStore, Store, read_rejections
    from kerasbalance.data.store.summary import summarise

    opened = SliceStore(store)
    summary = summarise(opened.cases)
    rejections = read_rejections(Store(store))
    known = Pseudonyms.load(key_file, create=False).sources() if show_paths else {}
    sources = {case.key: known[case.key] for case in opened.cases if case.key in known}
    if as_json:
        organs = [{**asdict(organ), "positive_share": organ.positive_share} for organ in summary.organs]
        plain = {**asdict(summary), "organs": organs, "digest": opened.digest,
                 "refused": [asdict(rejection) for rejection in rejections]}  # fmt: skip
        if show_paths:
            plain["sources"] = {key: readable(source) for key, source in sources.items()}
        print_json(plain)
        return
    _show(summary, rejections)
    for case in opened.cases if show_paths else ():
        click.echo(f"source   case {case.key[:8]}: {readable(sources.get(case.key, 'not remembered'))}")


def _show(summary: "StoreSummary", rejections: "Sequence[Rejection]") -> None:
    click.echo(f"{summary.cases} cases of {summary.patients} patients, {summary.slices} slices")
    if summary.cases:
        click.echo("sizes: " + ", ".join(f"{size} ({count} cases)" for size, count in summary.sizes.items()))
        between = " / ".join(f"{value:g}" for value in summary.slice_spacing_mm) or "unknown"
        within = " / ".join(f"{value:g}" for value in summary.pixel_spacing_mm)
        click.echo(f"spacing (min / median / max): slices {between} mm, pixels {within} mm")
        if summary.suggested_spacing_mm is not None:
            smallest, _, largest = summary.pixel_spacing_mm
            click.echo(f"pixels differ by {100 * (largest / smallest - 1):.0f} %: `ingest --spacing "
                       f"{summary.suggested_spacing_mm:g}` would bring all cases to the median")  # fmt: skip
        low, middle, high = summary.hu_percentiles
        click.echo(f"HU (median over cases): 0.5 % at {low:g}, half at {middle:g}, 99.5 % at {high:g}")
        rows = [
            [
                organ.organ, organ.cases, organ.slices, organ.positive_slices, f"{100 * organ.positive_share:.1f}%",
                " / ".join(f"{value:g}" for value in organ.hu_median) or "-",
            ]
            for organ in summary.organs
        ]  # fmt: skip
        headers = [
            "organ",
            "cases",
            "slices",
            "positive",
            "share",
            "median HU (min / median / max over cases)",
        ]
        click.echo(table(headers, rows))
    for key, text in summary.warnings:
        click.echo(readable(f"WARNING  case {key}: {text}" if key else f"WARNING  {text}"))
    for rejection in rejections:
        click.echo(readable(f"refused  {rejection.message}"))


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance verify store")
@store_argument
@json_option
@reports_errors
def verify(store: Path, as_json: bool, show_paths: bool) -> None:
    """Hash every case of a store and name what is damaged; exit 1 if anything is.

    A damaged case is mended by ingesting its source again.
    """
    from kerasbalance.data.store import Store, verify_store

    opened = Store(store)
    with progress(len(list(opened.cases_folder.glob("*.h5"))), "Verifying") as bar:
        found = verify_store(opened, lambda key: bar.update(1))
    if as_json:
        faults = {key: error.message() for key, error in found.faults.items()}
        print_json({"sound": list(found.sound), "damaged": faults})
    else:
        for error in found.faults.values():
            click.echo(readable(f"damaged  {error.message(show_path=show_paths)}"))
        click.echo(f"{len(found.sound)} cases sound, {len(found.faults)} damaged")
    if found.faults:
        raise SystemExit(FAILED)
