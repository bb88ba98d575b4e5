"""Results in a notebook: small tables, and pictures of slices with their contours."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.index import as_refs
from kerasbalance.batches.source import Source
from kerasbalance.errors import explain

_REFERENCE, _PREDICTION = "#2a78d6", "#d62728"


def html_table(caption: str, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table with escaped text; floats have four digits.

    Example:
        >>> html_table("1 < 2", ["a"], [[0.5]])
        '<table><caption>1 &lt; 2</caption><tr><th>a</th></tr><tr><td>0.5</td></tr></table>'
    """
    lines = [("th", heading), *(("td", row) for row in rows)]
    body = "".join(
        f"<tr>{''.join(f'<{tag}>{html.escape(_text(cell))}</{tag}>' for cell in line)}</tr>"
        for tag, line in lines
    )
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def show(
    source: Source,
    refs: ArrayLike,
    *,
    model: Any = None,
    threshold: float = 0.5,
    window: tuple[float, float] | None = None,
    columns: int = 4,
) -> Any:
    """Draw slices with the contours of their masks: the reference blue, the prediction red.

    Needs the extra `report` (matplotlib). In a notebook the returned figure is shown after `%matplotlib inline`.

    Args:
        source: Where images `(height, width, channels)` and masks are read from. Three channels are drawn as colours,
            else the first one in grey.
        refs: `(slices,)`, at least one; for instance `result.ref[result.hard][:8]`.
        model: If given, what it predicts is drawn too: probabilities of one class, or of several, of which the largest
            wins.
        threshold: A pixel of one class is predicted where the output is larger.
        window: The values drawn black and white, such as `(-150, 250)` HU; those of each image by default.
        columns: Pictures in a row.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no ref, or the samples are not images with one mask each.
    """
    from matplotlib.figure import Figure

    rows = as_refs(refs, "refs")
    batch = source.read(rows, np.zeros(len(rows), np.uint8))
    x, masks = _image_and_labels(batch)
    predicted = None if model is None else _labels(np.asarray(model.predict_on_batch(x)), threshold)
    across = min(columns, len(rows))
    down = -(-len(rows) // across)
    figure = Figure(figsize=(3 * across, 3.2 * down), layout="constrained")
    for number, ref in enumerate(rows):
        axes = figure.add_subplot(down, across, number + 1)
        axes.set_title(f"ref {ref}", fontsize=9)
        axes.set_axis_off()
        _draw_image(axes, x[number], window)
        _draw_contour(axes, masks[number], _REFERENCE)
        if predicted is not None:
            _draw_contour(axes, predicted[number], _PREDICTION)
    return figure


def _image_and_labels(batch: tuple[Any, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = (*batch, None)[:2]
    is_drawn = (
        all(isinstance(part, np.ndarray) for part in (x, y)) and x.ndim == 4 and y.shape[:3] == x.shape[:3]
    )
    if not is_drawn or not len(x):
        raise ValueError(
            explain(
                f"{len(x)} samples that are not images with one mask each" if len(x) else "no refs",
                "at least one image (height, width, channels) with a mask of its size",
                "pass refs of a source of images and masks",
            )
        )
    return x, _labels(y, 0.5) if y.ndim == 4 else y


def _labels(output: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Return labels `(n, height, width)` of masks or outputs `(n, height, width, classes)`."""
    if output.shape[-1] > 1:
        labels: NDArray[Any] = output.argmax(axis=-1)
        return labels
    return output[..., 0] if output.dtype.kind in "iub" else output[..., 0] > threshold


def _draw_image(axes: Any, image: NDArray[Any], window: tuple[float, float] | None) -> None:
    low, high = window or (float(image.min()), float(image.max()))
    grey = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1)
    axes.imshow(grey if image.shape[-1] == 3 else grey[..., 0], cmap="gray", vmin=0, vmax=1)


def _draw_contour(axes: Any, labels: NDArray[Any], colour: str) -> None:
    for organ in np.unique(labels[labels > 0]):
        mask = labels == organ
        if not mask.all():  # a mask that fills the image has no contour
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1)


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, (float, np.floating)) else str(cell)
