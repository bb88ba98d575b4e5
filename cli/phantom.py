"""`kerasbalance phantom`: synthetic CT to try everything with."""

from pathlib import Path

import click

from kerasbalance.cli.common import CONTEXT, progress, reports_errors


@click.command(
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance phantom --out phantom --cases 20 --seed 1",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="New or empty folder; an unfinished one is completed.",
)
@click.option("--cases", type=click.IntRange(min=1), default=20, show_default=True, help="How many cases.")
@click.option("--size", type=click.IntRange(min=16), default=128, show_default=True, help="Rows and columns.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes."
)
@click.option(
    "--hard-share",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Share of hard cases (lesions, fat, odd shape, noise, streaks, low contrast); an exact count.",
)
@click.option(
    "--wrong-masks",
    "wrong_share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of the slices with liver whose masks are wrong on purpose; wrong-masks.csv lists them.",
)
@reports_errors
def phantom(
    out: Path, cases: int, size: int, seed: int, hard_share: float, wrong_share: float, show_paths: bool
) -> None:
    """Write synthetic abdominal CT as DICOM series with masks of liver, spleen and kidneys.

    Masks come as DICOM SEG, a fifth as RTSTRUCT and a fifth as NIfTI. cases.csv in the folder is the manifest
    for `kerasbalance ingest`, phantom.csv says which case is hard and why.
    """
    from kerasbalance.data.phantom import write_phantom

    with progress(cases, "Writing cases") as bar:
        plan = write_phantom(
            out, cases, size, seed, hard_share=hard_share, wrong_share=wrong_share, progress=bar.update
        )
    hard = sum(bool(planned.kinds) for planned in plan)
    click.echo(f"{cases} cases, {hard} of them hard, in {out} (manifest {out / 'cases.csv'})")
