"""Batch normalisation in one pass on TensorFlow and torch, where Keras makes a dozen over the feature map."""

from typing import Any


def tensorflow_batch_norm(inputs: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise the channels of a batch by TensorFlow's own operation.

    Args:
        inputs: Tensor `(batch, height, width, channels)`, float32 or of half precision.
        scale: `(channels,)`, float32.
        offset: `(channels,)`, float32.
        epsilon: Added to the variance.

    Returns:
        The normalised batch, and mean and variance (over all pixels, not their number less one) of each
        channel, detached.
    """
    import tensorflow as tf

    nothing = tf.zeros(0)
    outputs, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=nothing,
        variance=nothing,
        epsilon=epsilon,
        is_training=True,
    )
    pixels = tf.cast(tf.size(inputs) / tf.size(scale), "float32")
    variance = tf.stop_gradient(unbiased) * ((pixels - 1) / pixels)
    return outputs, tf.stop_gradient(mean), variance


def torch_batch_norm(inputs: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise the channels of a batch by torch's own operation; as `tensorflow_batch_norm`."""
    import torch

    # The permutation is a view: channels-last memory is what torch makes of it.
    outputs, mean, inverse_deviation = torch.native_batch_norm(
        inputs.permute(0, 3, 1, 2), scale, offset, None, None, True, 0.0, epsilon
    )
    variance = inverse_deviation.detach().pow(-2) - epsilon
    return outputs.permute(0, 2, 3, 1), mean.detach(), variance.clamp(min=0)
