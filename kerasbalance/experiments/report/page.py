"""Puts the report together and writes it into the run's folder."""

import html
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.report import figures, hardness, prose, tables
from kerasbalance.experiments.report.cautions import cautions
from kerasbalance.experiments.report.contents import Contents, read_contents
from kerasbalance.experiments.report.gallery import data_uri, gallery_html, gallery_png, pick_hardest
from kerasbalance.experiments.report.style import CSS, SCRIPT
from kerasbalance.experiments.report.surfaces import surface_pair
from kerasbalance.experiments.report.views import case_views, slice_pictures
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.segment import load_segmenter
from kerasbalance.experiments.runs.strategies import STRATEGIES
from kerasbalance.experiments.runs.train import Run

Progress = Callable[[str], None]

PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$css</style>
</head>
<body>
<main>
$body
</main>
<dialog aria-label="enlarged slice"><div></div></dialog>
<script>$script</script>
</body>
</html>
""")


def write_page(path: Path, title: str, body: str) -> None:
    """Write a page of its own style and script, whole or not at all."""
    text = PAGE.substitute(title=html.escape(title), css=CSS, body=body, script=SCRIPT)
    replace_file(path, text.encode())


def write_figure(folder: Path, name: str, png: bytes, caption: str, kind: str = "chart") -> str:
    """Write a figure's file into a folder that exists and return it as HTML."""
    replace_file(folder / f"{name}.png", png)
    text = html.escape(caption)
    return (f'<figure class="{kind}"><img src="{data_uri(png)}" alt="{text}">'
            f"<figcaption>{text}</figcaption></figure>")  # fmt: skip


def write_report(run: Run, *, progress: Progress = lambda step: None) -> Path:
    """Write `report.html` and `figures/` into a run's folder.

    The page stands alone: no network, no other file. The same run gives the same bytes. It names cases by the
    first eight digits of their keys and holds no path. What the run has not got yet (no mining, no evaluation)
    is left out with a line that says how to get it.

    Args:
        run: the run, opened with its store.
        progress: called with a word or two at the beginning of each step.

    Returns:
        The path of the page.

    Raises:
        DataError: matplotlib is missing or a table of the run is malformed (codes `NO_MATPLOTLIB`, `REPORT`,
            `SLICES`).
    """
    figures.new_figure()
    progress("tables")
    report = _Report(run, read_contents(run.folder), progress)
    path = run.folder.path / "report.html"
    write_page(path, f"kerasbalance: {prose.listed(run.options.organs)}", report.body())
    return path


