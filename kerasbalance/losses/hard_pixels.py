"""Dice joined with a cross-entropy that dwells on hard pixels: what one would otherwise try in place of mining.

Mining chooses slices, these losses weigh pixels; they are here to be compared with it at equal cost.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasbalance.losses.channels import as_channels
from kerasbalance.losses.dice import dice_loss

_LEAST = 1e-7
"""Probabilities are kept this far from 0, so that the logarithm of a sure error stays finite."""


def focal_loss(y_true: Any, y_pred: Any, *, gamma: float = 2.0) -> Any:
    """Compute the focal loss: cross-entropy weighted with `(1 - p) ** gamma`, averaged over all pixels.

    `p` is the probability that the model gives to a pixel's true class.

    Args:
        y_true: Labels or channels, as for `dice_loss`.
        y_pred: Probabilities `(batch, height, width, channels)`: sigmoid for one channel, softmax for several.
        gamma: 0 or more; 0 is the plain cross-entropy.

    Returns:
        The loss, `(1,)`, float32.

    Raises:
        ValueError: If shapes do not fit or `gamma` is negative or not finite.

    Example:
        >>> import numpy as np
        >>> round(float(focal_loss(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.5))[0]), 4)
        0.1733

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, doi 10.1109/ICCV.2017.324 (without the
        class weight alpha).
    """
    _check("gamma", gamma, 0 <= gamma < math.inf, "a finite number of at least 0")
    likely = _true_class_probability(y_true, y_pred)
    return ops.reshape(ops.mean(-ops.log(likely) * (1 - likely) ** gamma), (1,))


def top_k_loss(y_true: Any, y_pred: Any, *, share: float = 0.1) -> Any:
    """Compute the mean cross-entropy of the hardest pixels of the batch: online hard example mining by pixel.

    Args:
        y_true: Labels or channels, as for `dice_loss`.
        y_pred: Probabilities `(batch, height, width, channels)`: sigmoid for one channel, softmax for several.
        share: Share of the batch's pixels that count, above 0 to 1; rounded up to a whole pixel.

    Returns:
        The loss, `(1,)`, float32. Of pixels that tie for the last place any may count: the value is the same.

    Raises:
        ValueError: If shapes do not fit or `share` is out of range.

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
    costs = ops.reshape(-ops.log(_true_class_probability(y_true, y_pred)), (-1,))
    pixels = costs.shape[0]
    if pixels is None:  # TensorFlow does not know the size of the batch while it traces
        kept = ops.cast(ops.ceil(share * ops.cast(ops.shape(costs)[0], "float32") - 1e-3), "int32")
    else:
        kept = max(1, math.ceil(share * pixels - 1e-3))
    return ops.reshape(ops.mean(ops.top_k(costs, kept, sorted=False)[0]), (1,))


class _DicePlus(keras.losses.Loss):  # type: ignore[misc]  # untyped
    """The batch Dice loss plus another loss of the same batch, each with weight 1."""

    def __init__(self, other: Callable[..., Any], name: str, reduction: str, **options: float) -> None:
        super().__init__(name=name, reduction=reduction)
        self._other, self._options = other, options

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss; Keras calls this."""
        if sample_weight is not None:
            raise ValueError(
                "Received sample_weight; expected none, since the hard pixels are chosen from the whole batch. "
                "Use DiceLoss, or leave the weights out."
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the loss before Keras reduces it."""
        return dice_loss(y_true, y_pred) + self._other(y_true, y_pred, **self._options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this loss."""
        return {"name": self.name, "reduction": self.reduction, **self._options}


@keras.saving.register_keras_serializable("kerasbalance")
class DiceFocalLoss(_DicePlus):
    """The batch Dice loss plus the focal loss; see `kerasbalance.losses.focal_loss`.

    Args:
        gamma: How strongly easy pixels are played down, 0 or more.
        name: Name of the loss.
        reduction: As for any Keras loss.

    Raises:
        ValueError: If `gamma` is negative; when called, for shapes that do not fit or a `sample_weight`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
        >>> model.compile("sgd", loss=DiceFocalLoss())
    """

    def __init__(
        self, gamma: float = 2.0, name: str = "dice_focal_loss", reduction: str = "sum_over_batch_size"
    ) -> None:
        _check("gamma", gamma, 0 <= gamma < math.inf, "a finite number of at least 0")
        super().__init__(focal_loss, name, reduction, gamma=gamma)


@keras.saving.register_keras_serializable("kerasbalance")
class DiceTopKLoss(_DicePlus):
    """The batch Dice loss plus the cross-entropy of the hardest pixels; see `kerasbalance.losses.top_k_loss`.

    Args:
        share: Share of the batch's pixels that count in the cross-entropy, above 0 to 1.
        name: Name of the loss.
        reduction: As for any Keras loss.

    Raises:
        ValueError: If `share` is out of range; when called, for shapes that do not fit or a `sample_weight`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
        >>> model.compile("sgd", loss=DiceTopKLoss(share=0.1))
    """

    def __init__(
        self, share: float = 0.1, name: str = "dice_top_k_loss", reduction: str = "sum_over_batch_size"
    ) -> None:
        _check("share", share, 0 < share <= 1, "a share of the pixels above 0, at most 1")
        super().__init__(top_k_loss, name, reduction, share=share)


def _true_class_probability(y_true: Any, y_pred: Any) -> Any:
    """Return `(batch, height, width)`: what the model gives to the class that each pixel has, at least 1e-7."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_pred = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, "float32"))
    y_true = as_channels(y_true, y_pred)
    if y_pred.shape[-1] == 1:
        likely = (y_true * y_pred + (1 - y_true) * (1 - y_pred))[..., 0]
    else:
        likely = ops.sum(y_true * y_pred, axis=-1)
    return ops.clip(likely, _LEAST, 1.0)


def _check(name: str, value: float, sound: bool, expected: str) -> None:
    if not sound:
        raise ValueError(f"Received {name}={value}; expected {expected}. Leave it out for the usual value.")
