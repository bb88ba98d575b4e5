"""`kerasbalance demo`: the main job on synthetic CT, from DICOM to a trained and evaluated model."""

import sys
import tempfile
from pathlib import Path

import click

from kerasbalance.cli.backend import backend_option
from kerasbalance.cli.common import CONTEXT, reports_errors

HONEST = (
    "What this shows: the mechanism, from DICOM to mined slices and test cases, on synthetic CT. What it does not "
    "show: whether mining helps. One run with one seed cannot; that takes the same iterations with and without "
    "mining, random slices as a control, and several seeds: kerasbalance study."
)
_SIZE, _ITERATIONS, _FILTERS = "64", "300", "8"


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance demo --out demo")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Keep everything in this folder."
)
@click.option("--cases", type=click.IntRange(min=8), default=40, show_default=True, help="How many cases.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same result."
)
@backend_option
@reports_errors
def demo(out: Path | None, cases: int, seed: int, backend: str | None, show_paths: bool) -> None:
    """Make synthetic CT as DICOM, ingest it, train with mining, and evaluate on unseen cases.

    Runs the same commands as you would on your own data and prints each of them.
    """
    if out is not None:
        _run(out, cases, seed, backend)
    else:
        with tempfile.TemporaryDirectory(prefix="kerasbalance-demo-") as folder:
            _run(Path(folder), cases, seed, backend)
        click.echo("\nNothing was kept; --out DIR keeps everything.")
    click.echo(f"\n{HONEST}")


def _run(out: Path, cases: int, seed: int, backend: str | None) -> None:
    data, store, key, run = (str(out / name) for name in ("phantom", "store", "secret.key", "run"))
    chosen = ("--backend", backend) if backend else ()
    _call("phantom", "--out", data, "--cases", str(cases), "--size", _SIZE, "--seed", str(seed))
    _call("ingest", data, "--out", store, "--key-file", key)
    _call("info", store)
    _call("verify", store)
    settings = (
        "--organ",
        "liver",
        "--iterations",
        _ITERATIONS,
        "--base-filters",
        _FILTERS,
        "--seed",
        str(seed),
    )
    _call("train", store, "--out", run, *settings, *chosen)
    _call("eval", run, *chosen)
    _call("report", run, *chosen)


def _call(*words: str) -> None:
    click.secho(f"\n$ kerasbalance {' '.join(words)}", bold=True)
    sys.stdout.flush()
    main = click.get_current_context().find_root().command
    status = main.main(args=list(words), prog_name="kerasbalance", standalone_mode=False)
    if status:
        raise SystemExit(status)
