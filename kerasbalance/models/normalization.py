"""Batch normalisation at full speed on every backend."""

from typing import Any

import keras
from keras import ops

from kerasbalance.torch_batch_norm import normalize_batch


@keras.saving.register_keras_serializable("kerasbalance")
class FastBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # untyped
    """``keras.layers.BatchNormalization`` of images, by torch's own operation when torch trains.

    Values, gradients, moving statistics and saved weights are those of Keras' layer, and elsewhere it *is*
    that layer. On torch, Keras composes it of many passes over the feature map, a fifth of a U-Net's step. It
    takes ``(batch, height, width, channels)`` and normalises the last axis; arguments are those of Keras'
    layer.

    Example:
        >>> layer = FastBatchNormalization(momentum=0.9)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the batch in training, else by the moving statistics."""
        fast = keras.backend.backend() == "torch" and len(inputs.shape) == 4 and self.axis in (-1, 3)
        if not (fast and training and self.trainable and self.scale and self.center) or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        inputs = ops.cast(inputs, "float32")
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        outputs, mean, variance = normalize_batch(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(ops.cast(moving, "float32") * self.momentum + batch * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)
