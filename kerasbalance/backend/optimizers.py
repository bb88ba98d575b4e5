"""The optimizers of a model: the compiled one, and those that a custom training step uses beside it."""

from typing import Any

import keras

from kerasbalance.backend.private import private_name


def further_optimizers(model: Any) -> dict[str, Any]:
    """Return the optimizers that a model has as attributes, beside the one that it is compiled with.

    Args:
        model: A Keras model, such as one of two networks that are trained in turns.

    Returns:
        Optimizers by attribute; one in a list or dict has its place behind the attribute's name.
    """
    found: dict[str, Any] = {}
    for name, value in sorted(vars(model).items()):
        if isinstance(value, dict):
            found |= {f"{name}.{key}": item for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            found |= {f"{name}.{place}": item for place, item in enumerate(value)}
        else:
            found[name] = value
    compiled = getattr(model, "optimizer", None)
    return {
        name: item
        for name, item in found.items()
        if isinstance(item, keras.optimizers.Optimizer) and item is not compiled
    }


def variables_of(optimizer: Any) -> list[Any]:
    """Return the variables that a built optimizer updates; none if it is not built."""
    return list(private_name(optimizer, "_trainable_variables")) if optimizer.built else []
