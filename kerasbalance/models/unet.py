"""U-Net for CT slices."""

from functools import partial
from typing import Any

import keras

from kerasbalance.models.convolution import CHANNELS_LAST, convolution, up_convolution
from kerasbalance.models.ends import image_input, probabilities, unique_name
from kerasbalance.models.normalization import FastBatchNormalization
from kerasbalance.models.window import HUWindow

_LEVELS = 4


def unet(
    input_shape: tuple[int, int, int],
    num_classes: int = 1,
    *,
    base_filters: int = 64,
    window_hu: tuple[float, float] = (-150, 250),
    batch_norm: bool = True,
    seed: int = 0,
) -> Any:
    """Build the U-Net: four levels down, four up, two 3 x 3 convolutions at each, 2 x 2 up-convolutions.

    Convolutions are padded, so that the output has the size of the input. With `batch_norm=False` and 64
    filters it has the 31,030,593 weights of the published network with one channel in and one out. Batch
    normalisation, then without biases in the normalised convolutions, is the default since it lets SGD train
    from scratch at rates that the plain network does not survive; its statistics follow the last ten batches
    or so (momentum 0.9), because the slices are scored with them in the middle of training.

    Args:
        input_shape: `(height, width, channels)`, both sides divisible by 16. One channel is the slice; more are the
            slice in the middle and its neighbours, each in the same window.
        num_classes: Output channels: 1 for one organ (sigmoid), or the number of organs plus 1 (softmax),
            with the background in channel 0 and label `k` in channel `k`.
        base_filters: Filters of the first level; they double at each of the four levels below.
        window_hu: Window that `HUWindow` scales to 0 .. 1, lower end first.
        batch_norm: Whether each 3 x 3 convolution is normalised.
        seed: Determines the initial weights, the same on every backend. Keras' global seed has no effect.

    Returns:
        A `keras.Model` from int16 Hounsfield units `(batch, height, width, channels)` to float32 probabilities
        `(batch, height, width, num_classes)`.

    Raises:
        ValueError: If a side is not divisible by 16, a number is below 1, the window is reversed or the seed
            negative.

    Example:
        >>> model = unet((128, 128, 1), base_filters=8)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        doi 10.1007/978-3-319-24574-4_28.
    """
    image = image_input(input_shape, 2**_LEVELS, num_classes, base_filters)
    features = HUWindow(window_hu, name="window")(image)
    two_convolutions = partial(_two_convolutions, batch_norm=batch_norm, seed=seed)
    skips = []
    for level in range(_LEVELS):
        features = two_convolutions(features, base_filters * 2**level, f"down{level + 1}")
        skips.append(features)
        features = keras.layers.MaxPooling2D(2, name=f"pool{level + 1}", **CHANNELS_LAST)(features)
    features = two_convolutions(features, base_filters * 2**_LEVELS, "bottom")
    for level in reversed(range(_LEVELS)):
        features = up_convolution(features, base_filters * 2**level, name=f"up{level + 1}", seed=seed)
        features = keras.layers.Concatenate(name=f"join{level + 1}")([skips[level], features])
        features = two_convolutions(features, base_filters * 2**level, f"up{level + 1}")
    logits = convolution(features, num_classes, 1, name="score", seed=seed)
    return keras.Model(image, probabilities(logits), name=unique_name("unet"))


def _two_convolutions(features: Any, filters: int, name: str, *, batch_norm: bool, seed: int) -> Any:
    for number in (1, 2):
        stem = f"{name}_conv{number}"
        features = convolution(features, filters, 3, name=stem, seed=seed, use_bias=not batch_norm)
        if batch_norm:
            features = FastBatchNormalization(momentum=0.9, name=f"{stem}_norm")(features)
        features = keras.layers.Activation("relu", name=f"{stem}_relu")(features)
    return features
