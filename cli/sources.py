"""The options with which `inspect` and `ingest` name cases, and how they show what became of them."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.common import MACHINE, Command, GroupedOption, readable, table

if TYPE_CHECKING:
    from kerasbalance.data.errors import DataError, Note
    from kerasbalance.data.ingest.case import CaseOptions
    from kerasbalance.data.ingest.ingest import Outcome
    from kerasbalance.data.ingest.layouts import Layout

SHOWN = 5
"""Remarks of one code that are printed one by one."""

_PATH = click.Path(path_type=Path)

_CASE, _SHAPE, _DOUBT = "One case", "The size of the slices", "Doubtful input"
_option = functools.partial(click.option, cls=GroupedOption)

_OPTIONS = (
    click.option("--mask", "masks", multiple=True, type=_PATH, help="The mask of the case whose CT is SRC: a file or a "
            "folder. The option may be repeated: several masks of one CT become one case."),
    click.option("--label", "labels", multiple=True, metavar="ORGAN=VALUES", help="The values or names in the mask "
            "that mean an organ, such as liver=5,6 or liver=ROI name. The name of the organ is enough if the mask has "
            "one value beside 0, or if a segment or ROI has that name. The option may be repeated."),
    click.option("--manifest", type=_PATH, help="A CSV file that lists the cases. It takes the place of SRC. Its "
            "columns are ct and mask and, if needed, case, patient, labels and grid."),
    _option("--patient", group=_CASE, default="", help="The patient of the case. By default, it is the PatientID of "
            "the CT."),
    _option("--series", group=_CASE, type=click.IntRange(min=1), help="The number of the CT series in the folder SRC, "
            "as inspect lists them, if there are several."),
    _option("--png-order", group=_CASE, type=click.Choice(["z-ascending", "z-descending", "file"]), help="The order of "
            "PNG masks: by the height of their slices, or as the names of the CT's files are ordered."),
    _option("--grid", group=_CASE, metavar="AXES:MMxMMxMM", help="The grid of an image file whose header is a "
            "placeholder: the side of the body towards which each axis grows, and the voxel sizes in mm, the fastest "
            "axis first. LPS:0.8x0.8x2.5 is an example."),
    _option("--spacing", "spacing_mm", group=_SHAPE, type=float, metavar="MM", help="Resample each slice to pixels of "
            "MM x MM millimetres, so that all cases have one pixel size. `info` suggests a value."),
    _option("--crop", group=_SHAPE, type=int, metavar="N", help="Cut the central N x N pixels out of each slice, or "
            "pad it to so many. This comes after --spacing."),
    _option("--resize", group=_SHAPE, type=int, metavar="N", help="Resample each slice to N x N pixels. This comes "
            "after --crop."),
    _option("--allow", group=_DOUBT, default="", metavar="NAMES", help="The checks to relax, by name and separated by "
            "commas: gap, tilt, nonaxial, single, phases, no-air, burned-in, frame-of-reference. The case records it."),
    _option("--resample-mask", group=_DOUBT, is_flag=True, help="Map a mask that has another grid than its CT by "
            "position: each voxel takes the nearest value."),
    _option("--jobs", group=MACHINE, type=click.IntRange(min=1), help="The number of cases that are read at a time. By "
            "default, it is the number of usable cores."),
)  # fmt: skip


def case_options(command: Command) -> Command:
    """Add the options that name cases; the command gets `find_layout`, `options` and `jobs` instead of them."""

    @functools.wraps(command)
    def wrapped(source: Path | None, **given: Any) -> Any:
        from kerasbalance.data.ingest.archive import unpacked
        from kerasbalance.data.ingest.isolate import usable_cores

        jobs = given.pop("jobs") or usable_cores()
        options = _case_options(given)
        with contextlib.ExitStack() as folders:  # removed when the command ends
            archive = source
            source = folders.enter_context(unpacked(source)) if source else None
            given["masks"] = tuple(folders.enter_context(unpacked(mask)) for mask in given["masks"])
            find_layout = _named_after(_layout_finder(source, given), source, archive)
            return command(source, find_layout=find_layout, options=options, jobs=jobs, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _case_options(given: dict[str, Any]) -> "CaseOptions":
    from kerasbalance.data.ingest.case import CaseOptions

    return CaseOptions(
        allow=frozenset(name.strip() for name in given.pop("allow").split(",") if name.strip()),
        resample_mask=given.pop("resample_mask"),
        crop=given.pop("crop"),
        resize=given.pop("resize"),
        spacing_mm=given.pop("spacing_mm"),
        keep_uids=given.pop("keep_uids", False),
    )


def _layout_finder(source: Path | None, given: dict[str, Any]) -> "Callable[[], Layout]":
    from kerasbalance.data.ingest.case import CaseRequest
    from kerasbalance.data.ingest.layouts import Layout, find_cases, read_manifest
    from kerasbalance.data.labels import check_rules, parse_rule
    from kerasbalance.data.masks.read import MaskSource
    from kerasbalance.data.volume.stated_grid import parse_grid

    masks, manifest = given.pop("masks"), given.pop("manifest")
    one_case = {name: given.pop(name) for name in ("series", "patient", "png_order", "grid")}
    one_case["grid"] = parse_grid(one_case["grid"]) if one_case["grid"] else None
    rules = tuple(parse_rule(text) for text in given.pop("labels"))
    check_rules(rules)
    if not masks and any(one_case.values()):
        raise click.UsageError(
            "--series, --patient, --png-order and --grid describe one case: they need --mask"
        )
    if manifest is not None:
        if source is not None or masks:
            raise click.UsageError("--manifest names the cases: leave out SRC and --mask")
        return lambda: read_manifest(manifest, rules)
    if source is None:
        raise click.UsageError("name SRC or --manifest")
    if masks:
        more = tuple(MaskSource(mask, rules, one_case["png_order"]) for mask in masks[1:])
        return lambda: Layout("one case", (CaseRequest(source, masks[0], rules, more=more, **one_case),))
    return lambda: find_cases(source, rules)


def _named_after(
    find_layout: "Callable[[], Layout]", source: Path | None, archive: Path | None
) -> "Callable[[], Layout]":
    """Return a finder whose cases name the archive that they were unpacked from."""
    from kerasbalance.data.ingest.archive import named_after

    if source is None or archive is None or source == archive:
        return find_layout

    def find() -> "Layout":
        layout = find_layout()
        return replace(layout, requests=named_after(layout.requests, source, archive))

    return find


def layout_line(layout: "Layout") -> str:
    """Return the name of a layout with the number of its cases."""
    count = len(layout.requests)
    one = "one case"
    return one if layout.name == one else f"{layout.name}: {count} {'case' if count == 1 else 'cases'}"


def outcome_table(outcomes: Sequence["Outcome"], *, show_paths: bool) -> str:
    """Lay out what became of each case."""
    headers = ["case", "status", "slices", "size", "positive slices", "remarks"]
    rows: list[list[object]] = []
    for outcome in outcomes:
        facts, request = outcome.facts, outcome.request
        name = (
            readable(request.origin or str(request.ct)) if show_paths else request.where.removeprefix("case ")
        )
        if facts is None:
            rows.append([name, outcome.status, "", "", "", outcome.error.code if outcome.error else ""])
            continue
        organs = ", ".join(f"{o} {n}" for o, n in zip(facts.organs, facts.positive_slices, strict=True))
        remarks = ", ".join(dict.fromkeys(note.code for note in facts.notes))
        rows.append([name, outcome.status, facts.slices, f"{facts.rows} x {facts.columns}", organs, remarks])
    return table(headers, rows)


def outcome_messages(
    outcomes: Sequence["Outcome"], problems: Sequence["DataError"] = (), *, show_paths: bool
) -> list[str]:
    """Return a line for each refusal and each remark; equal remarks of several cases share a line."""
    from kerasbalance.data.ingest.ingest import one_patient

    errors = [*problems, *(outcome.error for outcome in outcomes if outcome.error is not None)]
    lines = [f"refused  {readable(error.message(show_path=show_paths))}" for error in errors]
    cases: dict[Note, list[str]] = {}
    for outcome in outcomes:
        for note in outcome.facts.notes if outcome.facts else ():
            cases.setdefault(note, []).append(outcome.request.where)
    shown: Counter[str] = Counter()
    for note, where in sorted(cases.items(), key=lambda item: not item[0].loud):
        shown[note.code] += 1
        if note.loud or shown[note.code] <= SHOWN:
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            lines.append(f"{_word(note)}  {where[0]}{more}: {note.code}: {note.text}")
        elif shown[note.code] == SHOWN + 1:
            count = sum(other.code == note.code and not other.loud for other in cases) - SHOWN
            lines.append(f"note     {note.code}: {count} similar remarks more; --json lists them")
    facts = [outcome.facts for outcome in outcomes if outcome.facts]
    return [*lines, *(f"{_word(note)}  {note.code}: {note.text}" for note in one_patient(facts))]


def _word(note: "Note") -> str:
    return "WARNING" if note.loud else "note   "


def show_notes(notes: Sequence["Note"]) -> None:
    """Print remarks that concern no case of their own."""
    for note in notes:
        click.echo(f"{_word(note)}  {note.code}: {note.text}")


def outcome_json(outcome: "Outcome", *, show_paths: bool) -> dict[str, Any]:
    """Return an outcome as plain values."""
    plain: dict[str, Any] = {"case": outcome.request.where, "status": outcome.status}
    if show_paths:
        masks = [readable(str(mask.path)) for mask in outcome.request.masks]
        plain |= {"ct": readable(outcome.request.origin or str(outcome.request.ct)), "masks": masks}
    if outcome.error is not None:
        plain |= problem_json(outcome.error, show_paths=show_paths)
    if outcome.facts is not None:
        plain["facts"] = asdict(outcome.facts)
    return plain


def problem_json(problem: "DataError", *, show_paths: bool) -> dict[str, Any]:
    """Return a refusal as plain values."""
    message = readable(problem.message(show_path=show_paths))
    return {"status": "refused", "error": {"code": problem.code, "message": message}}
