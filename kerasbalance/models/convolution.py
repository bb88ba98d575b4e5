"""Convolutions whose initial weights are the same on every backend."""

import math
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops

CHANNELS_LAST = {"data_format": "channels_last"}


@keras.saving.register_keras_serializable("kerasbalance")
class SeededHeNormal(keras.initializers.Initializer):  # type: ignore[misc]  # untyped
    """He's normal initial weights, drawn by NumPy: a function of the seed and the shape on every backend.

    Keras' own draw differs between backends for one seed, and on JAX compiles a program for every shape of
    kernel, half a minute for a U-Net.

    Args:
        seed: Seed of NumPy's generator: a tuple of integers of at least 0.
        fan_in: Number of inputs that one output sums over. The variance is `2 / fan_in`.

    Reference:
        He et al., "Delving Deep into Rectifiers", ICCV 2015, doi 10.1109/ICCV.2015.123.
    """

    def __init__(self, seed: tuple[int, ...], fan_in: int) -> None:
        self.seed = tuple(seed)
        self.fan_in = int(fan_in)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Draw the weights."""
        values = np.random.default_rng(self.seed).standard_normal(shape, dtype="float32")
        values *= math.sqrt(2 / self.fan_in)
        return ops.convert_to_tensor(values, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this initialiser."""
        return {"seed": list(self.seed), "fan_in": self.fan_in}


def convolution(features: Any, filters: int, size: int, *, name: str, seed: int, **options: Any) -> Any:
    """Apply a convolution that keeps the image size.

    Args:
        features: `(batch, height, width, channels)`.
        filters: Output channels.
        size: Side of the kernel in pixels.
        name: Name of the layer, which with `seed` determines its initial weights.
        seed: Seed of the network.
        **options: Passed to `keras.layers.Conv2D`.

    Returns:
        `(batch, height, width, filters)`.
    """
    options.setdefault("kernel_initializer", _start(seed, name, size * size * features.shape[-1]))
    return keras.layers.Conv2D(filters, size, padding="same", name=name, **CHANNELS_LAST, **options)(features)


def up_convolution(features: Any, filters: int, *, name: str, seed: int) -> Any:
    """Double height and width by a transposed convolution with a 2 x 2 kernel.

    Args:
        features: `(batch, height, width, channels)`.
        filters: Output channels.
        name: Name of the layer, which with `seed` determines its initial weights.
        seed: Seed of the network.

    Returns:
        `(batch, 2 * height, 2 * width, filters)`.
    """
    # Kernels do not overlap at stride 2: one output sums over the channels of one pixel.
    start = _start(seed, name, features.shape[-1])
    layer = keras.layers.Conv2DTranspose(
        filters, 2, strides=2, kernel_initializer=start, name=name, **CHANNELS_LAST
    )
    return layer(features)


def dropout_seed(seed: int, name: str) -> int:
    """Derive the seed of a dropout layer, 0 to 2**31 - 1, from the network's seed and the layer's name."""
    return int(np.random.SeedSequence(_seed_of(seed, name)).generate_state(1)[0] >> 1)


def _start(seed: int, name: str, fan_in: int) -> SeededHeNormal:
    return SeededHeNormal(_seed_of(seed, name), fan_in)


def _seed_of(seed: int, name: str) -> tuple[int, int]:
    if seed < 0:
        raise ValueError(f"Received seed={seed}; expected an integer of at least 0.")
    return seed, zlib.crc32(name.encode())
