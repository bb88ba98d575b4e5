"""What the networks here share: Hounsfield units in, probabilities out."""

from typing import Any

import keras
import numpy as np


def image_input(input_shape: tuple[int, int, int], stride: int, num_classes: int, base_filters: int) -> Any:
    """Check what a network is asked for and make its input.

    Args:
        input_shape: `(height, width, channels)`, height and width divisible by `stride`. One channel is the slice;
            more are the slice in the middle and its neighbours.
        stride: Pixels of the input to one of the smallest feature map.
        num_classes: Output channels, at least 1.
        base_filters: Filters of the first level, at least 1.

    Returns:
        A Keras input of int16 Hounsfield units, `(batch, height, width, channels)`.

    Raises:
        ValueError: If a number is too small or a side is not divisible by the stride.
    """
    for name, number in (("num_classes", num_classes), ("base_filters", base_filters)):
        if not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"Received {name}={number!r}; expected an integer of at least 1.")
    shape = tuple(input_shape)
    if (
        len(shape) != 3
        or not shape[2]
        or shape[2] < 1
        or not all(side and side % stride == 0 for side in shape[:2])
    ):
        raise ValueError(
            f"Received input_shape={shape}; expected (height, width, channels), both sides divisible by {stride}. "
            "Crop or pad the slices, with air (-1024 HU) at the border."
        )
    return keras.Input(shape, dtype="int16", name="hu")


def probabilities(logits: Any) -> Any:
    """End a network: a sigmoid for one channel, a softmax for several, in float32 under any precision.

    Args:
        logits: `(batch, height, width, channels)`.

    Returns:
        Probabilities of the same shape, float32.
    """
    activation = "sigmoid" if logits.shape[-1] == 1 else "softmax"
    return keras.layers.Activation(activation, dtype="float32", name="probability")(logits)


def unique_name(name: str) -> str:
    """Return a name for a network: as given the first time, then with a number, as Keras names layers.

    Two networks of one name could not be part of one graph.
    """
    number = keras.backend.get_uid(name)
    return name if number == 1 else f"{name}_{number - 1}"
