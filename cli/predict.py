"""`kerasbalance predict`: a run's model on new CT, as DICOM SEG, RTSTRUCT or NIfTI."""

import functools
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.backend import backend_option, choose_backend, devices_option, use_devices
from kerasbalance.cli.common import (
    CONTEXT,
    EVERYDAY,
    FAILED,
    PARTLY,
    RUN,
    GroupedCommand,
    GroupedOption,
    averaged_flips_option,
    clean_up_option,
    duration,
    json_option,
    model_option,
    print_json,
    progress,
    readable,
    reports_errors,
    say,
    threshold_option,
)

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.predict import PredictOptions, Predictor
    from kerasbalance.experiments.runs.prediction_table import CaseRow

_PATH = click.Path(path_type=Path)
_FILES, _READING = "The files that are written", "How CT are read"
_option = functools.partial(click.option, cls=GroupedOption)


@click.command(
    cls=GroupedCommand,
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance predict run ct/ --out liver.dcm",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_PATH)
@click.argument("ct", type=_PATH)
@_option(
    "--out",
    group=EVERYDAY,
    required=True,
    type=_PATH,
    help="The new file for one CT (.dcm, .nii or .nii.gz), or the folder for every CT at or below CT.",
)
@_option(
    "--format",
    "form",
    group=EVERYDAY,
    type=click.Choice(["seg", "rtstruct", "nifti"]),
    help="The format of the files. The default is DICOM SEG for a name in .dcm and, in a folder, for DICOM CT; "
    "otherwise NIfTI.",
)
@_option(
    "--preview",
    group=EVERYDAY,
    is_flag=True,
    help="Draw a picture (PNG) beside each file: three planes with contours.",
)
@json_option
@_option("--overwrite", group=_FILES, is_flag=True, help="Replace files that exist.")
@_option(
    "--labelmap",
    group=_FILES,
    is_flag=True,
    help="Write a SEG as LABELMAP. It is far smaller, but only readers of 2024 and later understand it.",
)
@_option(
    "--mend",
    group=_FILES,
    is_flag=True,
    help="Mint the UIDs that a DICOM file needs and the CT's headers lack, instead of refusing the CT.",
)
@_option(
    "--largest-component",
    group=RUN,
    is_flag=True,
    help="Keep only the largest connected part of each organ, whatever the run chose.",
)
@threshold_option
@clean_up_option
@averaged_flips_option
@model_option
@_option(
    "--series",
    group=_READING,
    type=click.IntRange(min=1),
    help="The number of the CT series in its folder, as inspect lists them.",
)
@_option(
    "--allow",
    group=_READING,
    default="",
    metavar="NAMES",
    help="Relax checks of the CT by name, separated by commas, as in ingest.",
)
@backend_option
@devices_option
@reports_errors
def predict(
    runs: tuple[Path, ...],
    ct: Path,
    out: Path,
    allow: str,
    model: str | None,
    flips: tuple[str, ...],
    threshold: float | None,
    no_clean_up: bool,
    backend: str | None,
    devices: int | str | None,
    as_json: bool,
    show_paths: bool,
    **given: Any,
) -> None:
    """Segment one CT, or every CT of a folder, with the model of RUN, or with the mean of several runs.

    CT is a DICOM series (folder), an image file, or a folder with many of them; --out decides which is meant. For
    many, each file in the folder --out is named by a key that tells nobody who the patient is. The table
    predictions.csv in that folder lists every CT by its number, with volumes, seconds and refusals. A CT that is
    refused does not stop the others (exit code 3). The same command again skips what is there and does the rest.

    The headers are checked before the model runs. A DICOM SEG or RTSTRUCT refers to the source images and opens over
    them in a viewer; it needs a DICOM series. Not for diagnosis.
    """
    choose_backend(backend)
    use_devices(devices)
    from kerasbalance.experiments.runs.ensemble import Ensemble
    from kerasbalance.experiments.runs.predict import PredictOptions, Predictor, is_file_name

    options = PredictOptions(allow=frozenset(filter(None, allow.split(","))), **given)
    if not is_file_name(out) and out.suffix and not out.is_dir():
        raise click.UsageError("--out ends in none of .dcm, .nii and .nii.gz; a folder's name has no ending")
    ensemble = Ensemble.open(runs, model, flips)
    predictor = Predictor(ensemble, threshold=threshold, no_clean_up=no_clean_up)
    if is_file_name(out):
        rows = [_predict_one(predictor, ct, out, options)]
        if not as_json:
            _show(rows[0])
    else:
        rows = _predict_folder(predictor, ct, out, options, as_json, show_paths)
    if as_json:
        print_json({"cases": [_plain(row, show_paths) for row in rows]})
    refused = sum(row.error is not None for row in rows)
    if refused:
        raise SystemExit(FAILED if refused == len(rows) else PARTLY)


def _predict_one(predictor: "Predictor", ct: Path, out: Path, options: "PredictOptions") -> "CaseRow":
    from kerasbalance.experiments.runs.predict import open_target, predict_target
    from kerasbalance.experiments.runs.prediction_table import CaseRow

    target = open_target(ct, out, options)
    with progress(target.slices, "Segmenting") as bar:
        found = predict_target(predictor, target, bar.update)
    return CaseRow(
        1, "written", file=out.name, volumes_ml=found.volumes_ml, slices=target.slices,
        seconds=found.seconds, notes=found.notes, path=ct,
    )  # fmt: skip


def _show(row: "CaseRow") -> None:
    for organ, volume in row.volumes_ml.items():
        click.echo(f"{organ}: {volume:.1f} ml")
    click.echo(f"written: {row.file}")
    for note in row.notes:
        click.echo(f"{'WARNING' if note.loud else 'note'}  {note.code}: {note.text}")


def _predict_folder(
    predictor: "Predictor", ct: Path, out: Path, options: "PredictOptions", as_json: bool, show_paths: bool
) -> "list[CaseRow]":
    from kerasbalance.experiments.runs.predict_folder import open_folder

    job = open_folder(predictor, ct, out, options, show_paths=show_paths)
    rows: list[CaseRow] = []
    with progress(sum(job.slices), f"Segmenting {len(job.cts)} CT") as bar:
        for row in job.run(bar.update):
            rows.append(row)
            if not as_json:
                say(bar, "\n".join(_lines(row, show_paths)))
    if not as_json:
        click.echo(_summary(rows))
    return rows


def _lines(row: "CaseRow", show_paths: bool) -> Iterable[str]:
    place = f"  {readable(str(row.path))}" if show_paths and row.path else ""
    if row.error is not None:
        yield f"{row.number:>4}  refused  {readable(row.error.message(show_path=show_paths))}"
        return
    volumes = ", ".join(f"{organ} {volume:.1f} ml" for organ, volume in row.volumes_ml.items())
    how = "already there" if row.state == "present" else duration(row.seconds)
    yield f"{row.number:>4}  {row.file}  {volumes}  {how}{place}"
    for note in row.notes:
        if note.loud:
            yield f"{row.number:>4}  WARNING  {note.code}: {note.text}"


def _summary(rows: "list[CaseRow]") -> str:
    counts = {state: sum(row.state == state for row in rows) for state in ("written", "present", "refused")}
    return f"{counts['written']} written, {counts['present']} already there, {counts['refused']} refused"


def _plain(row: "CaseRow", show_paths: bool) -> dict[str, Any]:
    return {
        "number": row.number,
        "case": row.case,
        "file": row.file,
        "state": row.state,
        "volumes_ml": {organ: ml if math.isfinite(ml) else None for organ, ml in row.volumes_ml.items()},
        "slices": row.slices,
        "seconds": round(row.seconds, 3),
        "code": row.error.code if row.error else None,
        "message": readable(row.error.message(show_path=show_paths)) if row.error else None,
        "notes": [asdict(note) for note in row.notes],
        **({"path": readable(str(row.path))} if show_paths and row.path else {}),
    }
