"""Masks and predictions brought to one form, shared by the loss and the metric.

A network here ends in one channel (one organ, sigmoid) or in several that exclude each other (softmax), of
which channel 0 is the background. A mask may come as labels or as channels; both become channels, on every
backend.
"""

from typing import Any

from keras import ops


def as_channels(y_true: Any, y_pred: Any) -> Any:
    """Give a mask the channels of the prediction that it belongs to.

    Args:
        y_true: Labels `(batch, ..., 1)` or `(batch, ...)`, of any integer, boolean or float type, or
            channels `(batch, ..., channels)`. With one channel the values are 0 and 1 (or a share between
            them). With several, label `k` is channel `k`; a label outside `0 .. channels - 1` belongs
            to no channel.
        y_pred: Prediction `(batch, ..., channels)`, a floating-point tensor.

    Returns:
        The mask, `(batch, ..., channels)`, in the type of `y_pred`.

    Raises:
        ValueError: If the two shapes do not fit together.
    """
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == len(y_pred.shape) - 1:
        y_true = ops.expand_dims(y_true, -1)
    _check_shapes(tuple(y_true.shape), tuple(y_pred.shape))
    channels = y_pred.shape[-1]
    if channels > 1 and y_true.shape[-1] == 1:
        # An equality rather than `ops.one_hot`: torch raises on a label out of range, the others do not.
        y_true = ops.equal(ops.cast(y_true, "int32"), ops.arange(channels, dtype="int32"))
    return ops.cast(y_true, y_pred.dtype)


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
        f"Received sample_weight of shape {shape}; expected one weight for each slice, (batch,). "
        "To leave pixels out, mask the prediction and the reference before they reach the loss or the metric."
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


def _check_shapes(reference: tuple[int | None, ...], pred: tuple[int | None, ...]) -> None:
    # Without this, shapes that happen to broadcast give a wrong number; an axis of None is not known yet.
    fits = len(reference) == len(pred) and reference[-1] in (1, pred[-1])
    pairs = zip(reference[:-1], pred[:-1], strict=False)
    if not fits or any(a != b for a, b in pairs if a is not None and b is not None):
        raise ValueError(
            f"Received y_true of shape {reference} for y_pred of shape {pred}; expected labels (batch, ..., 1) or "
            "(batch, ...), or as many channels as y_pred has. Give both the same batch and spatial size."
        )
