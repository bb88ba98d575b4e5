"""Spares Keras on torch the copies of feature maps and kernels around 2D operations in channels-last layout.

Keras 3.15 brings a channels-last tensor to torch's axis order with `permute(...).contiguous()`: one copy
into the NCHW layout, after which a convolution makes a second one back into channels-last memory, which the
first copy destroyed. The bare `permute` is a view that already *is* channels-last memory. Outputs are
equal; a training step of a U-Net on the CPU takes a quarter less time. Keras mended this after 3.15.1 (pull
request 23199), so the replacement is made only where the function still copies.

Kernels lie in memory as (height, width, in, out), torch convolves them as (out, height, width, in): each step copies
every kernel one way and its gradient the other way. The shape says nothing of the memory, so a kernel may lie as torch
wants it and still be (height, width, in, out) to Keras. A step of FCN-8s then takes a third less time, one of a U-Net a
twentieth.
"""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

_MODULE = "keras.src.backend.torch.nn"
_FUNCTION = "_transpose_spatial_inputs"
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)


@contextmanager
def spared_layout_copies() -> Iterator[bool]:
    """Replace the copying transposition of Keras' torch backend by a view, where it is the known one.

    `kerasbalance.fit` and `kerasbalance.score_slices` do this by themselves; use it around a `fit` or `predict`
    of your own. Inside the block it holds for the whole process; afterwards Keras' own function is back. Neither
    results nor saved files change. 1D and 3D operations stay as they are.

    Yields:
        Whether the view is in place. False on the other backends, and with a Keras that differs from the
        known one, which is then left alone.

    Example:
        >>> with spared_layout_copies() as in_place:
        ...     pass  # model.fit(...)
    """
    found = _copying_function()
    if found is None:
        yield False
        return
    module, original = found
    if original.__module__ == __name__:  # a block around this one has replaced it
        yield True
        return

    def transpose_spatial_inputs(inputs: Any) -> Any:
        return inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else original(inputs)

    setattr(module, _FUNCTION, transpose_spatial_inputs)
    try:
        yield True
    finally:
        setattr(module, _FUNCTION, original)


def lay_out_kernels(model: Any) -> None:
    """Lay the kernels of a model's 2D convolutions out in memory as torch convolves them.

    Variables of the optimizer that have the shape of such a kernel follow, since both are added in each step. Shapes,
    values and saved files stay as they are; on other backends nothing happens. `kerasbalance.fit` calls it.

    Args:
        model: A built Keras model, whose optimizer is built.
    """
    if keras.config.backend() != "torch":
        return
    kernels = [layer.kernel for layer in _layers(model) if isinstance(layer, _CONVOLUTIONS)]
    shapes = {tuple(kernel.shape) for kernel in kernels}
    others = [] if model.optimizer is None else model.optimizer.variables
    moments = [variable for variable in others if tuple(variable.shape) in shapes]
    for variable in (*kernels, *moments):
        tensor = variable.value
        tensor.data = tensor.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)


def _layers(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _copying_function() -> tuple[Any, Any] | None:
    """Return Keras' module and its function if that copies (or is ours already); None where there is nothing to do."""
    if keras.config.backend() != "torch":
        return None
    try:
        module = importlib.import_module(_MODULE)
        function = getattr(module, _FUNCTION)
        source = inspect.getsource(function)
    except (ImportError, AttributeError, OSError, TypeError):  # a Keras that is organised in another way
        return None
    return (module, function) if function.__module__ == __name__ or ".contiguous()" in source else None
