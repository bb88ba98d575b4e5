"""The charts of the report: pure functions from numbers to the bytes of a PNG, the same for the same numbers."""

import importlib.util
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.report.hardness import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
HARD, BASE, LINE, SECOND = "#c2570c", "#a8b1bd", "#334155", "#0f766e"
SERIES = (LINE, HARD, SECOND, "#7c3aed", "#0284c7", "#be185d", "#65a30d")
"""Colours of several lines in one chart."""
DOTS_PER_INCH = 200
SIZE = (5.2, 2.9)
TEXT, SMALL = 9.0, 8.5


def can_draw() -> bool:
    """Say whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_can_draw() -> None:
    """Refuse to begin what ends with a figure.

    Raises:
        DataError: If matplotlib is not installed (code `NO_MATPLOTLIB`).
    """
    if not can_draw():
        raise DataError("NO_MATPLOTLIB", "a Python without matplotlib", "matplotlib, which draws the figures",
                        "pip install 'kerasbalance[report]'")  # fmt: skip


def new_figure(size: tuple[float, float] = SIZE, *, constrained: bool = True) -> "Figure":
    """Return a figure that draws without a screen and touches no global state.

    Raises:
        DataError: matplotlib is not installed (code `NO_MATPLOTLIB`).
    """
    check_can_draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = (
        ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08) if constrained else None
    )  # inches around the axes
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: "Figure") -> bytes:
    """Draw a figure; no version and no time are written into the file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def loss_curve(iteration: Curve, loss: Curve, validation: Curve | None, mined_at: Sequence[int]) -> bytes:
    """Draw the loss by iteration, the validation loss where there is one, and the moments of mining."""
    figure, axes = _chart("iteration", "Dice loss")
    axes.plot(iteration, loss, color=LINE, linewidth=1.4, label="training")
    if validation is not None:
        axes.plot(iteration, validation, color=SECOND, linewidth=1.4, label="validation")
        _legend(axes, "upper right")
    axes.set_ylim(0, None)
    _mark_mining(axes, mined_at)
    return to_png(figure)


def dice_curve(iteration: Curve, dice: Curve, mined_at: Sequence[int]) -> bytes:
    """Draw the mean Dice of the validation cases by iteration, and the moment of mining."""
    figure, axes = _chart("iteration", "mean case Dice")
    axes.plot(iteration, dice, color=SECOND, linewidth=1.4)
    axes.set_ylim(0, 1)
    _mark_mining(axes, mined_at)
    return to_png(figure)


def rate_curve(iteration: Curve, rate: Curve, mined_at: Sequence[int]) -> bytes:
    """Draw the learning rate by iteration."""
    figure, axes = _chart("iteration", "learning rate")
    axes.plot(iteration, rate, color=LINE, linewidth=1.4)
    axes.set_ylim(0, None)
    _mark_mining(axes, mined_at)
    return to_png(figure)


def score_histogram(score: Curve, hard: NDArray[np.bool_], threshold: float) -> bytes:
    """Draw the scores of some candidates, the hard ones in their own colour, with the threshold.

    Args:
        score: float64 `(slices,)`, from 0 to 1.
        hard: bool `(slices,)`.
        threshold: NaN for none.
    """
    figure, axes = _chart("Dice of the slice when it was scored", "slices")
    colors, labels = [HARD, BASE], ["hard", "not hard"]
    groups = [score[hard], score[~hard]]
    axes.hist(groups, bins=np.linspace(0, 1, 41).tolist(), stacked=True, color=colors, label=labels)
    axes.set_xlim(0, 1)
    axes.margins(y=0.1)
    axes.grid(visible=False, axis="x")
    _legend(axes, "upper left" if threshold > 0.5 else "upper right")
    if not math.isnan(threshold):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        side, gap = ("right", -4) if threshold > 0.5 else ("left", 4)
        axes.annotate(f"threshold {threshold:.3f}", (threshold, 0.98), (gap, 0), ha=side, va="top",
                      xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=SMALL)  # fmt: skip
    return to_png(figure)


