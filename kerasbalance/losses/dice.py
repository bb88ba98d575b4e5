"""Soft Dice loss with one policy for empty masks, the same numbers on every backend."""

import math
from typing import Any

import keras
from keras import ops

from kerasbalance.losses.channels import as_channels, organ_channels, slice_weights


def dice_loss(
    y_true: Any,
    y_pred: Any,
    *,
    batch: bool = True,
    include_background: bool = False,
    smooth: float = 1.0,
    from_logits: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Compute the soft Dice loss, averaged over the organs.

    It is `1 - (2 * overlap + smooth) / (reference + prediction + smooth)` in pixels. Smoothing stands in
    numerator and denominator. An organ that is empty in reference and prediction therefore costs 0, and where the
    reference is empty the gradient still pushes false positives down; with a vanishing `smooth` that gradient
    vanishes too, since it is `smooth / (prediction + smooth)**2`. Keras' own `Dice` has neither property:
    it charges 1 for any prediction on an empty mask, with a gradient of zero.

    Args:
        y_true: Labels `(batch, height, width)` or `(batch, height, width, 1)`, or channels `(batch,
            height, width, channels)` with values 0 to 1. With several channels, label `k` is channel
            `k`.
        y_pred: Probabilities `(batch, height, width, channels)`, or logits with `from_logits`. One
            channel is one organ; of several, channel 0 is the background. Any number of spatial axes will do.
        batch: Sum over the batch before dividing, so that slices with little or no organ carry little weight.
            `False` gives every slice its own Dice.
        include_background: Whether channel 0 of several counts. Without effect on one channel.
        smooth: Added to numerator and denominator, in pixels, above 0.
        from_logits: Apply a sigmoid (one channel) or a softmax (several) to `y_pred` first.
        sample_weight: `(batch,)`. Over the batch it weighs a slice inside the sums, so that weight 2 is the
            slice twice and weight 0 is its absence. Per slice it multiplies the slice's loss.

    Returns:
        The loss, `(1,)` over the batch or `(batch,)` per slice, float32 (float64 if `y_pred` is),
        whatever the precision of the network.

    Raises:
        ValueError: If shapes do not fit or `smooth` is not above 0.

    Example:
        >>> import numpy as np
        >>> reference = np.array([[[[1.0], [0.0]]]])
        >>> loss = dice_loss(reference, np.array([[[[1.0], [1.0]]]]), smooth=1e-5)
        >>> round(float(loss[0]), 3)
        0.333

    Reference:
        Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation", 3DV 2016, doi 10.1109/3DV.2016.79 (without the squares of its denominator).
    """
    _check_smooth(smooth)
    y_pred = ops.convert_to_tensor(y_pred)
    # Sums of half-precision probabilities overflow at 256 x 256 pixels.
    y_pred = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, "float32"))
    y_true = as_channels(y_true, y_pred)
    if from_logits:
        y_pred = ops.sigmoid(y_pred) if y_pred.shape[-1] == 1 else ops.softmax(y_pred, axis=-1)
    y_true, y_pred = (organ_channels(tensor, include_background) for tensor in (y_true, y_pred))
    spatial = tuple(range(1, len(y_pred.shape) - 1))
    overlap = ops.sum(y_true * y_pred, axis=spatial)
    total = ops.sum(y_true, axis=spatial) + ops.sum(y_pred, axis=spatial)
    weights = None if sample_weight is None else slice_weights(sample_weight, y_pred.dtype)
    if batch:
        overlap, total = (_sum_over_batch(sums, weights) for sums in (overlap, total))
    loss = 1.0 - (2.0 * overlap + smooth) / (total + smooth)
    return ops.mean(loss if batch or weights is None else loss * weights, axis=-1)


@keras.saving.register_keras_serializable("kerasbalance")
class DiceLoss(keras.losses.Loss):  # type: ignore[misc]  # untyped
    """Soft Dice loss for `model.compile`; `dice_loss` says what it computes.

    Over the batch, `sample_weight` acts inside the sums and the value is one number for the batch: a common
    factor of all weights hardly changes it. Per slice, Keras weighs and reduces the slices' losses as it does
    for any loss. A model compiled with it loads without `custom_objects` once this module, or
    `kerasbalance.models`, is imported.

    Args:
        batch: Sum over the batch before dividing (default), or give every slice its own Dice.
        include_background: Whether channel 0 of several counts. Without effect on one channel.
        smooth: Added to numerator and denominator, in pixels, above 0. An organ that is empty in
            reference and prediction costs 0.
        from_logits: Whether predictions are logits rather than probabilities.
        reduction: As for any Keras loss; per slice, `None` gives `(batch,)`.
        name: Name of the loss.

    Raises:
        ValueError: If `smooth` is not above 0, or at a call if the shapes do not fit.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
        >>> model.compile("sgd", loss=DiceLoss())
    """

    def __init__(
        self,
        *,
        batch: bool = True,
        include_background: bool = False,
        smooth: float = 1.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_loss",
    ) -> None:
        _check_smooth(smooth)
        super().__init__(name=name, reduction=reduction)
        self._options: dict[str, Any] = {
            "batch": batch,
            "include_background": include_background,
            "smooth": smooth,
            "from_logits": from_logits,
        }

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute and reduce the loss; Keras calls this."""
        if sample_weight is None:
            return super().__call__(y_true, y_pred)
        if not self._options["batch"]:
            weights = slice_weights(sample_weight, self.dtype)
            return super().__call__(y_true, y_pred, weights[:, 0])
        # Keras would multiply the finished loss; these weights belong inside the sums: they travel with
        # y_pred.
        return super().__call__(y_true, (y_pred, sample_weight))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the loss before Keras reduces it."""
        y_pred, weights = y_pred if isinstance(y_pred, tuple) else (y_pred, None)
        return dice_loss(y_true, y_pred, sample_weight=weights, **self._options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**super().get_config(), **self._options}


def _sum_over_batch(sums: Any, weights: Any) -> Any:
    # One axis stays: Keras divides a loss by the number of replicas only if there is an axis to reduce.
    return ops.sum(sums if weights is None else sums * weights, axis=0, keepdims=True)


def _check_smooth(smooth: float) -> None:
    if not (smooth > 0 and math.isfinite(smooth)):
        raise ValueError(
            f"Received smooth={smooth}; expected a finite number of pixels above 0, without which the Dice "
            "of an empty mask is not defined. Use 1.0, or 1e-5 to come close to the unsmoothed coefficient."
        )
