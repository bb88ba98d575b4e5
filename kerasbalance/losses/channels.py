"""Masks and predictions brought to one form, shared by the losses and the metric.

A network here ends in one channel (one organ, sigmoid) or in several that exclude each other (softmax), of
which channel 0 is the background. A mask may come as labels or as channels; both become channels, on every
backend. What `labels` refuses on the host cannot be refused in a compiled step: it makes the result NaN.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbalance.errors import explain
from kerasbalance.losses.labels import SLACK, check_labels, check_probabilities, holds_shares


@dataclass(frozen=True, eq=False)
class Reference:
    """A mask in the form of the prediction that it belongs to.

    Args:
        channels: `(batch, ..., channels)`, 0 to 1; 0 where a pixel is not annotated.
        kept: `(batch, ..., 1)`, 1 where a pixel is annotated, else 0; None if all are.
        sound: A boolean scalar: whether every value can be said by the output.
    """

    channels: Any
    kept: Any
    sound: Any


def read_reference(y_true: Any, y_pred: Any, ignore_label: int | None = None) -> Reference:
    """Give a mask the channels of the prediction that it belongs to.

    Args:
        y_true: Labels `(batch, ..., 1)` or `(batch, ...)`, of any integer, boolean or float type, or
            channels `(batch, ..., channels)`. With one channel the values are 0 and 1 (or a share between
            them). With several, label `k` is channel `k`.
        y_pred: Prediction `(batch, ..., channels)`, a floating-point tensor.
        ignore_label: The value of pixels that are not annotated. In a mask with channels a pixel is left out
            if any of its channels has it.

    Returns:
        The mask in the type of `y_pred`, at least float32.

    Raises:
        ValueError: If the two shapes do not fit together; if `y_true` is a NumPy array, also if its values do
            not fit, see `check_labels`.
    """
    channels = y_pred.shape[-1]
    if isinstance(y_true, np.ndarray):
        check_labels(y_true, y_pred.shape, ignore_label)
    y_true = ops.convert_to_tensor(y_true)
    boolean = keras.backend.standardize_dtype(y_true.dtype) == "bool"
    y_true = ops.cast(y_true, keras.backend.result_type(y_pred.dtype, "float32"))
    if len(y_true.shape) == len(y_pred.shape) - 1:
        y_true = ops.expand_dims(y_true, -1)
    _check_shapes(tuple(y_true.shape), tuple(y_pred.shape))
    kept = None if ignore_label is None else ops.all(y_true != ignore_label, axis=-1, keepdims=True)
    y_true = y_true if kept is None else ops.where(kept, y_true, 0.0)
    sound = ops.convert_to_tensor(True) if boolean else ops.all(_are_sound(y_true, y_pred))
    if channels > 1 and y_true.shape[-1] == 1:
        # An equality rather than `ops.one_hot`: torch raises on a label out of range, the others do not.
        y_true = ops.cast(ops.equal(y_true, ops.arange(channels, dtype=y_true.dtype)), y_true.dtype)
    if kept is None:
        return Reference(y_true, None, sound)
    kept = ops.cast(kept, y_true.dtype)
    return Reference(y_true * kept, kept, sound)


def read_pair(
    y_true: Any, y_pred: Any, *, from_logits: bool = False, ignore_label: int | None = None
) -> tuple[Reference, Any]:
    """Bring mask and prediction of a loss to one form.

    Args:
        y_true: See `read_reference`.
        y_pred: Probabilities `(batch, ..., channels)`, or logits with `from_logits`.
        from_logits: Apply a sigmoid (one channel) or a softmax (several) to `y_pred`.
        ignore_label: See `read_reference`.

    Returns:
        The reference, unsound also where `y_pred` holds no probabilities, and the probabilities, both at least
        float32: sums of half-precision probabilities overflow at 256 x 256 pixels.

    Raises:
        ValueError: As `read_reference`; if `y_pred` is a NumPy array, also if it holds no probabilities.
    """
    if isinstance(y_pred, np.ndarray) and not from_logits:
        check_probabilities(y_pred)
    y_pred = ops.convert_to_tensor(y_pred)
    y_pred = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, "float32"))
    reference = read_reference(y_true, y_pred, ignore_label)
    if from_logits:
        return reference, ops.sigmoid(y_pred) if y_pred.shape[-1] == 1 else ops.softmax(y_pred, axis=-1)
    inside = ops.logical_and(y_pred >= -SLACK, y_pred <= 1 + SLACK)
    return dataclasses.replace(reference, sound=ops.logical_and(reference.sound, ops.all(inside))), y_pred


def nan_unless(sound: Any, result: Any) -> Any:
    """Return `result`, or NaN in its place where `sound` is false; the gradient is then 0."""
    return ops.where(sound, result, float("nan"))


def slice_weights(sample_weight: Any, dtype: Any) -> Any:
    """Give the weights of the slices the shape `(batch, 1)`, to multiply sums of `(batch, channels)`.

    Args:
        sample_weight: `(batch,)` or `(batch, 1)`, one weight for each slice.
        dtype: Type of the result.

    Returns:
        `(batch, 1)` in `dtype`.

    Raises:
        ValueError: If the weights have another shape, such as one for each pixel.
    """
    weights = ops.cast(ops.convert_to_tensor(sample_weight), dtype)
    shape = tuple(weights.shape)
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return ops.reshape(weights, (-1, 1))
    raise ValueError(
        explain(
            f"sample_weight of shape {shape}",
            "one weight for each slice, (batch,)",
            "give pixels that should be left out a label of their own and pass it as ignore_label",
        )
    )


def organ_channels(tensor: Any, include_background: bool) -> Any:
    """Drop channel 0, the background, of a tensor with several channels, unless it is wanted.

    Args:
        tensor: `(batch, ..., channels)`. With one channel there is no background to drop.
        include_background: Whether channel 0 stays.

    Returns:
        `(batch, ..., organs)`.
    """
    return tensor if include_background or tensor.shape[-1] == 1 else tensor[..., 1:]


def _are_sound(y_true: Any, y_pred: Any) -> Any:
    if holds_shares(y_true.shape, y_pred.shape):
        return ops.logical_and(y_true >= -SLACK, y_true <= 1 + SLACK)
    inside = ops.logical_and(y_true >= 0, y_true < y_pred.shape[-1])
    return ops.logical_and(inside, ops.equal(y_true, ops.floor(y_true)))


def _check_shapes(reference: tuple[int | None, ...], pred: tuple[int | None, ...]) -> None:
    # Without this, shapes that happen to broadcast give a wrong number; an axis of None is not known yet.
    fits = len(reference) == len(pred) and reference[-1] in (1, pred[-1])
    pairs = zip(reference[:-1], pred[:-1], strict=False)
    if not fits or any(a != b for a, b in pairs if a is not None and b is not None):
        raise ValueError(
            explain(
                f"y_true of shape {reference} for y_pred of shape {pred}",
                "labels (batch, ..., 1) or (batch, ...), or as many channels as y_pred has, the channels last",
                "give both the same batch and spatial size; end a model whose channels come first with "
                "keras.layers.Permute((2, 3, 1))",
            )
        )
    if are_channels_first(reference, pred):
        raise ValueError(
            explain(
                f"y_true and y_pred of shape {pred}, with more channels than rows",
                "(batch, height, width, channels)",
                "end a model whose channels come first with keras.layers.Permute((2, 3, 1)), and its masks likewise",
            )
        )


def are_channels_first(reference: tuple[int | None, ...], pred: tuple[int | None, ...]) -> bool:
    """Say whether a mask and a prediction of one shape look like `(batch, channels, height, width)`.

    So it is taken where there are fewer rows than columns and fewer rows than channels: no slice is so low.
    """
    if len(pred) != 4 or reference[1:] != pred[1:] or None in pred[1:]:
        return False
    _, rows, columns, channels = pred
    return channels > 1 and rows < columns and rows < channels  # type: ignore[operator]
