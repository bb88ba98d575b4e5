"""The buffers of torch modules inside a Keras model, such as running means: a step changes them, Keras knows none."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def buffers(model: Any) -> list[Any]:
    """Return the buffers as torch tensors, in the order of the layers; none on other backends."""
    if keras.config.backend() != "torch":
        return []
    found: dict[int, Any] = {}
    for part in _parts(model):
        for _, buffer in part.named_buffers():
            found.setdefault(id(buffer), buffer)
    return list(found.values())


def set_buffers(model: Any, arrays: list[NDArray[Any]]) -> None:
    """Give the buffers other values, in the order of `buffers`."""
    import torch

    with torch.no_grad():
        for buffer, array in zip(buffers(model), arrays, strict=True):
            buffer.copy_(torch.from_numpy(np.array(array)))


def as_arrays(model: Any) -> list[NDArray[Any]]:
    """Return copies of the buffers."""
    return [buffer.detach().cpu().numpy().copy() for buffer in buffers(model)]


def _parts(model: Any) -> list[Any]:
    parts = [model]
    for layer in getattr(model, "layers", []):
        parts += _parts(layer)
    return parts
