"""`kerasbalance inspect`: what is there, and what would be refused; nothing is written."""

import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.common import (
    CONTEXT,
    FAILED,
    GroupedCommand,
    json_option,
    print_json,
    progress,
    readable,
    reports_errors,
    table,
)
from kerasbalance.cli.sources import (
    case_options,
    layout_line,
    outcome_json,
    outcome_messages,
    outcome_table,
    problem_json,
    show_notes,
)

if TYPE_CHECKING:
    from kerasbalance.data.ingest.case import CaseOptions
    from kerasbalance.data.ingest.ingest import Outcome
    from kerasbalance.data.ingest.layouts import Layout
    from kerasbalance.data.ingest.survey import SeriesRow, Survey

LISTED = 20
"""Rows and lines of one kind that are printed."""


@click.command(cls=GroupedCommand, context_settings=CONTEXT, epilog="Example:  kerasbalance inspect data/")
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@json_option
@reports_errors
@case_options
def inspect(
    source: Path | None,
    find_layout: "Callable[[], Layout]",
    options: "CaseOptions",
    jobs: int,
    as_json: bool,
    show_paths: bool,
) -> None:
    """List the CT series, masks and problems of SRC, without writing anything.

    The command takes what ingest takes and reads the cases as ingest does. It exits with 1 if anything would be
    refused.
    """
    survey = _survey(source, options)
    layout = _recognised(find_layout, survey)
    outcomes = _examine(layout, options, jobs)
    if as_json:
        print_json(_plain(survey, layout, outcomes, show_paths))
    else:
        _show(survey, layout, outcomes, show_paths)
    if _has_problems(survey, layout) or any(outcome.error is not None for outcome in outcomes):
        raise SystemExit(FAILED)


def _has_problems(survey: "Survey | None", layout: "Layout | None") -> bool:
    if layout is not None and layout.problems:
        return True
    if survey is None:
        return False
    nothing = layout is None and not survey.series and not survey.images
    refused = any(row.problems for row in survey.series) or any(row.problem for row in survey.images)
    return nothing or refused or bool(survey.errors)


def _recognised(find_layout: "Callable[[], Layout]", survey: "Survey | None") -> "Layout | None":
    """Return the layout; None where there are images but no CT with a mask."""
    from kerasbalance.data.errors import DataError

    try:
        return find_layout()
    except DataError as error:
        if error.code != "UNKNOWN_LAYOUT" or survey is None or not _found(survey):
            raise
        return None


def _found(survey: "Survey") -> bool:
    return bool(survey.series or survey.errors or survey.others or survey.images)


def _survey(source: Path | None, options: "CaseOptions") -> "Survey | None":
    from kerasbalance.data.ingest.survey import survey_folder

    return survey_folder(source, options.allow) if source is not None and source.exists() else None


def _examine(layout: "Layout | None", options: "CaseOptions", jobs: int) -> "list[Outcome]":
    from kerasbalance.data.ingest.ingest import examine
    from kerasbalance.data.store.keys import SECRET_BYTES, Pseudonyms

    if layout is None:
        return []
    pseudonyms = Pseudonyms(secrets.token_bytes(SECRET_BYTES), Path())
    with progress(len(layout.requests), "Reading") as bar:
        outcomes = []
        for outcome in examine(layout.requests, pseudonyms, options, jobs=jobs):
            outcomes.append(outcome)
            bar.update(1)
    order = {request.where: number for number, request in enumerate(layout.requests)}
    return sorted(outcomes, key=lambda outcome: order[outcome.request.where])


def _show(
    survey: "Survey | None", layout: "Layout | None", outcomes: "list[Outcome]", show_paths: bool
) -> None:
    if survey is not None and (_found(survey) if layout is None else survey.series or survey.others):
        _show_survey(survey, layout, show_paths)
    if layout is None:
        click.echo(_missing(survey))
        return
    click.echo(f"\n{layout_line(layout)}")
    show_notes(layout.notes)
    click.echo(outcome_table(outcomes, show_paths=show_paths))
    for line in outcome_messages(outcomes, layout.problems, show_paths=show_paths):
        click.echo(line)


def _missing(survey: "Survey | None") -> str:
    if survey is not None and not survey.series and not survey.images:
        return "no CT found: name the folder of a CT series"
    return "no masks found: ingest needs --mask, --manifest or a known layout"


