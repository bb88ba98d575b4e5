"""Batch normalisation in one pass on torch, where Keras makes a dozen over the feature map."""

from typing import Any


def normalize_batch(inputs: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalise the channels of a batch by torch's own operation.

    Args:
        inputs: Torch tensor ``(batch, height, width, channels)``, float32.
        scale: ``(channels,)``.
        offset: ``(channels,)``.
        epsilon: Added to the variance.

    Returns:
        The normalised batch in the layout of ``inputs``, and mean and variance (over all pixels, not their
        number less one) of each channel, detached.
    """
    import torch

    # The permutation is a view: channels-last memory is what torch makes of it.
    outputs, mean, inverse_deviation = torch.native_batch_norm(
        inputs.permute(0, 3, 1, 2), scale, offset, None, None, True, 0.0, epsilon
    )
    variance = inverse_deviation.detach().pow(-2) - epsilon
    return outputs.permute(0, 2, 3, 1), mean.detach(), variance.clamp(min=0)
