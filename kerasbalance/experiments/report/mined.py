"""What `mine` writes: the table of slices, the list of suspects, and a page of pictures."""

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.report import figures, tables
from kerasbalance.experiments.report.gallery import (
    COUNT,
    Picture,
    data_uri,
    gallery_html,
    gallery_png,
    pick_hardest,
)
from kerasbalance.experiments.report.page import write_page
from kerasbalance.experiments.report.views import slice_pictures
from kerasbalance.experiments.runs.mine import Mined
from kerasbalance.experiments.runs.suspects import Suspect, suspects_csv
from kerasbalance.experiments.runs.train import Run

LISTED = 100
NOTE = (
    '<p>Contours: <span class="key reference"></span>mask, <span class="key predicted"></span>prediction. Click a '
    "slice to see it whole; there a click on the picture hides and shows the contours, and the arrow keys go on.</p>"
)


def write_mined(out: Path, run: Run, mined: Mined) -> None:
    """Write `slices.csv`, `suspects.csv`, `gallery.html` and `gallery.png` into a folder.

    Args:
        out: made if it is missing; files of those names are replaced.
        run: the run.
        mined: what was found.

    Raises:
        DataError: matplotlib is missing (code `NO_MATPLOTLIB`); the two tables are written even then.
    """
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "slices.csv", mined.table.to_csv())
    replace_file(out / "suspects.csv", suspects_csv(mined.suspects))
    hardest = _pictures(run, mined, pick_hardest(mined.table))
    if hardest:
        replace_file(out / "gallery.png", gallery_png(hardest, run.options.window_hu))
    write_page(out / "gallery.html", "kerasbalance: hard slices", _body(run, mined, hardest))


def _pictures(run: Run, mined: Mined, rows: NDArray[np.int64]) -> list[Picture]:
    pictures = slice_pictures(run, mined.segmenter, mined.table, rows) if len(rows) else ()
    return [replace(picture, score=None) for picture in pictures]


def _body(run: Run, mined: Mined, hardest: Sequence[Picture]) -> str:
    table, window = mined.table, run.options.window_hu
    hard, cases = int(table.hard.sum()), len(np.unique(table.case))
    perfect = (table.pixels == 0) & (table.score == 1)
    chart = data_uri(figures.score_histogram(table.score[~perfect], table.hard[~perfect], mined.threshold))
    lead = (
        f"The run's model scored {len(table):,} slices of {cases} cases; by the run's rule "
        f"({run.options.rule}) {hard:,} of them are hard, with a Dice up to {tables.number(table.threshold, 3)}. Not "
        f"drawn: {int(perfect.sum()):,} slices that do not show the organ and were left empty. Slices count from 1 "
        "here, and from 0 in the CSV files."
    )
    return (
        '<p class="eyebrow">kerasbalance mine</p><h1>Hard slices</h1>'
        f'<p class="lead">{html.escape(lead)}</p><div class="charts"><figure class="chart"><img src="{chart}" '
        'alt="histogram of the scores"></figure></div>'
        f"<section><h2>Suspected label errors</h2>{_suspects(run, mined)}</section>"
        f"<section><h2>The hardest slices</h2>{NOTE}{gallery_html(hardest, window)}</section>"
    )


def _suspects(run: Run, mined: Mined) -> str:
    if not mined.suspects:
        return (
            "<p>None of the hard slices has a mask that disagrees with its neighbours, with the prediction or with "
            "the HU in it.</p>"
        )
    rows = [
        [one.case[:8], f"{one.slice + 1}", one.organ, one.reason, f"{one.score:.2f}", one.text]
        for one in mined.suspects[:LISTED]
    ]
    shown = tables.table(["Case", "Slice", "Organ", "Reason", "Score", "Why"], rows, text_columns=6)
    more = len(mined.suspects) - len(rows)
    rest = f"<p>And {more} more in suspects.csv.</p>" if more > 0 else ""
    return (
        "<p>Hard slices whose mask disagrees with its neighbours or with the tissue in it: a list to look at, not a "
        "verdict. Correct the masks and ingest again, or strike the sound ones from suspects.csv and train with "
        f"<code>--exclude suspects.csv</code>.</p>{NOTE}"
        f"{gallery_html(_suspect_pictures(run, mined), run.options.window_hu)}{shown}{rest}"
    )


def _suspect_pictures(run: Run, mined: Mined) -> list[Picture]:
    """Picture the first suspects, each slice once, with the reason in its caption."""
    first: dict[tuple[str, int], Suspect] = {}
    for one in mined.suspects:
        first.setdefault((one.case, one.slice), one)
    places = {
        place: row
        for row, place in enumerate(zip(mined.table.case.tolist(), mined.table.slice.tolist(), strict=True))
    }
    chosen = list(first.values())[:COUNT]
    rows = np.array([places[one.case, one.slice] for one in chosen], np.int64)
    pictures = _pictures(run, mined, rows)
    return [replace(picture, remark=one.reason) for picture, one in zip(pictures, chosen, strict=True)]
