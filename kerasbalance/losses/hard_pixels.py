"""Dice joined with a cross-entropy that dwells on hard pixels: what one would otherwise try in place of mining.

Mining chooses slices, these losses weigh pixels; they are here to be compared with it at equal cost.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kerasbalance.errors import explain
from kerasbalance.losses.channels import Reference, nan_unless, read_pair
from kerasbalance.losses.dice import DiceLoss, check_arrays, organ_factors

_LEAST = 1e-7
"""Probabilities are kept this far from 0, so that the logarithm of a sure error stays finite."""


def focal_loss(
    y_true: Any,
    y_pred: Any,
    *,
    gamma: float = 2.0,
    from_logits: bool = False,
    class_weights: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> Any:
    """Compute the focal loss: cross-entropy weighted with `(1 - p) ** gamma`, averaged over all pixels.

    `p` is the probability that the model gives to a pixel's true class.

    Args:
        y_true: Labels or channels, as for `dice_loss`.
        y_pred: Probabilities `(batch, height, width, channels)`: sigmoid for one channel, softmax for several.
        gamma: 0 or more; 0 is the plain cross-entropy.
        from_logits: Apply a sigmoid (one channel) or a softmax (several) to `y_pred` first.
        class_weights: One number >= 0 for each of several organs, or for each channel; a pixel's cost is
            multiplied by that of its class. Without a number of its own, the background has weight 1.
        ignore_label: The value in `y_true` of pixels that are not annotated; they are left out.

    Returns:
        The loss, `(1,)`, float32.

    Raises:
        ValueError: If shapes or values do not fit, or `gamma` is negative or not finite.

    Example:
        >>> import numpy as np
        >>> round(float(focal_loss(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.5))[0]), 4)
        0.1733

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, doi 10.1109/ICCV.2017.324 (without the
        class weight alpha).
    """
    _check("gamma", gamma, 0 <= gamma < math.inf, "a finite number of at least 0")
    reference, y_pred = read_pair(y_true, y_pred, from_logits=from_logits, ignore_label=ignore_label)
    likely = _true_class_probability(reference, y_pred)
    costs = _weighted(-ops.log(likely) * (1 - likely) ** gamma, reference, class_weights)
    kept = ops.ones_like(costs) if reference.kept is None else reference.kept
    mean = ops.sum(costs) / ops.maximum(ops.sum(kept), 1.0)
    return nan_unless(reference.sound, ops.reshape(mean, (1,)))


def top_k_loss(
    y_true: Any,
    y_pred: Any,
    *,
    share: float = 0.1,
    from_logits: bool = False,
    class_weights: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> Any:
    """Compute the mean cross-entropy of the hardest pixels of the batch: online hard example mining by pixel.

    On several devices under TensorFlow, each device chooses the hardest pixels of its own share of the batch, so that
    the result depends on their number.

    Args:
        y_true: Labels or channels, as for `dice_loss`.
        y_pred: Probabilities `(batch, height, width, channels)`: sigmoid for one channel, softmax for several.
        share: Share of the batch's annotated pixels that count, above 0 to 1; rounded up to a whole pixel.
        from_logits: Apply a sigmoid (one channel) or a softmax (several) to `y_pred` first.
        class_weights: As for `focal_loss`; pixels are hard by their weighted cost.
        ignore_label: The value in `y_true` of pixels that are not annotated; they are left out.

    Returns:
        The loss, `(1,)`, float32. Of pixels that tie for the last place any may count: the value is the same.

    Raises:
        ValueError: If shapes or values do not fit, or `share` is out of range.

    Example:
        >>> import numpy as np
        >>> found = top_k_loss(np.ones((1, 1, 2, 1)), np.array([[[[0.5], [1.0]]]]), share=0.5)
        >>> round(float(found[0]), 4)
        0.6931

    Reference:
        Shrivastava et al., "Training Region-Based Object Detectors with Online Hard Example Mining", CVPR 2016,
        doi 10.1109/CVPR.2016.89, on pixels instead of regions.
    """
    _check("share", share, 0 < share <= 1, "a share of the pixels above 0, at most 1")
    reference, y_pred = read_pair(y_true, y_pred, from_logits=from_logits, ignore_label=ignore_label)
    costs = -ops.log(_true_class_probability(reference, y_pred))
    costs = ops.reshape(_weighted(costs, reference, class_weights), (-1,))
    hardest = ops.top_k(costs, _hard_pixels(costs.shape[0], costs, share), sorted=reference.kept is not None)[
        0
    ]
    if reference.kept is None:
        mean = ops.mean(hardest)
    else:  # of the hardest pixels of all, as many as make the share of the annotated ones
        wanted = ops.maximum(ops.ceil(share * ops.sum(reference.kept) - 1e-3), 1.0)
        counted = ops.cast(ops.arange(ops.shape(hardest)[0]), hardest.dtype) < wanted
        mean = ops.sum(ops.where(counted, hardest, 0.0)) / wanted
    return nan_unless(reference.sound, ops.reshape(mean, (1,)))


class _DicePlus(keras.losses.Loss):  # type: ignore[misc]  # untyped
    """The Dice loss plus another loss of the same batch, each with weight 1."""

    def __init__(
        self, other: Callable[..., Any], options: dict[str, float], dice: DiceLoss, **loss: Any
    ) -> None:
        super().__init__(**loss)
        self.from_logits, self.ignore_label = dice.from_logits, dice.ignore_label
        self._other, self._dice, self._options = other, dice, options

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss; Keras calls this."""
        if sample_weight is not None:
            raise ValueError(
                explain(
                    "sample_weight",
                    "none, since the hard pixels are chosen from the whole batch",
                    "use DiceLoss, or leave the weights out",
                )
            )
        check_arrays(y_true, y_pred, self.from_logits, self.ignore_label)
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the loss before Keras reduces it."""
        shared = ("from_logits", "class_weights", "ignore_label")
        given = {name: self._dice.get_config()[name] for name in shared}
        return self._dice.call(y_true, y_pred) + self._other(y_true, y_pred, **given, **self._options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {**self._dice.get_config(), "name": self.name, "reduction": self.reduction, **self._options}


@keras.saving.register_keras_serializable("kerasbalance")
class DiceFocalLoss(_DicePlus):
    """The Dice loss plus the focal loss; see `kerasbalance.losses.focal_loss`.

    Args:
        gamma: How strongly easy pixels are played down, 0 or more.
        name: Name of the loss.
        reduction: As for any Keras loss.
        **dice: Options of `DiceLoss`, but for `batch=False`; class weights and the ignored label hold for both
            losses.

    Raises:
        ValueError: If an option is out of range; when called, for shapes or values that do not fit or a
            `sample_weight`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
        >>> model.compile("sgd", loss=DiceFocalLoss())
    """

    def __init__(
        self,
        gamma: float = 2.0,
        name: str = "dice_focal_loss",
        reduction: str = "sum_over_batch_size",
        **dice: Any,
    ) -> None:
        _check("gamma", gamma, 0 <= gamma < math.inf, "a finite number of at least 0")
        loss = {"name": name, "reduction": reduction, "dtype": dice.get("dtype")}
        super().__init__(focal_loss, {"gamma": gamma}, _over_the_batch(dice), **loss)


@keras.saving.register_keras_serializable("kerasbalance")
class DiceTopKLoss(_DicePlus):
    """The Dice loss plus the cross-entropy of the hardest pixels; see `kerasbalance.losses.top_k_loss`.

    Args:
        share: Share of the batch's pixels that count in the cross-entropy, above 0 to 1.
        name: Name of the loss.
        reduction: As for any Keras loss.
        **dice: Options of `DiceLoss`, but for `batch=False`; class weights and the ignored label hold for both
            losses.

    Raises:
        ValueError: If an option is out of range; when called, for shapes or values that do not fit or a
            `sample_weight`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
        >>> model.compile("sgd", loss=DiceTopKLoss(share=0.1))
    """

    def __init__(
        self,
        share: float = 0.1,
        name: str = "dice_top_k_loss",
        reduction: str = "sum_over_batch_size",
        **dice: Any,
    ) -> None:
        _check("share", share, 0 < share <= 1, "a share of the pixels above 0, at most 1")
        loss = {"name": name, "reduction": reduction, "dtype": dice.get("dtype")}
        super().__init__(top_k_loss, {"share": share}, _over_the_batch(dice), **loss)


def _over_the_batch(options: dict[str, Any]) -> DiceLoss:
    if not options.get("batch", True):
        raise ValueError(
            explain(
                "batch=False",
                "a Dice loss over the batch, as the pixels are weighed in the whole batch",
                "pass slice_share for a share of the slices' own losses",
            )
        )
    return DiceLoss(**options)


def _true_class_probability(reference: Reference, y_pred: Any) -> Any:
    """Return `(batch, height, width)`: what the model gives to the class that each pixel has, at least 1e-7."""
    y_true = reference.channels
    if y_pred.shape[-1] == 1:
        likely = (y_true * y_pred + (1 - y_true) * (1 - y_pred))[..., 0]
    else:
        likely = ops.sum(y_true * y_pred, axis=-1)
    return ops.clip(likely, _LEAST, 1.0)


def _weighted(costs: Any, reference: Reference, class_weights: Sequence[float] | None) -> Any:
    """Weigh the costs `(batch, height, width)` of the pixels by their classes; one that is not annotated has none."""
    if class_weights is not None:
        channels = reference.channels.shape[-1]
        background = [1.0] if len(class_weights) == channels - 1 else []
        factors = organ_factors([*background, *class_weights], channels, costs.dtype)
        costs = costs * ops.sum(reference.channels * factors, axis=-1)
    return costs if reference.kept is None else costs * reference.kept[..., 0]


def _hard_pixels(pixels: int | None, costs: Any, share: float) -> Any:
    if pixels is None:  # TensorFlow does not know the size of the batch while it traces
        return ops.cast(ops.ceil(share * ops.cast(ops.shape(costs)[0], "float32") - 1e-3), "int32")
    return max(1, math.ceil(share * pixels - 1e-3))


def _check(name: str, value: float, sound: bool, expected: str) -> None:
    if not sound:
        raise ValueError(explain(f"{name}={value}", expected, "leave it out for the usual value"))
