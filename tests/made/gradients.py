"""Gradient of a scalar function of one array, by the backend in use."""

import keras
import numpy as np


def gradient(function, array):
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(array))
    if keras.backend.backend() == "torch":
        import torch

        leaf = torch.tensor(array, requires_grad=True)
        function(leaf).backward()
        return leaf.grad.numpy()
    import tensorflow as tf

    leaf = tf.Variable(array)
    with tf.GradientTape() as tape:
        value = function(leaf)
    return tape.gradient(value, leaf).numpy()
