"""Inference in bounded memory: few slices at a time, and feature maps that are released after their last use.

A functional Keras model on torch, which runs it operation by operation, keeps every feature map until the call ends:
16 slices of 512 x 512 through a U-Net of 8 filters take 3.8 GB. TensorFlow and JAX compile the model and release by
themselves.
"""

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerasbalance.backend.devices import replicas, spread
from kerasbalance.backend.private import private_name
from kerasbalance.backend.processes import process_share
from kerasbalance.backend.torch_layout import spared_layout_copies

MAP_BYTES = 16 * 2**20
"""The largest feature map of a batch. The C library asks the system for each block above 32 MiB anew, and then half of
the CPU time is spent on handing out and clearing memory."""


def slices_at_a_time(model: Any, most: int) -> int:
    """Return how many slices a batch may hold, so that its largest feature map takes at most `MAP_BYTES`.

    Args:
        model: A functional Keras model with known height and width. Another model is given `most` slices.
        most: The largest number to return, at least 1.

    Returns:
        A number from 1 to `most`; 1 also where a single slice takes more. Several devices share a batch: each gets
        as many, and `most` is rounded up to a multiple of their number.

    Example:
        >>> inputs = keras.Input((512, 512, 1))
        >>> slices_at_a_time(keras.Model(inputs, keras.layers.Conv2D(8, 3)(inputs)), 16)
        2
    """
    sizes = [4 * math.prod(shape) for shape in _map_shapes(model) if None not in shape]
    shares = replicas(model)
    return shares * max(1, min(-(-most // shares), MAP_BYTES // max(sizes, default=1)))


def call_releasing(model: Any, x: Any) -> Any:
    """Call a model for inference; on torch each feature map of a functional model is released after its last use.

    Args:
        model: A Keras model.
        x: Its input, a tensor or an array.

    Returns:
        What `model(x, training=False)` returns, bit by bit.
    """
    nodes = _nodes(model) if keras.backend.backend() == "torch" else []
    if not nodes or len(model.inputs) != 1 or len(model.outputs) != 1:
        return model(x, training=False)
    left = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    left[id(model.outputs[0])] += 1
    maps = {id(model.inputs[0]): ops.convert_to_tensor(x, dtype=model.inputs[0].dtype)}
    for node in nodes:
        arguments, options = node.arguments.fill_in(maps)
        if _nodes(node.operation):
            maps[id(node.outputs[0])] = call_releasing(node.operation, arguments[0])
        else:
            if "training" in getattr(node.operation, "_call_context_args", ()):
                options["training"] = False
            maps[id(node.outputs[0])] = node.operation(*arguments, **options)
        del arguments
        for tensor in node.input_tensors:
            left[id(tensor)] -= 1
            if not left[id(tensor)]:
                maps.pop(id(tensor), None)
    return maps[id(model.outputs[0])]


def predict_batch(model: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Return a model's output for one batch as an array, without gradients and in little memory.

    Args:
        model: A Keras model with one input and one output.
        x: `(batch, ...)`; on TensorFlow and JAX every new shape is compiled. Several devices divide it.

    Returns:
        An array `(batch, ...)`.
    """
    if keras.backend.backend() != "torch":
        # Several processes compute the whole batch each: their shares would have to be brought together again.
        return np.asarray(model.predict_on_batch(x if process_share()[1] > 1 else spread(x, model)))
    import torch

    with torch.no_grad(), spared_layout_copies():
        return np.asarray(ops.convert_to_numpy(call_releasing(model, x)))


def _map_shapes(model: Any) -> Iterator[Any]:
    """Yield the shape of each feature map of a slice, also of models that are part of the model."""
    for node in _nodes(model):
        yield from (output.shape[1:] for output in node.outputs)
        yield from _map_shapes(node.operation)


def _nodes(model: Any) -> list[Any]:
    """Return the operations of a functional model in the order of their execution; of any other model nothing."""
    if getattr(type(model), "call", None) is not _functional().call:
        return []
    by_depth = private_name(model, "_nodes_by_depth")
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    single = all(len(node.outputs) == 1 for node in nodes)
    return [node for node in nodes if not node.is_input] if single else []


@cache
def _functional() -> Any:
    """Return the class of models that are made from inputs and outputs; Keras has no public name for it."""
    inputs = keras.Input((1,))
    return type(keras.Model(inputs, inputs))
