"""Several networks, each on several flips of the image, as one model."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasbalance.batches.index import FLIP_CODES, flip_codes
from kerasbalance.errors import explain


@keras.saving.register_keras_serializable("kerasbalance")
class Mirror(keras.layers.Layer):  # type: ignore[misc]  # untyped
    """Mirrors images left and right, up and down, or both; twice gives the image back.

    Args:
        flip: "horizontal", "vertical" or "both", as in `IndexedDataset`.
        **kwargs: Name and the like, as for any Keras layer.

    Input: `(batch, height, width, channels)`, any type.

    Output: The same shape and type.

    Example:
        >>> import numpy as np
        >>> ops.convert_to_numpy(Mirror("horizontal")(np.array([[[[1], [2]]]]))).ravel()
        array([2, 1])
    """

    def __init__(self, flip: str, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.flip = flip
        code = FLIP_CODES[flip]
        self._axes = [axis for bit, axis in ((1, 2), (2, 1)) if code & bit]

    def call(self, inputs: Any) -> Any:
        """Mirror."""
        return ops.flip(inputs, axis=self._axes)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this layer."""
        return {**super().get_config(), "flip": self.flip}


def average(models: Sequence[Any], flips: Sequence[str] = ("none",)) -> Any:
    """Build one model whose output is the mean of the outputs of several, each on several flips of the image.

    Outputs are averaged as they are: probabilities stay probabilities. The model shares the variables of its
    members; it scores, predicts, saves and exports like any other. Its cost is that of all members times the flips.

    Args:
        models: Models with one input `(batch, height, width, channels)` and one output `(batch, height, width,
            classes)`, of the same shapes.
        flips: Distinct names out of "none", "horizontal", "vertical" and "both". A network should only see flips
            that it was trained with: an organ has a side.

    Returns:
        A `keras.Model` from the members' input to a float32 output of their shape.

    Raises:
        ValueError: If there is no model, the shapes differ, or a flip is unknown or named twice.

    Example:
        >>> import kerasbalance as kb
        >>> members = [kb.models.unet((32, 32, 1), base_filters=1, seed=seed) for seed in (0, 1)]
        >>> kb.models.average(members, flips=("none", "horizontal")).output_shape
        (None, 32, 32, 1)
    """
    flip_codes(flips)
    shapes = [(tuple(model.input_shape), tuple(model.output_shape)) for model in models]
    if len(set(shapes)) != 1 or len(shapes[0][1]) != 4 or shapes[0][0][1:3] != shapes[0][1][1:3]:
        raise ValueError(
            explain(
                f"models of inputs and outputs {shapes}",
                "at least one model, all of one shape (batch, height, width, channels), outputs as large as inputs",
                "build all of them for slices of the same size",
            )
        )
    image = keras.Input(shapes[0][0][1:], dtype=models[0].inputs[0].dtype, name="hu")
    # A model of the same layers under a name of its own: Keras allows no name twice in one graph.
    members = [keras.Model(m.inputs[0], m.outputs[0], name=f"member_{n}") for n, m in enumerate(models)]
    found = [output for flip in flips for output in _on_flip(members, image, flip)]
    mean = keras.layers.Average(dtype="float32", name="mean")(found) if len(found) > 1 else found[0]
    return keras.Model(image, mean, name="average")


def _on_flip(members: Sequence[Any], image: Any, flip: str) -> list[Any]:
    """Return the outputs of all members for one flip, turned back."""
    if flip == "none":
        return [member(image) for member in members]
    mirror = Mirror(flip, name=f"mirror_{flip}", dtype="float32")
    turned = mirror(image)
    return [mirror(member(turned)) for member in members]
