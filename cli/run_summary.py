"""`kerasbalance eval RUN`: what a run's model is worth on its test cases."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasbalance.cli.common import print_json, progress, table

if TYPE_CHECKING:
    from kerasbalance.evaluation.summaries import MetricSummary, OrganSummary
    from kerasbalance.experiments.runs.evaluation_files import Evaluation

# The table shows these; eval/cases.csv and eval/summary.json hold all metrics.
_NAMES = {
    "dice": ("case Dice", 4),
    "sensitivity": ("sensitivity", 4),
    "precision": ("precision", 4),
    "hd95_mm": ("HD95 mm", 2),
    "nsd": ("NSD 2 mm", 4),
    "assd_mm": ("ASSD mm", 3),
    "ravd_percent": ("RAVD %", 2),
}


def show_runs(
    paths: Sequence[Path],
    store: Path | None,
    model: str | None,
    *,
    flips: tuple[str, ...],
    keep_largest: tuple[str, ...],
    threshold: float | None,
    no_clean_up: bool,
    csv_file: Path | None,
    slices_csv: Path | None,
    as_json: bool,
) -> None:
    """Evaluate one run, or the mean of several, write the tables, and show the summary."""
    from kerasbalance.data.export.files import check_target
    from kerasbalance.experiments.runs.ensemble import Ensemble
    from kerasbalance.experiments.runs.evaluate import common_test_cases, evaluate_runs
    from kerasbalance.experiments.runs.evaluation_files import plain_summary, write_evaluation
    from kerasbalance.experiments.runs.train import Run

    runs = [Run.open(path, store, model=model) for path in paths]
    organs = runs[0].options.organs
    strangers = [organ for organ in keep_largest if organ not in organs]
    if strangers:
        raise click.UsageError(f"--keep-largest {strangers[0]}: the run segments {', '.join(organs)}")
    targets = [target for target in (csv_file, slices_csv) if target is not None]
    for target in targets:
        check_target(target, overwrite=False)
    point = Ensemble(tuple((run.folder, run.record) for run in runs)).point()
    point = point.changed(threshold, no_clean_up=no_clean_up)
    for run in runs:
        if shortcoming := run.folder.shortcoming(run.options.iterations):
            click.echo(f"WARNING  {shortcoming}", err=True)
    slices = sum(runs[0].store.cases[number].slices for number in common_test_cases(runs))
    with progress(slices, "Segmenting") as bar:
        found = evaluate_runs(runs, flips, point=point, keep_largest=keep_largest, progress=bar.update)
    if len(runs) > 1 or flips != ("none",):
        _write_tables(found, csv_file, slices_csv)
    else:
        write_evaluation(runs[0].folder.eval_folder, found)
    if as_json:
        print_json(plain_summary(found))
        return
    for run in runs:
        if run.record.kept is not None:
            click.echo(run.record.kept.text())
    click.echo(f"predicted: {point.text()}")
    for note in found.notes:
        click.echo(f"WARNING  {note.code}: {note.text}")
    _show(found)


def _write_tables(found: "Evaluation", csv_file: Path | None, slices_csv: Path | None) -> None:
    """Write the tables of an average to the files that were named; no run's folder holds them."""
    from kerasbalance.data.export.files import write_target
    from kerasbalance.experiments.tabular import rows_to_csv

    if csv_file is not None:
        write_target(csv_file, rows_to_csv([case.as_row() for case in found.cases]), overwrite=False)
    if slices_csv is not None:
        write_target(slices_csv, rows_to_csv([asdict(row) for row in found.slices]), overwrite=False)


def _show(found: "Evaluation") -> None:
    _show_summary(found.summary)
    if found.cleaned:
        click.echo("\nwith the largest connected part of the prediction only:")
        _show_summary(found.cleaned)
    click.echo(_grid_words(found))


def _grid_words(found: "Evaluation") -> str:
    if not found.on_store:
        return "judged on the CT's own grid"
    if not found.on_ct:
        return "judged on the store's grid; an ingest into a new store also keeps the reference on the CT's own grid"
    return f"{found.on_ct} cases judged on the CT's own grid, {found.on_store} on the store's"


def _show_summary(organs: "Sequence[OrganSummary]") -> None:
    headers = ["organ", "metric", "mean ± SD", "min", "max", "median", "worst tenth", "cases"]
    rows = [
        _row(organ.organ, name, digits, organ.metrics[key])
        for organ in organs
        for key, (name, digits) in _NAMES.items()
    ]
    click.echo(table(headers, rows))
    for organ in organs:
        click.echo(
            f"{organ.organ}: {organ.cases} test cases, {organ.missed} missed, {organ.invented} invented, "
            f"{organ.absent} without it; false positives on {organ.false_positive_slices} of "
            f"{organ.empty_slices} empty slices"
        )


def _row(organ: str, name: str, digits: int, metric: "MetricSummary") -> list[str]:
    def show(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    cases = f"{metric.count} ({metric.infinite} infinite)" if metric.infinite else str(metric.count)
    spread = f"{show(metric.mean)} ± {show(metric.sd)}"
    return [
        organ,
        name,
        spread,
        *map(show, (metric.minimum, metric.maximum, metric.median, metric.worst_tenth)),
        cases,
    ]
