"""The weights of a model in training: where JAX keeps them during an epoch, and whether they are finite."""

from typing import Any

import keras
import numpy as np

from kerasbalance.backend.devices import host_value


def synchronised(model: Any) -> Any:
    """Return the model with its weights in place.

    During an epoch JAX keeps them outside of the model. A callback's attribute `model` is the public way to
    them, and is right on every backend.
    """
    callback = keras.callbacks.Callback()
    callback.set_model(model)
    return callback.model


def are_finite(model: Any) -> bool:
    """Return whether every weight is a finite number."""
    weights = [w for w in synchronised(model).weights if "float" in keras.backend.standardize_dtype(w.dtype)]
    if keras.config.backend() == "tensorflow":
        return bool(_finite_on_tensorflow(model, weights))
    return all(np.isfinite(host_value(weight)).all() for weight in weights)


def _finite_on_tensorflow(model: Any, weights: list[Any]) -> Any:
    """Test all weights in one compiled function, kept with the model; to fetch each takes ten times as long."""
    import tensorflow as tf

    known, check = model.__dict__.get("_kerasbalance_finite", ([], None))
    if [id(weight) for weight in known] != [
        id(weight) for weight in weights
    ]:  # LoRA adds some, quantization replaces
        check = tf.function(
            lambda: tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight.value)) for weight in weights])
        )
        model.__dict__["_kerasbalance_finite"] = (weights, check)
    return check()
