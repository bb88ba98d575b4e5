"""FCN-8s on VGG-16 for CT slices."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasbalance.models.convolution import CHANNELS_LAST, convolution, dropout_seed
from kerasbalance.models.ends import image_input, probabilities, unique_name
from kerasbalance.models.window import HUWindow

# Filters of the blocks in units of base_filters, and convolutions of each.
_BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
_VGG_FILTERS = 64
# Mean blue, green and red of ImageNet, which VGG-16 subtracts from 0 .. 255.
_IMAGENET_MEAN = (103.939, 116.779, 123.68)
# A power of two, so that dividing the input and multiplying the first kernel by it rounds nothing.
_INPUT_SCALE = 128.0


def fcn_vgg16(
    input_shape: tuple[int, int, int],
    num_classes: int = 1,
    *,
    base_filters: int = 64,
    window_hu: tuple[float, float] = (-150, 250),
    weights: str | os.PathLike[str] | None = None,
    dropout: float = 0.5,
    seed: int = 0,
) -> Any:
    """Build FCN-8s: VGG-16 as convolutions, scores at 1/32, 1/16 and 1/8 of the size, fused while they grow.

    As published but for two things: convolutions are padded to keep the size (the original pads the image by
    100 pixels and crops), and all up-sampling is fixed bilinear interpolation (the original learns two of the
    three steps from that start). The score layers start at zero, as published: an untrained network gives the
    same probability everywhere, and SGD then learns at rates that diverge from random scores. The window is
    copied to the three channels of VGG-16, less ImageNet's mean. Without its score layers the network has the
    134,260,544 weights of VGG-16 without its last layer.

    Args:
        input_shape: `(height, width, channels)`, both sides divisible by 32. One channel is the slice; more are the
            slice in the middle and its neighbours, each copied to the three channels of VGG-16.
        num_classes: Output channels: 1 for one organ (sigmoid), or the number of organs plus 1 (softmax),
            with the background in channel 0 and label `k` in channel `k`.
        base_filters: Filters of the first block, 64 in VGG-16; the two widest layers have 64 times as many.
        window_hu: Window that `HUWindow` scales to 0 .. 1, lower end first.
        weights: File with ImageNet weights of `keras.applications.VGG16(include_top=False)`, in any layout
            that Keras loads. It fills the 13 convolutions of VGG-16; the layers after them start at random.
            Needs `base_filters=64`. `None` starts everything at random.
        dropout: Share of channels' values dropped after each of the two widest layers, 0 to below 1.
        seed: Determines the initial weights, the same on every backend, and what the dropout drops. Keras'
            global seed has no effect.

    Returns:
        A `keras.Model` from int16 Hounsfield units `(batch, height, width, channels)` to float32 probabilities
        `(batch, height, width, num_classes)`.

    Raises:
        FileNotFoundError: If there is no file at `weights`.
        ValueError: If a side is not divisible by 32, a number is out of range, the window is reversed, or the
            file does not hold the weights of VGG-16.

    Example:
        >>> model = fcn_vgg16((128, 128, 1), base_filters=4)
        >>> model.output_shape
        (None, 128, 128, 1)

    Reference:
        Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
        doi 10.1109/CVPR.2015.7298965.
    """
    path = None if weights is None else _weights_path(weights, base_filters)
    image = image_input(input_shape, 32, num_classes, base_filters)
    features = _three_channels(HUWindow(window_hu, name="window")(image))
    relu_convolution = partial(convolution, seed=seed, activation="relu")
    pools = []
    for block, (factor, depth) in enumerate(_BLOCKS, start=1):
        for number in range(1, depth + 1):
            name = f"block{block}_conv{number}"
            features = relu_convolution(features, base_filters * factor, 3, name=name)
        features = keras.layers.MaxPooling2D(2, name=f"block{block}_pool", **CHANNELS_LAST)(features)
        pools.append(features)
    for name, size in (("fc6", 7), ("fc7", 1)):
        features = relu_convolution(features, 64 * base_filters, size, name=name)
        features = keras.layers.Dropout(dropout, seed=dropout_seed(seed, f"{name}_dropout"))(features)
    logits = _fuse({"fc7": features, "pool4": pools[3], "pool3": pools[2]}, num_classes)
    model = keras.Model(image, probabilities(logits), name=unique_name("fcn_vgg16"))
    if path is not None:
        _load_vgg16(model, path)
    return model


def _three_channels(window: Any) -> Any:
    """Give each channel of a window of 0 .. 1 the channels and the mean of VGG-16, at 1/128 of its range."""
    gray = keras.layers.Concatenate(name="three_channels")([window, window, window])
    offset = [-mean / _INPUT_SCALE for mean in _IMAGENET_MEAN for _ in range(window.shape[-1])]
    return keras.layers.Rescaling(255 / _INPUT_SCALE, offset, name="imagenet_scale")(gray)


def _fuse(features: dict[str, Any], num_classes: int) -> Any:
    """Score the coarsest features, then grow, add the scores of each finer level, and grow to full size."""
    total = None
    for name, level in features.items():
        score = partial(convolution, name=f"score_{name}", seed=0, kernel_initializer="zeros")
        scores = score(level, num_classes, 1)
        if total is not None:
            total = _grow(total, 2, f"grow_to_{name}")
            scores = keras.layers.Add(name=f"fuse_{name}")([total, scores])
        total = scores
    return _grow(total, 8, "grow_to_image")


def _grow(scores: Any, factor: int, name: str) -> Any:
    return keras.layers.UpSampling2D(factor, interpolation="bilinear", name=name, **CHANNELS_LAST)(scores)


def _weights_path(weights: str | os.PathLike[str], base_filters: int) -> Path:
    if base_filters != _VGG_FILTERS:
        raise ValueError(
            f"Received weights={str(weights)!r} with base_filters={base_filters}; expected base_filters=64, "
            "the width of VGG-16. Leave out one of the two."
        )
    if not Path(weights).is_file():
        raise FileNotFoundError(f"Received weights={str(weights)!r}; expected a file. Check the path.")
    return Path(weights)


def _load_vgg16(model: Any, path: Path) -> None:
    """Copy the convolutions of a VGG-16 from a file, the first one scaled to our range of input values."""
    try:
        donor = keras.applications.VGG16(include_top=False, weights=str(path))
    except Exception as error:  # h5py, zipfile and Keras each raise their own kinds
        raise ValueError(
            f"Received weights={str(path)!r}, which Keras cannot load into VGG-16; expected a file with the "
            "weights of keras.applications.VGG16(include_top=False)."
        ) from error
    for layer in donor.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            if (
                layer.name == "block1_conv1"
            ):  # each of its channels is shared among the slice and its neighbours
                slices = model.input_shape[-1]
                kernel = np.repeat(kernel, slices, axis=2) * (_INPUT_SCALE / slices)
            model.get_layer(layer.name).set_weights([kernel, bias])
