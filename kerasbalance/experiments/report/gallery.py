"""The hardest slices with contours: reference blue, prediction red, as vectors over the CT slice."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from kerasbalance.experiments.report.figures import new_figure, to_png
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.mining.counts import dice_from_counts

REFERENCE, PREDICTION = "#3b9dff", "#ff3b30"
COUNT, PER_CASE = 24, 3
COLUMNS = 6


@dataclass(frozen=True, eq=False)
class Picture:
    """One slice of the gallery.

    Args:
        case: the case's key.
        slice: its place in the case, from 0.
        slices: slices of the case.
        score: Dice when the slice was mined; None where that is the same model's.
        hu: int16 `(rows, columns)`.
        reference: uint8, same shape; 0 background, i + 1 for the i-th organ.
        predicted: uint8, same shape.
        remark: a word for the caption.
    """

    case: str
    slice: int
    slices: int
    score: float | None
    hu: NDArray[np.int16]
    reference: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    remark: str = ""

    @property
    def dice(self) -> float:
        """Dice of `predicted`, the worst organ's; 1 for an empty slice left empty."""
        return float(label_dice(self.predicted, self.reference).min())

    @property
    def region(self) -> tuple[int, int, int]:
        """Top, left and side of the square to look at: around the contours, half of the slice or more."""
        marked = np.argwhere((self.reference > 0) | (self.predicted > 0))
        shape = np.array(self.hu.shape)
        if not len(marked):
            return 0, 0, int(shape.max())
        low, high = marked.min(axis=0), marked.max(axis=0) + 1
        side = min(max(int(shape.max()) // 2, int(1.5 * (high - low).max())), int(shape.max()))
        top, left = np.clip((low + high - side) // 2, 0, np.maximum(shape - side, 0)).tolist()
        return top, left, side


def label_dice(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Dice of every label that occurs; of none at all `[1.0]`."""
    labels = np.setdiff1d(np.union1d(first, second), 0)
    pairs = [(first == label, second == label) for label in labels]
    counts = [[int(np.count_nonzero(mask)) for mask in (a & b, a, b)] for a, b in pairs]
    return dice_from_counts(np.array(counts or [[0, 0, 0]], np.int64))


def pick_hardest(table: SliceTable, count: int = COUNT, per_case: int = PER_CASE) -> NDArray[np.int64]:
    """Return the rows of the slices to show: the lowest scores, of equal ones those that were chosen first.

    Args:
        table: the candidates.
        count: at most so many.
        per_case: at most so many of one case, so that one bad case does not fill the gallery.

    Returns:
        int64 rows of the table, of equal slices in its order; slices with score 1 are never among them.
    """
    chosen: list[int] = []
    taken: dict[str, int] = {}
    for row in np.lexsort((~table.hard, table.score)).tolist():
        case = str(table.case[row])
        if len(chosen) == count or table.score[row] >= 1:
            break
        if taken.get(case, 0) < per_case:
            chosen.append(row)
            taken[case] = taken.get(case, 0) + 1
    return np.array(chosen, np.int64)


def gallery_html(pictures: Sequence[Picture], window_hu: tuple[float, float]) -> str:
    """Return one button for each slice, with its picture and caption; the page's script enlarges it."""
    cells = [
        f'<button type="button" class="slice">{_svg(picture, window_hu)}'
        f"<span><b>{html.escape(picture.case[:8])}</b> {picture.slice + 1}/{picture.slices}<br>"
        f"Dice {_scores(picture)}{_remark(picture)}</span></button>"
        for picture in pictures
    ]
    return f'<div class="gallery">{"".join(cells)}</div>'


def _scores(picture: Picture) -> str:
    return f"{picture.dice:.3f}" if picture.score is None else f"{picture.score:.3f} → {picture.dice:.3f}"


def _remark(picture: Picture) -> str:
    return f"<br><i>{html.escape(picture.remark)}</i>" if picture.remark else ""


def _svg(picture: Picture, window_hu: tuple[float, float]) -> str:
    rows, columns = picture.hu.shape
    top, left, side = picture.region
    label = f"CT slice {picture.slice + 1} of case {html.escape(picture.case[:8])} with contours"
    paths = "".join(
        f'<path class="{name}" d="{_outline(mask)}"/>'
        for name, mask in (("reference", picture.reference), ("predicted", picture.predicted))
    )
    return (
        f'<svg viewBox="{left} {top} {side} {side}" data-whole="0 0 {columns} {rows}" role="img" aria-label="{label}">'
        f'<image width="{columns}" height="{rows}" href="{data_uri(grey_png(picture.hu, window_hu))}"/>'
        f"{paths}</svg>"
    )


def _outline(labels: NDArray[np.uint8]) -> str:
    """Return the contours of all labels as an SVG path; pixel centres lie at half coordinates."""
    parts = []
    for label in np.unique(labels[labels > 0]).tolist():
        for contour in outlines(labels == label):
            steps = " ".join(f"{x + 0.5:g} {y + 0.5:g}" for y, x in contour.tolist())
            parts.append(f"M{steps}Z")
    return "".join(parts)


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return closed contours `(points, 2)` in (row, column), midway between inner and outer pixels."""
    return [contour[:-1] - 1 for contour in find_contours(np.pad(mask, 1).astype(float), 0.5)]


def grey_png(hu: NDArray[np.int16], window_hu: tuple[float, float]) -> bytes:
    """Return a slice as an 8-bit PNG, black at the lower end of the window and white at the upper."""
    low, high = window_hu
    grey = np.clip((hu.astype(np.float64) - low) / (high - low), 0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray(np.rint(grey).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that needs no network."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def gallery_png(pictures: Sequence[Picture], window_hu: tuple[float, float]) -> bytes:
    """Draw the gallery as one picture for slides and papers."""
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = new_figure((1.6 * columns, 1.85 * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in axes:
        place.axis("off")
    for place, picture in zip(axes, pictures, strict=False):
        place.imshow(picture.hu, "gray", vmin=window_hu[0], vmax=window_hu[1], interpolation="bicubic")
        for labels, color in ((picture.reference, REFERENCE), (picture.predicted, PREDICTION)):
            for label in np.unique(labels[labels > 0]).tolist():
                for contour in outlines(labels == label):
                    place.fill(contour[:, 1], contour[:, 0], edgecolor=color, fill=False, linewidth=0.9)
        name = f"{picture.case[:8]}, {picture.slice + 1} of {picture.slices}"
        place.set_title(f"{name}\n{_scores(picture)}", fontsize=6)
        top, left, side = picture.region
        place.set(xlim=(left - 0.5, left + side - 0.5), ylim=(top + side - 0.5, top - 0.5))
    return to_png(figure)
