"""One picture of a prediction: three planes through the organs, with contours."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.volume.volume import Volume
from kerasbalance.experiments.report.figures import new_figure, to_png
from kerasbalance.experiments.report.gallery import outlines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#ff3b30", "#3b9dff", "#34c759", "#ffcc00", "#bf5af2", "#ff9f0a", "#64d2ff", "#ff6fae")
PLANES = (("axial", "A", "R"), ("coronal", "H", "R"), ("sagittal", "H", "A"))
"""Name of the plane across each axis of a volume, and the sides of the patient at its upper and its left edge."""


def preview_png(
    volume: Volume, labels: NDArray[np.uint8], organs: Sequence[str], window_hu: tuple[float, float]
) -> bytes:
    """Draw the axial, the coronal and the sagittal plane that show most of the prediction.

    Args:
        volume: The CT, canonical.
        labels: uint8 of the CT's shape; `i + 1` is `organs[i]`. The middle planes are drawn if there is none.
        organs: Names for the legend.
        window_hu: HU of black and of white.

    Returns:
        A PNG without the patient's name or identifiers; the pixels are the patient's. A stack that is flatter than a
        tenth of its width has the axial plane alone.

    Raises:
        DataError: If matplotlib is not installed (code `NO_MATPLOTLIB`).
    """
    from matplotlib.lines import Line2D

    height, *sides = (n * mm for n, mm in zip(labels.shape, volume.grid.spacing_mm, strict=True))
    axes = range(3 if height > max(sides) / 10 else 1)  # the height of a lone slice is NaN
    figure = new_figure((3.4 * len(axes), 3.7))
    for axis, place in zip(axes, figure.subplots(1, len(axes), squeeze=False).ravel(), strict=True):
        _draw_plane(place, axis, volume, labels, window_hu)
    lines = [Line2D([], [], color=COLOURS[n % len(COLOURS)], label=organ) for n, organ in enumerate(organs)]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=min(len(lines), 6), frameon=False, fontsize=8
    )
    return to_png(figure)


def _draw_plane(
    place: "Axes", axis: int, volume: Volume, labels: NDArray[np.uint8], window_hu: tuple[float, float]
) -> None:
    number = _best(labels, axis)
    # Slices count from the feet, and the head belongs at the upper edge.
    turn = slice(None, None, 1 if axis == 0 else -1)
    hu = np.asarray(volume.hu.take(number, axis))[turn]
    marked = np.asarray(labels.take(number, axis))[turn]
    spacing = [mm for other, mm in enumerate(volume.grid.spacing_mm) if other != axis]
    place.imshow(
        hu,
        "gray",
        vmin=window_hu[0],
        vmax=window_hu[1],
        aspect=spacing[0] / spacing[1],
        interpolation="bilinear",
    )
    for label in np.unique(marked[marked > 0]).tolist():
        colour = COLOURS[(label - 1) % len(COLOURS)]
        for contour in outlines(marked == label):
            place.fill(contour[:, 1], contour[:, 0], edgecolor=colour, fill=False, linewidth=0.9)
    name, top, left = PLANES[axis]
    place.set_title(f"{name}, {number + 1} of {labels.shape[axis]}", fontsize=8)
    for x, y, side, across, along in ((0.5, 0.99, top, "center", "top"), (0.01, 0.5, left, "left", "center")):
        place.text(x, y, side, transform=place.transAxes, color="white", fontsize=8, ha=across, va=along)
    place.axis("off")


def _best(labels: NDArray[np.uint8], axis: int) -> int:
    """Return the plane with the most labelled voxels; the middle one without any."""
    others = tuple(other for other in range(3) if other != axis)
    counts = np.count_nonzero(labels, axis=others)
    return int(counts.argmax()) if counts.any() else labels.shape[axis] // 2