class _Report:
    """The sections, in order; draws and writes each figure where it is shown."""

    def __init__(self, run: Run, contents: Contents, progress: Progress) -> None:
        self.run, self.contents, self.progress = run, contents, progress
        self.folder = run.folder.path / "figures"
        self.folder.mkdir(exist_ok=True)
        self.segmenter = self._load()

    def _load(self) -> Segmenter | None:
        """Bring back the model; without a sound checkpoint the pictures are left out and the page says so."""
        self.progress("model")
        try:
            return load_segmenter(self.run.folder, self.run.record, self.run.source().source.plane)
        except DataError as error:
            if error.code != "CHECKPOINT":
                raise
            return None

    def body(self) -> str:
        """Return the content of the page."""
        organs = prose.listed(self.run.options.organs)
        sections = (
            ("Results on test cases", self.results),
            ("Training", self.training),
            ("Hard slices", self.mining),
            ("The hardest slices", self.gallery),
            ("Worst and best test case", self.surfaces),
            ("What was run", self.settings),
            ("What this shows, and what not", self.limits),
        )
        head = (
            f'<p class="eyebrow">kerasbalance report</p><h1>{html.escape(organs[:1].upper() + organs[1:])}</h1>'
            f'<p class="lead">{html.escape(prose.summary(self.contents))}</p>{self.tiles()}{self.warnings()}'
        )
        return head + "".join(
            f"\n<section><h2>{title}</h2>{section()}</section>" for title, section in sections
        )

    def tiles(self) -> str:
        """Return the main numbers."""
        tiles = []
        for organ in self.contents.summary:
            dice = organ.metrics["dice"]
            mean = f"{tables.number(dice.mean, 3)} <small>± {tables.number(dice.sd, 3)}</small>"
            tiles.append((mean, f"case Dice of the {organ.organ}, mean ± SD of {dice.count} test cases"))
            tiles.append((tables.number(dice.minimum, 3), f"the worst case of the {organ.organ}"))
        mining = self.contents.mining
        if mining is not None and mining.hard.any():
            kind = STRATEGIES[self.run.options.strategy].kind
            tiles.append((f"{int(mining.hard.sum()):,}", f"{kind} slices of {len(mining):,} candidates"))
        cells = [f'<div class="tile"><b>{b}</b><span>{html.escape(t)}</span></div>' for b, t in tiles]
        return f'<div class="tiles">{"".join(cells)}</div>' if cells else ""

    def warnings(self) -> str:
        """Return what the reader should know before trusting a number."""
        found = cautions(self.contents, self.run.store.cases)
        items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
        return f'<div class="cautions" role="note"><ul>{items}</ul></div>' if found else ""

    def results(self) -> str:
        """Return the tables of the evaluation."""
        if not self.contents.cases:
            return missing("Not evaluated yet.", "kerasbalance eval RUN", "kerasbalance report RUN")
        parts = []
        for organ in self.contents.summary:
            name = html.escape(organ.organ)
            parts.append(f"<h3>{name[:1].upper() + name[1:]}</h3>{tables.results_table(organ)}")
            parts.append(_note(tables.results_note(organ, self.contents.cleaned.get(organ.organ))))
            parts.append(tables.case_table([c for c in self.contents.cases if c.organ == organ.organ]))
        return "".join(parts) + _note(tables.DEFINITIONS)

    def training(self) -> str:
        """Return loss and learning rate by iteration."""
        history, options = self.contents.history, self.run.options
        on = missing("The training has not ended.", "kerasbalance train --resume --out RUN")
        if history is None:
            return on
        mined = options.mine_iterations if options.mining else ()
        steps = np.linspace(0, options.iterations, 201)
        rate = options.learning_rate * (1 - steps / options.iterations) ** options.power
        loss = figures.loss_curve(history["iteration"], history["loss"], history.get("val_loss"), mined)
        caption = "Loss of the training slices, mean of each epoch."
        if mined:
            caption += " A rise after mining is expected: harder slices joined."
        return ("" if self.contents.finished else on) + _charts(
            self.figure("loss", loss, caption),
            *self._validation(mined),
            self.figure(
                "learning-rate", figures.rate_curve(steps, rate, mined), "The learning rate decays to 0."
            ),
        )

    def _validation(self, mined: Sequence[int]) -> list[str]:
        """Return the curve of the validation cases, where there are some."""
        history = self.contents.history
        if history is None or "val_dice" not in history:
            return []
        curve = figures.dice_curve(history["iteration"], history["val_dice"], mined)
        return [
            self.figure("validation", curve, "Mean case Dice of the validation cases, at the best threshold.")
        ]

    def mining(self) -> str:
        """Return the histogram of the scores and who the hard slices are."""
        table = self.contents.mining
        if table is None:
            return self._not_mined()
        perfect = (table.pixels == 0) & (table.score == 1)
        histogram = figures.score_histogram(
            table.score[~perfect], table.hard[~perfect], self.contents.threshold
        )
        caption = (f"Scores of the candidates. Not drawn: {int(perfect.sum()):,} slices that do not show the organ and "
                   "were left empty; their score is 1.")  # fmt: skip
        charts = [self.figure("scores", histogram, caption)]
        if STRATEGIES[self.run.options.strategy].by_score and table.hard.any():
            charts += [
                self.figure(f"hard-by-{name}", figures.share_bars(count(table), title), caption)
                for name, title, count, caption in _GROUPS
            ]
        return f"<p>{html.escape(prose.hard_slices(self.contents))}</p>{_charts(*charts)}"

    def _not_mined(self) -> str:
        if self.run.options.mining:
            return missing("Part A has not been scored yet.", "kerasbalance train --resume --out RUN")
        return missing("This run trained without mining.", "kerasbalance train STORE --out RUN --organ ORGAN")

    def gallery(self) -> str:
        """Return the hardest slices with contours."""
        table = self.contents.mining
        if table is None:
            return self._not_mined()
        if self.segmenter is None:
            return _no_model()
        self.progress("gallery")
        pictures = slice_pictures(self.run, self.segmenter, table, pick_hardest(table))
        if not pictures:
            return missing("Every slice of part A was segmented perfectly; none is hard.")
        window = self.run.options.window_hu
        replace_file(self.folder / "hardest-slices.png", gallery_png(pictures, window))
        return GALLERY_NOTE + gallery_html(pictures, window)

    def surfaces(self) -> str:
        """Return the rendered worst and best test case of each organ."""
        if not self.contents.cases:
            return missing("Not evaluated yet.", "kerasbalance eval RUN", "kerasbalance report RUN")
        if self.segmenter is None:
            return _no_model()
        self.progress("surfaces")
        shown = []
        for view in case_views(self.run, self.segmenter, self.contents):
            metrics = view.metrics
            caption = (f"{metrics.organ}, {view.rank} case {metrics.case[:8]}: Dice {tables.number(metrics.dice, 3)}, "
                       f"HD95 {tables.number(metrics.hd95_mm, 1)} mm")  # fmt: skip
            png = surface_pair(view.reference, view.predicted, view.spacing_mm)
            shown.append(self.figure(f"surface-{view.name}", png, caption, kind="surface"))
        return SURFACE_NOTE + _charts(*shown)

    def settings(self) -> str:
        """Return options, split and versions."""
        contents = self.contents
        return (
            f"<h3>Split by patient</h3>{tables.split_table(contents)}"
            f'<div class="side"><div><h3>Options</h3>{tables.options_table(contents)}</div>'
            f"<div><h3>Data and versions</h3>{tables.versions_table(contents)}</div></div>"
        )

    def limits(self) -> str:
        """Return what one run can and cannot say."""
        return "".join(f"<p>{html.escape(text)}</p>" for text in prose.LIMITS)

    def figure(self, name: str, png: bytes, caption: str, kind: str = "chart") -> str:
        """Write a figure's file and return it as HTML."""
        return write_figure(self.folder, name, png, caption, kind)


