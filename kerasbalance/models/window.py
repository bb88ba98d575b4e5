"""The CT window as a layer, so that a saved model takes Hounsfield units."""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerasbalance")
class HUWindow(keras.layers.Layer):  # type: ignore[misc]  # untyped
    """Clip Hounsfield units to a window and scale it to 0 .. 1.

    The arithmetic is float32 whatever the precision of the network; the result has the layer's compute type.
    bfloat16 tells apart about 1 HU in the middle of a window 400 HU wide, 2 HU at its upper end.

    Args:
        window_hu: Lower and upper end in HU, lower first.
        **kwargs: Name, dtype and the like, as for any Keras layer.

    Input: `(batch, height, width, channels)`, int16 HU or any other number type.

    Output: The same shape, 0 at and below the lower end, 1 at and above the upper one.

    Raises:
        ValueError: If the window is empty, reversed or not finite.

    Example:
        >>> import numpy as np
        >>> air_and_liver = np.array([[[[-1000], [50]]]], dtype="int16")
        >>> [float(value) for value in ops.reshape(HUWindow((-150, 250))(air_and_liver), (-1,))]
        [0.0, 0.5]
    """

    def __init__(self, window_hu: tuple[float, float] = (-150, 250), **kwargs: Any) -> None:
        # Keras would round float inputs to half precision before they are clipped.
        super().__init__(autocast=False, **kwargs)
        ends = tuple(float(end) for end in window_hu)
        if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
            raise ValueError(
                f"Received window_hu={window_hu}; expected two finite HU values, the lower one first. "
                "The liver window of the paper is (-150, 250)."
            )
        self.window_hu = ends

    def call(self, inputs: Any) -> Any:
        """Clip and scale."""
        low, high = self.window_hu
        hu = ops.clip(ops.cast(inputs, "float32"), low, high)
        return ops.cast((hu - low) / (high - low), self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shape of the input in the compute type."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this layer."""
        return {**super().get_config(), "window_hu": list(self.window_hu)}