def share_bars(shares: Sequence[Share], heading: str) -> bytes:
    """Draw for each group its share of the hard slices, and beside it its share of all candidates."""
    figure, axes = _chart("%", "", size=(SIZE[0], max(SIZE[1], 0.8 + 0.25 * len(shares))))
    place = np.arange(len(shares))[::-1]
    hard, candidates = (
        max(1, sum(values)) for values in zip(*((s.hard, s.candidates) for s in shares), strict=True)
    )
    axes.barh(
        place + 0.19, [100 * s.hard / hard for s in shares], 0.36, color=HARD, label="of the hard slices"
    )
    axes.barh(place - 0.19, [100 * s.candidates / candidates for s in shares], 0.36, color=BASE,
              label="of all candidates")  # fmt: skip
    axes.set_yticks(place, [s.name for s in shares])
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_title(heading, fontsize=TEXT, color=INK, loc="left")
    axes.set_xlabel("%", loc="left")
    axes.legend(loc="upper right", bbox_to_anchor=(1, -0.32 / figure.get_figheight()), ncols=2, frameon=False,
                fontsize=SMALL, labelcolor=INK)  # fmt: skip
    return to_png(figure)


def strips(groups: Sequence[tuple[str, Curve]]) -> bytes:
    """Draw scores as strips, one a group: each case, and the mean of each seed.

    Args:
        groups: name and scores `(seeds, cases)`.
    """
    figure, axes = _chart("case Dice", "", size=(SIZE[0], max(SIZE[1], 0.8 + 0.42 * len(groups))))
    place = np.arange(len(groups))[::-1]
    for at, (_, scores) in zip(place.tolist(), groups, strict=True):
        cases, seeds = scores.mean(axis=0), scores.mean(axis=1)
        jitter = 0.28 * np.sin(
            np.arange(len(cases)) * 2.4
        )  # spread, and the same for the same case in every strip
        axes.scatter(cases, at + jitter, s=9, color=BASE, linewidths=0, zorder=2)
        axes.scatter(
            seeds, np.full(len(seeds), at), s=30, color=HARD, edgecolors="white", linewidths=0.6, zorder=3
        )
    axes.set_yticks(place, [name for name, _ in groups])
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.grid(visible=False, axis="y")
    return to_png(figure)


def intervals(rows: Sequence[tuple[str, float, float, float]], label: str) -> bytes:
    """Draw differences with their intervals, and where 0 is.

    Args:
        rows: name, difference, lower and upper end; NaN ends where there is no interval.
        label: of the axis.
    """
    figure, axes = _chart(label, "", size=(SIZE[0], max(SIZE[1], 0.8 + 0.28 * len(rows))))
    place = np.arange(len(rows))[::-1]
    axes.axvline(0, color=INK, linewidth=0.9)
    for at, (_, found, low, high) in zip(place.tolist(), rows, strict=True):
        axes.plot([low, high], [at, at], color=LINE, linewidth=1.6, solid_capstyle="round")
        axes.scatter([found], [at], s=24, color=HARD, zorder=3)
    axes.set_yticks(place, [name for name, *_ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    return to_png(figure)


def trade_off(curves: Sequence[tuple[str, Curve, Curve]], chosen: int) -> bytes:
    """Draw what each way of training misses against what it invents, over the threshold.

    Args:
        curves: name, share of false positives and share of missed slices `(thresholds,)` each.
        chosen: which threshold is marked by a dot.
    """
    figure, axes = _chart(
        "slices with something invented, %", "slices with the organ missed, %", size=(5.2, 3.6)
    )
    for number, (name, invented, missed) in enumerate(curves):
        colour, dash = SERIES[number % len(SERIES)], ("-", "--", ":")[number // len(SERIES) % 3]
        axes.plot(100 * invented, 100 * missed, dash, color=colour, linewidth=1.4, label=name)
        axes.scatter(100 * invented[chosen], 100 * missed[chosen], s=26, color=colour, zorder=3)
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    _legend(axes, "upper right")
    return to_png(figure)


def _chart(x_label: str, y_label: str, size: tuple[float, float] = SIZE) -> "tuple[Figure, Axes]":
    """Return empty axes in the page's style; set here, so that no global setting is touched."""
    figure = new_figure(size)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=MUTED, linewidth=0.7)
    axes.tick_params(labelsize=TEXT, color=MUTED, labelcolor=INK)
    axes.set_xlabel(x_label, fontsize=TEXT, color=INK)
    axes.set_ylabel(y_label, fontsize=TEXT, color=INK)
    return figure, axes


def _legend(axes: "Axes", place: Literal["upper left", "upper right"]) -> None:
    axes.legend(loc=place, frameon=False, fontsize=SMALL, labelcolor=INK)


def _mark_mining(axes: "Axes", iterations: Sequence[int]) -> None:
    if not iterations:
        return
    for iteration in iterations:
        axes.axvline(iteration, color=HARD, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("mining", (iterations[0], 0.97), (4, 0), xycoords=("data", "axes fraction"), va="top",
                  textcoords="offset points", color=HARD, fontsize=SMALL)  # fmt: skip
