"""`kerasbalance demo`: the main job on synthetic CT, from DICOM to a verified store."""

import sys
import tempfile
from pathlib import Path

import click

from kerasbalance.cli.common import CONTEXT, reports_errors


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance demo --out demo")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Keep everything in this folder."
)
@click.option("--cases", type=click.IntRange(min=2), default=12, show_default=True, help="How many cases.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same data."
)
@reports_errors
def demo(out: Path | None, cases: int, seed: int, show_paths: bool) -> None:
    """Make synthetic CT as DICOM, ingest it, show and verify the store.

    Runs the same commands as you would on your own data and prints each of them.
    """
    if out is not None:
        _run(out, cases, seed)
        return
    with tempfile.TemporaryDirectory(prefix="kerasbalance-demo-") as folder:
        _run(Path(folder), cases, seed)
    click.echo("Done. With --out DIR everything is kept.")


def _run(out: Path, cases: int, seed: int) -> None:
    data, store, key = str(out / "phantom"), str(out / "store"), str(out / "secret.key")
    _call("phantom", "--out", data, "--cases", str(cases), "--size", "64", "--seed", str(seed))
    _call("ingest", data, "--out", store, "--key-file", key)
    _call("info", store)
    _call("verify", store)


def _call(*words: str) -> None:
    from kerasbalance.cli.main import main

    click.secho(f"\n$ kerasbalance {' '.join(words)}", bold=True)
    sys.stdout.flush()
    status = main.main(args=list(words), prog_name="kerasbalance", standalone_mode=False)
    if status:
        raise SystemExit(status)
