"""The threads in which Keras runs some callbacks on JAX and torch; a `CallbackList` has no public way to end them."""

import keras

from kerasbalance.backend.private import private_name


def wait_for_callbacks(callbacks: keras.callbacks.CallbackList) -> None:
    """Wait until the callbacks have seen every step; an error that one of them raised is raised here.

    Raises:
        RuntimeError: If this Keras differs from the known one.
    """
    private_name(callbacks, "_flush_futures")()


def end_callback_threads(callbacks: keras.callbacks.CallbackList) -> None:
    """End the threads of a training that was left without `on_train_end`; without threads nothing happens.

    Raises:
        RuntimeError: If this Keras differs from the known one.
    """
    while private_name(callbacks, "_in_begin_end_block_count") > 0:
        private_name(callbacks, "_on_end")()
