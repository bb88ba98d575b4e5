"""The page of a study: verdict, tables and figures, readable without a network."""

import html
from collections.abc import Sequence
from pathlib import Path

from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.report import figures
from kerasbalance.experiments.report.page import write_figure, write_page
from kerasbalance.experiments.report.tables import table
from kerasbalance.experiments.studies import tables
from kerasbalance.experiments.studies.curve import THRESHOLDS
from kerasbalance.experiments.studies.differences import Compared, Difference
from kerasbalance.experiments.studies.measures import MEASURES
from kerasbalance.experiments.studies.options import StudyRecord
from kerasbalance.experiments.studies.scores import GroupResults, mean_curve
from kerasbalance.experiments.studies.verdict import CAUTION, headline, legend, sentences
from kerasbalance.experiments.tabular import to_json


def write_study(folder: Path, record: StudyRecord, compared: Compared) -> Path:
    """Write the tables (CSV, JSON, Markdown) of a study, and where matplotlib is there `study.html` and `figures/`.

    Args:
        folder: the study's.
        record: the study.
        compared: what is finished, with its comparisons.

    Returns:
        The page, or `study.md` without matplotlib.
    """
    for name, content in tables.csv_files(compared).items():
        replace_file(folder / name, content)
    replace_file(folder / "results.json", to_json(tables.plain(compared)))
    replace_file(folder / "study.md", tables.markdown(record, compared).encode())
    if not figures.can_draw():
        return folder / "study.md"
    write_page(folder / "study.html", "kerasbalance study", _body(folder, record, compared))
    return folder / "study.html"


def _body(folder: Path, record: StudyRecord, compared: Compared) -> str:
    base = record.options.base
    lead = (
        f"{len(record.options.arms)} ways to train, {record.options.seeds} seeds, {base.iterations:,} iterations each: "
        "the same number of steps and slices for all, the same test cases, and one common training up to the moment at "
        "which ways part."
    )
    head = (
        '<p class="eyebrow">kerasbalance study</p><h1>Does mining help on these data?</h1>'
        f'<p class="lead">{html.escape(lead)}</p>'
    )
    verdicts = "".join(
        f"<li><b>{html.escape(group.organ)}, {html.escape(group.model)}.</b> {html.escape(headline(differences))}</li>"
        for group, differences in compared
    )
    head += f'<div class="cautions" role="note"><ul>{verdicts}</ul></div>'
    head += f'<p class="muted">{tables.counted(compared)} {html.escape(CAUTION)}</p>'
    sections = "".join(
        f"\n<section><h2>{html.escape(f'{group.organ}, {group.model}')}</h2>"
        f"{_section(folder, number, group, differences)}</section>"
        for number, (group, differences) in enumerate(compared)
    )
    return head + sections + f"\n<section><h2>What was run</h2>{_settings(record)}</section>"


def _section(folder: Path, number: int, group: GroupResults, differences: Sequence[Difference]) -> str:
    hard = (
        f"Hard slices: the {group.hard.sum()} test slices on which all runs together did worst. False positives: "
        "share of the slices without the organ on which something was predicted. SD between cases; all numbers are "
        "means over the seeds."
    )
    words = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences(group, differences)[1:])
    arms = "".join(f"<li>{html.escape(line)}</li>" for line in legend(group))
    place = folder / "figures"
    place.mkdir(exist_ok=True)
    strips = figures.strips([(arm.arm.name, arm.dice(arm.seeds)) for arm in group.arms])
    caption = (
        "Case Dice by way of training: small dots are cases (mean over the seeds), large ones the mean over the cases "
        "of each seed."
    )
    shown = [write_figure(place, f"{number}-cases", strips, caption)]
    curves = [(arm.arm.name, *mean_curve(arm)) for arm in group.arms if all(run.curve for run in arm.runs)]
    if curves:
        caption = (
            "What each way of training misses against what it invents, at thresholds from 0.02 to 0.98; the dot is "
            "0.5. A curve that lies lower and further left is better at every threshold; dots at different places on "
            "one curve differ by the threshold only."
        )
        picture = figures.trade_off(curves, THRESHOLDS.index(0.5))
        shown.append(write_figure(place, f"{number}-missed-and-invented", picture, caption))
    for name in dict.fromkeys(d.measure for d in differences if d.registered):
        measure = MEASURES[name].words
        rows = [(f"{d.arm} – {d.baseline}", 100 * d.found.difference, 100 * d.low, 100 * d.high)
                for d in differences if d.measure == name]  # fmt: skip
        picture = figures.intervals(rows, f"difference of {measure}, Dice points")
        caption = f"Paired differences of {measure}, with intervals that allow for the number of comparisons."
        shown.append(write_figure(place, f"{number}-{name}", picture, caption))
    return (
        f"{table(tables.HEADERS, [tables.cells(row) for row in group.rows])}"
        f'<p class="muted">{html.escape(hard)}</p><ul class="muted">{arms}</ul>'
        f'<div class="charts">{"".join(shown)}</div><h3>In words</h3><ul>{words}</ul><h3>Every comparison</h3>'
        f"{table(tables.PAIR_HEADERS, [tables.pair_cells(d) for d in differences], text_columns=3)}"
    )


def _settings(record: StudyRecord) -> str:
    options = record.options
    hidden = ("organs", "model", "ratio", "strategy", "loss", "seed", "validation_share", "learning_rate")
    rows = [
        [name.replace("_", " "), _plain(value)]
        for name, value in options.base.to_json().items()
        if name not in hidden
    ]
    rows += [[f"learning rate, {model}", f"{rate:g}"] for model, rate in options.rates.items()]
    rows += [
        ["backend", f"{record.backend} on {record.threads} cores"],
        ["store digest", record.store_digest[:16]],
    ]
    rows += [[name, version] for name, version in record.versions.items()]
    return table(["Option", "Value"], rows, text_columns=2)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
