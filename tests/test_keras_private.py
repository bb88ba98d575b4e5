"""Canaries: what the package takes from Keras without Keras documenting it."""

import configparser
import threading
from pathlib import Path

import keras
import pytest

from kerasbalance.backend.callback_threads import end_callback_threads, wait_for_callbacks
from kerasbalance.backend.private import KNOWN, private_name


class InBackground(keras.callbacks.Callback):
    async_safe = True

    def __init__(self):
        super().__init__()
        self.threads = []

    def on_train_batch_end(self, batch, logs=None):
        self.threads.append(threading.current_thread())


def callback_list(callback):
    return keras.callbacks.CallbackList([callback], add_history=False, add_progbar=False)


def test_after_waiting_every_callback_has_seen_every_step():
    callback = InBackground()
    callbacks = callback_list(callback)
    callbacks.on_train_begin()
    for step in range(20):
        callbacks.on_train_batch_end(step)
    wait_for_callbacks(callbacks)
    assert len(callback.threads) == 20
    end_callback_threads(callbacks)


def test_threads_of_callbacks_end_without_on_train_end():
    callback = InBackground()
    callbacks = callback_list(callback)
    callbacks.on_train_begin()
    callbacks.on_train_batch_end(0)
    wait_for_callbacks(callbacks)
    end_callback_threads(callbacks)
    (thread,) = callback.threads
    assert thread is threading.main_thread() or not thread.is_alive()
    end_callback_threads(callbacks)


def test_callbacks_run_in_the_background_on_jax_and_torch_only():
    callback = InBackground()
    callbacks = callback_list(callback)
    callbacks.on_train_begin()
    callbacks.on_train_batch_end(0)
    callbacks.on_train_end()
    in_main = callback.threads == [threading.main_thread()]
    assert in_main == (keras.config.backend() == "tensorflow")


def test_a_keras_without_the_name_is_refused_with_the_versions_that_have_it():
    with pytest.raises(
        RuntimeError, match=r"CallbackList has no attribute _gone.*expected keras>=3.15.1,<3.16"
    ):
        private_name(callback_list(InBackground()), "_gone")


def test_the_versions_that_are_known_are_those_that_setup_cfg_asks_for():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert KNOWN in setup["options"]["install_requires"].split("\n")
