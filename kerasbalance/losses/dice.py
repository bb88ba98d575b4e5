"""Soft Dice loss with one policy for empty masks, the same numbers on every backend."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbalance.backend.devices import sum_over_replicas
from kerasbalance.errors import explain
from kerasbalance.losses.channels import Reference, nan_unless, organ_channels, read_pair, slice_weights
from kerasbalance.losses.labels import check_labels, check_probabilities


def dice_loss(
    y_true: Any,
    y_pred: Any,
    *,
    batch: bool = True,
    include_background: bool = False,
    smooth: float = 1.0,
    from_logits: bool = False,
    squared: bool = False,
    class_weights: Sequence[float] | None = None,
    slice_share: float = 0.0,
    ignore_label: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """Compute the soft Dice loss, averaged over the organs.

    It is `1 - (2 * overlap + smooth) / (reference + prediction + smooth)` in pixels. Smoothing stands in
    numerator and denominator. An organ that is empty in reference and prediction therefore costs 0, and where the
    reference is empty the gradient still pushes false positives down; with a vanishing `smooth` that gradient
    vanishes too, since it is `smooth / (prediction + smooth)**2`. Keras' own `Dice` has neither property:
    it charges 1 for any prediction on an empty mask, with a gradient of zero.

    Masks that the output cannot say, such as label 2 for one channel or 255 without `ignore_label`, and
    predictions that are no probabilities are refused in NumPy arrays. In a compiled step, where nothing can be
    refused on every backend, they make the loss NaN and its gradient 0.

    Args:
        y_true: Labels `(batch, height, width)` or `(batch, height, width, 1)`, or channels `(batch,
            height, width, channels)` with values 0 to 1. With several channels, label `k` is channel
            `k`.
        y_pred: Probabilities `(batch, height, width, channels)`, or logits with `from_logits`. One
            channel is one organ; of several, channel 0 is the background. Any number of spatial axes will do.
        batch: Sum over the batch before dividing, so that slices with little or no organ carry little weight.
            On several devices it is the whole batch, not a device's share. `False` gives every slice its own Dice.
        include_background: Whether channel 0 of several counts. Without effect on one channel.
        smooth: Added to numerator and denominator, in pixels, above 0.
        from_logits: Apply a sigmoid (one channel) or a softmax (several) to `y_pred` first.
        squared: Square the reference and the prediction in the denominator, as V-Net does.
        class_weights: One number >= 0 for each of the organs that count; the organ's loss is multiplied by it
            before the mean over the organs.
        slice_share: From 0 to 1, with `batch`: this share of the loss is the mean of the slices' own losses,
            the rest is that of the batch. 0.2 moved hard slices most where it was measured.
        ignore_label: The value in `y_true` of pixels that are not annotated; they are left out.
        sample_weight: `(batch,)`. Over the batch it weighs a slice inside the sums, so that weight 2 is the
            slice twice and weight 0 is its absence. Per slice it multiplies the slice's loss.

    Returns:
        The loss, `(1,)` over the batch or `(batch,)` per slice, float32, whatever the precision
        of the network.

    Raises:
        ValueError: If shapes or values do not fit, or an option is out of range.

    Example:
        >>> import numpy as np
        >>> reference = np.array([[[[1.0], [0.0]]]])
        >>> loss = dice_loss(reference, np.array([[[[1.0], [1.0]]]]), smooth=1e-5)
        >>> round(float(loss[0]), 3)
        0.333

    Reference:
        Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation", 3DV 2016, doi 10.1109/3DV.2016.79 (with the squares of its denominator if `squared`).
    """
    _check_options(batch, smooth, class_weights, slice_share)
    reference, y_pred = read_pair(y_true, y_pred, from_logits=from_logits, ignore_label=ignore_label)
    overlap, total = _slice_sums(reference, y_pred, include_background, squared)
    factors = organ_factors(class_weights, total.shape[-1], total.dtype)
    weights = None if sample_weight is None else slice_weights(sample_weight, y_pred.dtype)

    def cost(overlap: Any, total: Any) -> Any:
        each = 1.0 - (2.0 * overlap + smooth) / (total + smooth)
        return ops.mean(each if factors is None else each * factors, axis=-1)

    if not batch:
        loss = cost(overlap, total)
        return nan_unless(reference.sound, loss if weights is None else loss * weights[:, 0])
    loss = cost(*ops.unstack(_sum_over_batch(ops.stack([overlap, total]), weights), 2))
    if slice_share:
        loss = (1 - slice_share) * loss + slice_share * _slice_mean(cost(overlap, total), weights)
    return nan_unless(reference.sound, loss)


@keras.saving.register_keras_serializable("kerasbalance")
class DiceLoss(keras.losses.Loss):  # type: ignore[misc]  # untyped
    """Soft Dice loss for `model.compile`; `dice_loss` says what it computes.

    Over the batch, `sample_weight` acts inside the sums and the value is one number for the batch: a common
    factor of all weights hardly changes it. Per slice, Keras weighs and reduces the slices' losses as it does
    for any loss. Scoring follows the compiled loss: `score_slices` reads `from_logits` and `ignore_label` from it.

    Args:
        batch: Sum over the batch before dividing (default), or give every slice its own Dice.
        include_background: Whether channel 0 of several counts. Without effect on one channel.
        smooth: Added to numerator and denominator, in pixels, above 0. An organ that is empty in
            reference and prediction costs 0.
        from_logits: Whether predictions are logits rather than probabilities.
        squared: Square the reference and the prediction in the denominator.
        class_weights: One number >= 0 for each organ that counts; needs several channels.
        slice_share: From 0 to 1: this share of the loss is the mean of the slices' own losses.
        ignore_label: The value in the masks of pixels that are not annotated, 255 by custom.
        reduction: As for any Keras loss; per slice, `None` gives `(batch,)`.
        name: Name of the loss.
        dtype: As for any Keras loss, the type of the result; the sums are float32 at least.

    Raises:
        ValueError: If an option is out of range, or at a call if shapes or the values of NumPy arrays do not fit.

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
        squared: bool = False,
        class_weights: Sequence[float] | None = None,
        slice_share: float = 0.0,
        ignore_label: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "dice_loss",
        dtype: Any = None,
    ) -> None:
        _check_options(batch, smooth, class_weights, slice_share)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_label = ignore_label
        self._options: dict[str, Any] = {
            "batch": batch,
            "include_background": include_background,
            "smooth": smooth,
            "from_logits": from_logits,
            "squared": squared,
            "class_weights": None if class_weights is None else [float(weight) for weight in class_weights],
            "slice_share": slice_share,
            "ignore_label": ignore_label,
        }
        self._dtype_given = None if dtype is None else self.dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute and reduce the loss; Keras calls this."""
        check_arrays(y_true, y_pred, self.from_logits, self.ignore_label)
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
        return {**super().get_config(), **self._options, "dtype": self._dtype_given}


def check_arrays(y_true: Any, y_pred: Any, from_logits: bool, ignore_label: int | None) -> None:
    """Refuse NumPy arrays that do not fit each other, before Keras turns them into tensors."""
    if isinstance(y_true, np.ndarray) and hasattr(y_pred, "shape"):
        check_labels(y_true, y_pred.shape, ignore_label)
    if isinstance(y_pred, np.ndarray) and not from_logits:
        check_probabilities(y_pred)


def organ_factors(class_weights: Sequence[float] | None, organs: int, dtype: Any) -> Any:
    """Return the weights of the organs as a tensor `(organs,)`, or None.

    Raises:
        ValueError: If there is only one organ, or not one weight for each.
    """
    if class_weights is None:
        return None
    if organs == 1 or len(class_weights) != organs:
        raise ValueError(
            explain(
                f"{len(class_weights)} class_weights for {organs} organ{'s' if organs > 1 else ''}",
                "one for each of several organs; channel 0 is one only with include_background=True",
                "pass as many weights as organs, or leave them out",
            )
        )
    return ops.convert_to_tensor(list(class_weights), dtype=dtype)


def _slice_sums(
    reference: Reference, y_pred: Any, include_background: bool, squared: bool
) -> tuple[Any, Any]:
    """Return the overlap of each slice and organ, and the sum of reference and prediction, `(batch, organs)`."""
    y_true = organ_channels(reference.channels, include_background)
    y_pred = organ_channels(y_pred, include_background)
    y_pred = y_pred if reference.kept is None else y_pred * reference.kept
    spatial = tuple(range(1, len(y_pred.shape) - 1))
    sizes = (ops.square(y_true), ops.square(y_pred)) if squared else (y_true, y_pred)
    total = ops.sum(sizes[0], axis=spatial) + ops.sum(sizes[1], axis=spatial)
    return ops.sum(y_true * y_pred, axis=spatial), total


def _sum_over_batch(sums: Any, weights: Any) -> Any:
    # One axis stays: Keras divides a loss by the number of replicas only if there is an axis to reduce.
    return sum_over_replicas(ops.sum(sums if weights is None else sums * weights, axis=1, keepdims=True))


def _slice_mean(costs: Any, weights: Any) -> Any:
    """Return the mean of the slices' costs `(batch,)` as `(1,)`; a weight is a number of copies."""
    if weights is None:
        return ops.mean(costs, keepdims=True)
    copies = ops.sum(weights, axis=0)
    return ops.sum(costs[:, None] * weights, axis=0) / ops.where(copies > 0, copies, 1.0)


def _check_options(
    batch: bool, smooth: float, class_weights: Sequence[float] | None, slice_share: float
) -> None:
    if not (smooth > 0 and math.isfinite(smooth)):
        raise ValueError(
            explain(
                f"smooth={smooth}",
                "a finite number of pixels above 0, without which the Dice of an empty mask is not defined",
                "use 1.0, or 1e-5 to come close to the unsmoothed coefficient",
            )
        )
    if not 0 <= slice_share <= 1 or (slice_share and not batch):
        raise ValueError(
            explain(
                f"slice_share={slice_share} with batch={batch}",
                "a share from 0 to 1 of a loss over the batch",
                "pass 0.2 with batch=True, or batch=False for the slices' own losses alone",
            )
        )
    if class_weights is not None and not all(0 <= weight < math.inf for weight in class_weights):
        raise ValueError(
            explain(
                f"class_weights={list(class_weights)}",
                "finite numbers of at least 0",
                "pass 1 for an organ of usual weight",
            )
        )