def _show_survey(survey: "Survey", layout: "Layout | None", show_paths: bool) -> None:
    masks = [mask.path for request in (layout.requests if layout else ()) for mask in request.masks]
    rows: list[list[object]] = [
        [
            row.number, row.images, f"{row.rows} x {row.columns}",
            " x ".join(f"{value:g}" for value in row.spacing_mm), _judged(row, masks),
            *([readable(str(row.folder))] if show_paths else []),
        ]
        for row in survey.series
    ]  # fmt: skip
    if rows:
        headers = ["series", "images", "size", "spacing mm", "problems", *(["folder"] if show_paths else [])]
        click.echo(table(headers, rows[:LISTED]))
        _tell_more(len(rows), "series")
    if layout is None:
        _show_images(survey, show_paths)
    for modality, count in survey.others.items():
        what = " (masks)" if modality in ("SEG", "RTSTRUCT") else ""
        click.echo(f"also {count} DICOM files of modality {readable(modality)}{what}")
    show_notes(survey.notes)
    notes = [f"note     series {row.number}: {n.code}: {n.text}" for row in survey.series for n in row.notes]
    problems = [problem for row in survey.series for problem in row.problems]
    errors = dict.fromkeys([*problems, *survey.errors])
    refused = [f"refused  {readable(error.message(show_path=show_paths))}" for error in errors]
    for lines in (notes, refused):
        for line in lines[:LISTED]:
            click.echo(line)
        _tell_more(len(lines), "lines of this kind; --json lists them all")


def _show_images(survey: "Survey", show_paths: bool) -> None:
    rows = [
        [
            readable(str(row.path)) if show_paths else number, row.slices, f"{row.rows} x {row.columns}",
            " x ".join(f"{value:g}" for value in row.spacing_mm),
            row.problem.code if row.problem else "ok",
        ]
        for number, row in enumerate(survey.images, 1)
    ]  # fmt: skip
    if rows:
        click.echo(table(["image file", "slices", "size", "spacing mm", "problems"], rows[:LISTED]))
        _tell_more(len(rows), "image files")
    for number, row in enumerate(survey.images[:LISTED], 1):
        show_notes([replace(note, text=f"image file {number}: {note.text}") for note in row.notes])
        if row.problem:
            click.echo(f"refused  {readable(row.problem.message(show_path=show_paths))}")


def _judged(row: "SeriesRow", masks: "list[Path]") -> str:
    if any(row.folder.is_relative_to(mask) for mask in masks):
        return "a mask"
    return ", ".join(problem.code for problem in row.problems) or "ok"


def _tell_more(count: int, what: str) -> None:
    if count > LISTED:
        click.echo(f"and {count - LISTED} more {what}")


def _plain(
    survey: "Survey | None", layout: "Layout | None", outcomes: "list[Outcome]", show_paths: bool
) -> dict[str, Any]:
    plain: dict[str, Any] = {"layout": layout.name if layout else None}
    plain["cases"] = [outcome_json(outcome, show_paths=show_paths) for outcome in outcomes]
    plain["unmatched"] = [problem_json(p, show_paths=show_paths) for p in (layout.problems if layout else ())]
    if survey is not None:
        plain["series"] = [
            {
                "number": row.number,
                "images": row.images,
                "rows": row.rows,
                "columns": row.columns,
                "spacing_mm": row.spacing_mm,
                "notes": [asdict(note) for note in row.notes],
                "problems": [problem.message(show_path=show_paths) for problem in row.problems],
                **({"folder": readable(str(row.folder))} if show_paths else {}),
            }
            for row in survey.series
        ]
        plain["images"] = [
            {
                "slices": row.slices,
                "rows": row.rows,
                "columns": row.columns,
                "spacing_mm": row.spacing_mm,
                "notes": [asdict(note) for note in row.notes],
                "problem": row.problem.message(show_path=show_paths) if row.problem else None,
            }
            for row in survey.images
        ]
        plain["other_dicom"] = survey.others
        plain["notes"] = [asdict(note) for note in survey.notes]
        plain["errors"] = [error.message(show_path=show_paths) for error in survey.errors]
    return plain