GALLERY_NOTE = (
    '<p>Contours: <span class="key reference"></span>reference, <span class="key predicted"></span>prediction of the '
    "final model. The first Dice is the score at the time of mining, the second that of the final model, which has "
    "trained on the hard slices since. Lowest scores first, at most three slices of a case, cut to the region of the "
    "contours.</p>"
    '<p class="muted">Click a slice to see it whole; there a click on the picture hides and shows the contours, and '
    "the arrow keys go on.</p>"
)
SURFACE_NOTE = (
    "<p>Seen from the front, the patient's right on the left side. The prediction is pale where it lies on the surface "
    "of the reference and turns red with the distance from it, full red from 10 mm.</p>"
)
_GROUPS = (
    ("case", "By case", hardness.by_case, "Cases of part A, those with the most hard slices first."),
    ("position", "By position, head to feet", hardness.by_position,
     "Fifths of the organ's extent along the body in each case, and what lies above and below it."),
    ("area", "By area of the organ on the slice", hardness.by_area,
     "Slices without the organ, and quarters of those that show it."),
)  # fmt: skip


def missing(what: str, *commands: str) -> str:
    """Return the line that stands for a section without data, with the commands that bring it."""
    how = ", then ".join(f"<code>{html.escape(command)}</code>" for command in commands)
    return f'<p class="missing">{html.escape(what)}{f" Run {how}." if how else ""}</p>'


def _no_model() -> str:
    return missing(
        "Left out: the run has no sound checkpoint to predict with.", "kerasbalance train --resume --out RUN"
    )


def _charts(*shown: str) -> str:
    return f'<div class="charts">{"".join(shown)}</div>'


def _note(lines: Sequence[str]) -> str:
    return "".join(f'<p class="muted">{html.escape(line)}</p>' for line in lines)
