"""Masks and predictions on the host, refused with the reason if they cannot be what a network is trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.errors import explain

SLACK = 1e-3
"""Interpolation and averaging leave shares and probabilities so far outside 0 to 1."""

_MANY = 64
"""A mask with this value or a larger one is a picture, or marks what is not annotated: so many organs have no model."""


def check_labels(y_true: NDArray[Any], shape: Sequence[int | None], ignore_label: int | None = None) -> None:
    """Refuse a mask whose values the output of a network cannot say.

    Args:
        y_true: Labels `(batch, ...)` or `(batch, ..., 1)`, or channels `(batch, ..., channels)`.
        shape: Shape of the network's output, `(batch, ..., channels)`.
        ignore_label: The value of pixels that are not annotated; None if every pixel is.

    Raises:
        ValueError: If a value is neither a label of the output, nor a share from 0 to 1 in a mask with channels or
            for an output of one channel, nor `ignore_label`.

    Example:
        >>> check_labels(np.array([[[0, 1], [2, 255]]]), (1, 2, 2, 3), ignore_label=255)
    """
    if not y_true.size or y_true.dtype == bool:
        return
    values = y_true if ignore_label is None else y_true[y_true != ignore_label]
    if not values.size:
        return
    low, high = values.min(), values.max()
    channels = int(shape[-1] or 1)
    if holds_shares(y_true.shape, shape):
        if not (low >= -SLACK and high <= 1 + SLACK):
            raise ValueError(_share_advice(float(low), float(high), channels, ignore_label))
    elif not (low >= 0 and high <= channels - 1):
        raise ValueError(_label_advice(float(low), float(high), channels))
    elif values.dtype.kind == "f" and not np.equal(values, np.floor(values)).all():
        raise ValueError(
            explain(
                f"a mask of labels that are no whole numbers for an output of {channels} channels",
                f"whole numbers from 0 to {channels - 1}",
                "pass a soft mask with one channel for each channel of the output",
            )
        )


def holds_shares(mask: Sequence[int | None], output: Sequence[int | None]) -> bool:
    """Say by the shapes of a mask and an output whether the mask holds shares from 0 to 1 rather than labels."""
    return output[-1] == 1 or (len(mask) == len(output) and mask[-1] == output[-1])


def check_probabilities(y_pred: NDArray[Any]) -> None:
    """Refuse predictions that are no probabilities.

    Args:
        y_pred: Any shape.

    Raises:
        ValueError: If a value lies outside 0 to 1.
    """
    if y_pred.size and (y_pred.min() < -SLACK or y_pred.max() > 1 + SLACK):
        raise ValueError(
            explain(
                f"predictions from {y_pred.min():.4g} to {y_pred.max():.4g}",
                "probabilities from 0 to 1",
                "end the model with a sigmoid or softmax, or pass from_logits=True",
            )
        )


def _share_advice(low: float, high: float, channels: int, ignore_label: int | None) -> str:
    if high >= _MANY and ignore_label is None:
        advice = (
            f"divide a picture of 0 and {high:g} by {high:g}, or pass ignore_label={high:g} if that value means "
            "not annotated"
        )
    elif channels == 1 and high >= 2:
        advice = f"give the model a softmax over {high + 1:g} channels, or choose one organ with mask == 1"
    else:
        advice = "scale the mask to 0 to 1"
    return explain(
        f"a mask with values from {low:g} to {high:g} for an output of {_counted(channels)}",
        "0 for the background and 1 for the organ, or shares between them",
        advice,
    )


def _label_advice(low: float, high: float, channels: int) -> str:
    more = f"give the model {high + 1:g} channels, " if high < _MANY else ""
    return explain(
        f"a mask with labels from {low:g} to {high:g} for an output of {_counted(channels)}",
        f"labels from 0 to {channels - 1}",
        f"{more}renumber the labels, or pass ignore_label={high:g} if that value means not annotated",
    )


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"
