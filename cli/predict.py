"""`kerasbalance predict`: a run's model on new CT, as DICOM SEG or NIfTI."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.backend import backend_option, choose_backend
from kerasbalance.cli.common import CONTEXT, model_option, progress, reports_errors

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.predict import Target


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance predict run ct/ --out liver.dcm")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("ct", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The new file: .dcm for DICOM SEG, .nii or .nii.gz for NIfTI.",
)
@click.option(
    "--series", type=click.IntRange(min=1), help="The number of the CT series, as inspect lists them."
)
@click.option("--allow", default="", metavar="NAMES", help="Relax checks of the CT by name, as in ingest.")
@click.option("--largest-component", is_flag=True, help="Keep only the largest connected part of each organ.")
@click.option(
    "--labelmap", is_flag=True, help="Write the SEG as LABELMAP: far smaller, for readers of 2024 and later."
)
@click.option("--mend", is_flag=True, help="Mint UIDs that the CT's headers lack, instead of refusing a SEG.")
@click.option("--overwrite", is_flag=True, help="Put the file in the place of one that is there.")
@model_option
@backend_option
@reports_errors
def predict(
    run: Path,
    ct: Path,
    out: Path,
    series: int | None,
    allow: str,
    largest_component: bool,
    labelmap: bool,
    mend: bool,
    overwrite: bool,
    model: str | None,
    backend: str | None,
    show_paths: bool,
) -> None:
    """Segment the CT series (folder) or NIfTI file CT with the model of RUN.

    The headers are checked before the model runs. A DICOM SEG refers to the source images and opens over them
    in a viewer; it needs a DICOM series. Not for diagnosis.
    """
    choose_backend(backend)
    from kerasbalance.experiments.runs.predict import open_target, predict_target

    target = open_target(
        run,
        ct,
        out,
        model=model,
        series=series,
        allow=frozenset(filter(None, allow.split(","))),
        mend=mend,
        overwrite=overwrite,
    )
    with progress(target.slices, "Segmenting") as bar:
        found = predict_target(
            target, largest_component=largest_component, labelmap=labelmap, progress=bar.update
        )
    _show(target, found.volumes_ml)
    for note in found.notes:
        click.echo(f"{'WARNING' if note.loud else 'note'}  {note.code}: {note.text}")


def _show(target: "Target", volumes_ml: dict[str, float]) -> None:
    for organ, volume in volumes_ml.items():
        click.echo(f"{organ}: {volume:.1f} ml")
    click.echo(f"written: {target.out.name}")
