"""`kerasbalance merge`: one store of several that were made on several machines."""

from dataclasses import asdict
from pathlib import Path

import click

from kerasbalance.cli.common import (
    CONTEXT,
    PARTLY,
    json_option,
    print_json,
    progress,
    readable,
    reports_errors,
)


@click.command(
    context_settings=CONTEXT, epilog="Example:  kerasbalance merge node1/store node2/store --out store"
)
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The store to put the cases into. It may exist.",
)
@json_option
@reports_errors
def merge(stores: tuple[Path, ...], out: Path, as_json: bool, show_paths: bool) -> None:
    """Put the cases of STORES, which were made with the same key file, into one store.

    On one file system the cases' files are linked and take no room; else they are copied. A case that two stores hold
    with different content is reported and left out, the first counts (exit code 3). STORES stay as they are; run the
    same command again after an interruption.
    """
    from kerasbalance.data.store import Store
    from kerasbalance.data.store.merge import merge_stores

    cases = sum(len(Store(store).entries()) for store in stores)
    with progress(cases, "Merging") as bar:
        merged = merge_stores(stores, out, bar.update)
    if as_json:
        plain = asdict(merged) | {"conflicts": [readable(error.message()) for error in merged.conflicts]}
        print_json(plain)
    else:
        click.echo(f"{merged.added} cases added ({merged.linked} linked), {merged.unchanged} already there, "
                   f"{len(merged.conflicts)} left out")  # fmt: skip
        for error in merged.conflicts:
            click.echo(f"left out: {readable(error.message(show_path=show_paths))}", err=True)
    if merged.conflicts:
        raise SystemExit(PARTLY)
