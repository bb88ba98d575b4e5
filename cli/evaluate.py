"""`kerasbalance eval`: a run on its test cases, or predicted masks against reference masks."""

import functools
import math
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.backend import backend_option, choose_backend, devices_option, use_devices
from kerasbalance.cli.common import (
    CONTEXT,
    EVERYDAY,
    RUN,
    GroupedCommand,
    GroupedOption,
    averaged_flips_option,
    clean_up_option,
    json_option,
    model_option,
    print_json,
    reports_errors,
    stated_options,
    table,
    threshold_option,
)
from kerasbalance.cli.run_summary import show_runs

if TYPE_CHECKING:
    from kerasbalance.evaluation.cases import CaseMetrics
    from kerasbalance.experiments.mask_comparison import CompareOptions, Comparison

_PATH = click.Path(path_type=Path)
_MASKS, _READING = "Two masks", "How masks and CT are read"
_HEADERS = ("organ", "Dice", "sensitivity", "precision", "HD95 mm", "NSD {:g} mm", "ASSD mm", "RAVD %",
            "reference ml", "prediction ml", "FP slices", "missed slices")  # fmt: skip
_OF_A_RUN = ("store", "model", "backend", "devices", "flips", "threshold", "no_clean_up")
_OF_BOTH = ("keep_largest", "as_json", "show_paths", "debug")
_option = functools.partial(click.option, cls=GroupedOption)


@click.command(
    "eval",
    cls=GroupedCommand,
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance eval run",
)
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=_PATH)
@_option(
    "--keep-largest",
    group=EVERYDAY,
    multiple=True,
    metavar="ORGAN",
    help="Evaluate this organ once more with only the largest connected part of the prediction, in a table of its own. "
    "The option may be repeated.",
)
@json_option
@_option("--store", group=RUN, type=_PATH, help="The place of the run's store, if the store was moved.")
@model_option
@threshold_option
@clean_up_option
@averaged_flips_option
@_option(
    "--prediction", group=_MASKS, type=_PATH, help="The mask to judge: a file or a folder of any mask format."
)
@_option("--reference", group=_MASKS, type=_PATH, help="The mask that counts as right: a file or a folder.")
@_option(
    "--ct",
    group=_MASKS,
    type=_PATH,
    help="The CT of both masks, whose grid is used. Without it the grid of the masks is used; RTSTRUCT and PNG have "
    "none, and need the CT.",
)
@_option(
    "--label",
    "labels",
    group=_MASKS,
    multiple=True,
    metavar="ORGAN=VALUES",
    help="The values that mean an organ in both masks, such as liver=5,6 or liver=ROI name. The option may be "
    "repeated.",
)
@_option(
    "--prediction-label",
    "prediction_labels",
    group=_MASKS,
    multiple=True,
    metavar="ORGAN=VALUES",
    help="The values that mean an organ in the prediction, where they differ from those of the reference.",
)
@_option(
    "--tolerance",
    "tolerance_mm",
    group=_MASKS,
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="MM",
    help="The distance up to which the normalised surface Dice (NSD) counts two surfaces as equal.",
)
@_option(
    "--csv",
    "csv_file",
    group=_MASKS,
    type=_PATH,
    help="Write the table of organs to this new file. It holds every metric.",
)
@_option("--slices-csv", group=_MASKS, type=_PATH, help="Write the table of slices to this new file.")
@_option(
    "--series",
    group=_READING,
    type=click.IntRange(min=1),
    help="The number of the CT series in its folder, as inspect lists them.",
)
@_option(
    "--png-order",
    group=_READING,
    type=click.Choice(["z-ascending", "z-descending", "file"]),
    help="The order of PNG masks: by height, or file by file as the CT's names.",
)
@_option(
    "--resample-mask",
    group=_READING,
    is_flag=True,
    help="Map masks of another grid by position, to the nearest voxel, instead of refusing them.",
)
@_option(
    "--allow",
    group=_READING,
    default="",
    metavar="NAMES",
    help="Relax checks by name, separated by commas, as in ingest.",
)
@backend_option
@devices_option
@reports_errors
def evaluate(
    runs: tuple[Path, ...],
    store: Path | None,
    prediction: Path | None,
    reference: Path | None,
    model: str | None,
    backend: str | None,
    devices: int | str | None,
    as_json: bool,
    show_paths: bool,
    **given: Any,
) -> None:
    """Evaluate RUN on its test cases, or a --prediction against a --reference in any two mask formats.

    The tables of a run are written to its folder `eval`. Several runs, or several --flips, are evaluated as one model,
    the mean of their outputs, on the test cases that all runs have in common; --csv and --slices-csv write its tables.
    Two masks need neither a model nor a store.

    Dice counts the voxels of the whole case. Sensitivity is the share of the reference that was found, and precision
    the share of the prediction that is right. HD95 is the larger of the two directed 95th percentiles of the distance
    between the surfaces. NSD is the share of both surfaces that lies within the tolerance of the other. ASSD is the
    mean distance of the surfaces, and RAVD the difference of the volumes relative to the reference, both as in the
    CHAOS challenge. The CSV tables and --json also hold the intersection over union (IoU), the largest distance of the
    surfaces (MSSD) and the volume similarity. An organ that is absent from both masks has no metrics. Where only one
    of them has it, the distances are infinite.
    """
    if runs:
        averaged = len(runs) > 1 or given["flips"] != ("none",)
        tables = ("csv_file", "slices_csv") if averaged else ()
        _refuse("RUN is evaluated on its own store and labels", but=(*_OF_A_RUN, *_OF_BOTH, *tables))
        choose_backend(backend)
        use_devices(devices)
        mine = ("flips", "keep_largest", "threshold", "no_clean_up", "csv_file", "slices_csv")
        show_runs(runs, store, model, as_json=as_json, **{name: given[name] for name in mine})
        return
    if prediction is None or reference is None:
        raise click.UsageError("name a RUN, or both --prediction and --reference")
    masks = [name for name in given if name not in _OF_A_RUN]
    _refuse("two masks need no model and no store", but=(*masks, "prediction", "reference", *_OF_BOTH))
    _compare(prediction, reference, as_json, {name: given[name] for name in masks})


