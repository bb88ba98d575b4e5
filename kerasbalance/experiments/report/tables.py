"""The tables of the report as HTML; every cell is escaped."""

import html
import math
from collections.abc import Iterable, Sequence

from kerasbalance.evaluation.cases import CaseMetrics
from kerasbalance.evaluation.summaries import MetricSummary, OrganSummary
from kerasbalance.experiments.report.contents import Contents
from kerasbalance.experiments.runs.split import describe_split

METRICS = {
    "dice": ("Case Dice", 3, ""),
    "iou": ("IoU", 3, ""),
    "sensitivity": ("Sensitivity", 3, ""),
    "precision": ("Precision", 3, ""),
    "hd95_mm": ("HD95", 1, "mm"),
    "nsd": ("NSD at 2 mm", 3, ""),
    "assd_mm": ("ASSD", 2, "mm"),
    "mssd_mm": ("MSSD", 1, "mm"),
    "ravd_percent": ("RAVD", 1, "%"),
    "volume_similarity": ("Volume similarity", 3, ""),
}
DEFINITIONS = (
    "Dice of whole cases, from the voxels of all their slices. IoU: intersection over union of the same voxels. "
    "Sensitivity: share of the reference that was found. Precision: share of the prediction that is right. HD95: 95th "
    "percentile of the distances from either surface to the other. NSD: share of both surfaces within 2 mm of the "
    "other. ASSD and MSSD: mean and maximum of those distances. RAVD: difference of the volumes, relative to the "
    "reference. Volume similarity: 1 less the difference of the volumes, relative to their sum. Missed slices: the "
    "reference is not empty, the prediction is; false slices: the other way round.",
)
_HIDDEN_OPTIONS = ("organs",)
SPLIT_NAMES = {
    "B": "B, trained on from the start",
    "A": "A, mined for hard slices",
    "validation": "validation",
    "test": "test, never trained on",
}


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a table in a box of its own that scrolls sideways where the screen is narrow.

    Args:
        headers: of the columns.
        rows: cells, plain text; `Bar` cells bring their own HTML.
        text_columns: the first so many columns are text, the others numbers and aligned right.
    """
    heads = "".join(
        f'<th scope="col"{_class(n, text_columns)}>{html.escape(name)}</th>' for n, name in enumerate(headers)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(n, text_columns)}>{_cell(cell)}</td>" for n, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _class(number: int, text_columns: int) -> str:
    return "" if number < text_columns else ' class="number"'


class Bar(str):
    """A number with a bar behind it.

    Args:
        text: the number as it is shown.
        share: length of the bar, 0 to 1.
    """

    share: float

    def __new__(cls, text: str, share: float) -> "Bar":
        """Make the text; `share` is kept beside it."""
        bar = super().__new__(cls, text)
        bar.share = share
        return bar


def _cell(cell: str) -> str:
    text = html.escape(cell)
    if not isinstance(cell, Bar):
        return text
    return f'<span class="bar" style="--share:{100 * min(max(cell.share, 0), 1):.1f}%">{text}</span>'


def number(value: float, digits: int) -> str:
    """Return a number with so many digits, a dash for NaN, a word for infinity."""
    if math.isnan(value):
        return "–"
    return "infinite" if math.isinf(value) else f"{value:.{digits}f}"


def results_table(organ: OrganSummary) -> str:
    """Return one organ's results as the paper prints them, and more."""
    headers = ["", "mean ± SD", "min", "max", "median", "worst tenth", "cases"]
    rows = [_result_row(name, summary) for name, summary in organ.metrics.items()]
    return table(headers, rows)


def _result_row(name: str, summary: MetricSummary) -> list[str]:
    title, digits, unit = METRICS[name]
    mean = f"{number(summary.mean, digits)} ± {number(summary.sd, digits)}"
    values = (summary.minimum, summary.maximum, summary.median, summary.worst_tenth)
    finite = (
        f"{summary.count - summary.infinite} of {summary.count}" if summary.infinite else f"{summary.count}"
    )
    return [f"{title}, {unit}" if unit else title, mean, *(number(v, digits) for v in values), finite]


def results_note(organ: OrganSummary, cleaned: float | None) -> list[str]:
    """Return what belongs to an organ's results but into no column.

    Args:
        organ: the results.
        cleaned: mean Dice when only the largest component is kept, where that was evaluated.
    """
    lines = [
        f"False positives: the prediction is not empty on {organ.false_positive_slices:,} of the "
        f"{organ.empty_slices:,} slices without {organ.organ}. Worst tenth: mean of the worst tenth of the cases, of "
        "one case in up to ten."
    ]
    if cleaned is not None:
        lines.append(
            f"When only the largest connected part of each prediction is kept, the mean Dice is {cleaned:.3f}."
        )
    return lines


def case_table(cases: Sequence[CaseMetrics]) -> str:
    """Return the cases of one organ, the worst first; a case without the organ comes last."""
    headers = ["Case", "Dice", "Sensitivity", "Precision", "HD95, mm", "NSD", "ASSD, mm", "RAVD, %"]
    headers += ["Reference, ml", "Prediction, ml", "Missed slices", "False slices"]
    ordered = sorted(cases, key=lambda case: (case.absent, case.dice, case.case))
    return table(headers, [_case_row(case) for case in ordered])


def _case_row(case: CaseMetrics) -> list[str]:
    return [
        case.case[:8],
        Bar(number(case.dice, 3), 0.0 if case.absent else case.dice),
        number(case.sensitivity, 3),
        number(case.precision, 3),
        number(case.hd95_mm, 1),
        number(case.nsd, 3),
        number(case.assd_mm, 2),
        number(case.ravd_percent, 1),
        number(case.reference_ml, 0),
        number(case.prediction_ml, 0),
        f"{case.missed_slices} of {case.slices - case.empty_slices}",
        f"{case.false_positive_slices} of {case.empty_slices}",
    ]


def split_table(contents: Contents) -> str:
    """Return the parts with cases, patients and slices."""
    rows = [
        [SPLIT_NAMES[part], f"{cases}", f"{patients}", f"{slices:,}", f"{100 * share:.1f} %"]
        for part, cases, patients, slices, share in describe_split(contents.rows)
    ]
    return table(["Part", "Cases", "Patients", "Slices", "With organ"], rows)


def options_table(contents: Contents) -> str:
    """Return everything that the run was told."""
    options = contents.record.options.to_json()
    rows = [
        [name.replace("_", " "), _plain(value)]
        for name, value in options.items()
        if name not in _HIDDEN_OPTIONS
    ]
    return table(["Option", "Value"], rows, text_columns=2)


def versions_table(contents: Contents) -> str:
    """Return what ran it."""
    record = contents.record
    plane = " × ".join(str(side) for side in record.plane)
    low, high = record.pixel_spacing_mm
    rows = [
        ["backend", record.backend],
        ["slices", f"{plane} pixels of {low:.2f} to {high:.2f} mm"],
        ["store digest", record.store_digest[:16]],
        *([name, version] for name, version in record.versions.items()),
    ]
    return table(["", "Version"], rows, text_columns=2)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