def _refuse(reason: str, *, but: Collection[str]) -> None:
    """Refuse the options on the command line that have no meaning here."""
    stated = stated_options(but=but)
    if stated:
        raise click.UsageError(f"{reason}: leave out {', '.join(stated)}")


def _compare(prediction: Path, reference: Path, as_json: bool, given: dict[str, Any]) -> None:
    from kerasbalance.data.export.files import check_target, write_target
    from kerasbalance.experiments.mask_comparison import compare_masks
    from kerasbalance.experiments.tabular import rows_to_csv

    csv_file, slices_csv = given.pop("csv_file"), given.pop("slices_csv")
    options = _options(given)
    for target in (csv_file, slices_csv):
        if target is not None:
            check_target(target, overwrite=False)
    found = compare_masks(prediction, reference, options)
    if csv_file is not None:
        write_target(csv_file, rows_to_csv(_case_rows(found)), overwrite=False)
    if slices_csv is not None:
        write_target(slices_csv, rows_to_csv([asdict(row) for row in found.slices]), overwrite=False)
    if as_json:
        print_json(_plain(found, options))
    else:
        _show(found, options)


def _options(given: dict[str, Any]) -> "CompareOptions":
    from kerasbalance.data.labels import check_rules, parse_rule
    from kerasbalance.experiments.mask_comparison import CompareOptions

    rules, prediction_rules = (
        tuple(parse_rule(text) for text in given.pop(name)) for name in ("labels", "prediction_labels")
    )
    check_rules(rules)
    check_rules(prediction_rules)
    if given["series"] is not None and given["ct"] is None:
        raise click.UsageError("--series names a CT series: it needs --ct")
    allow = frozenset(name.strip() for name in given.pop("allow").split(",") if name.strip())
    resample = given.pop("resample_mask")
    return CompareOptions(
        rules=rules, prediction_rules=prediction_rules, allow=allow, resample=resample, **given
    )


def _show(found: "Comparison", options: "CompareOptions") -> None:
    headers = [header.format(options.tolerance_mm) for header in _HEADERS]
    click.echo(table(headers, [_row(case) for case in found.cases]))
    if found.cleaned:
        click.echo("\nwith the largest connected part of the prediction only:")
        click.echo(table(headers, [_row(case) for case in found.cleaned]))
    for name, note in found.notes:
        if note.loud:
            click.echo(f"WARNING  {name}: {note.code}: {note.text}")


def _row(case: "CaseMetrics") -> list[str]:
    return [
        case.organ,
        _number(case.dice, 4),
        _number(case.sensitivity, 4),
        _number(case.precision, 4),
        _number(case.hd95_mm, 2),
        _number(case.nsd, 4),
        _number(case.assd_mm, 3),
        _number(case.ravd_percent, 2),
        _number(case.reference_ml, 2),
        _number(case.prediction_ml, 2),
        str(case.false_positive_slices),
        str(case.missed_slices),
    ]


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _case_rows(found: "Comparison") -> list[dict[str, Any]]:
    listed = [("", case) for case in found.cases] + [("largest part", case) for case in found.cleaned]
    return [{"cleaning": cleaning, **case.as_row(), "absent": case.absent} for cleaning, case in listed]


def _plain(found: "Comparison", options: "CompareOptions") -> dict[str, Any]:
    """Return everything as JSON has it: infinite and undefined numbers become null, told apart by the volumes."""
    return {
        "tolerance_mm": options.tolerance_mm,
        "cases": [_finite(row) for row in _case_rows(found)],
        "slices": [asdict(row) for row in found.slices],
        "notes": [{"about": name, **asdict(note)} for name, note in found.notes],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
