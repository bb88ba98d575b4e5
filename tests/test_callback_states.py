"""What callbacks know comes back in a resumed run, or is named where it cannot be saved."""

import collections
import json
import uuid
import warnings

import keras
import numpy as np
import pytest

import kerasbalance as kb
from kerasbalance.training.callback_state import CallbackStates


class Remembering(keras.callbacks.Callback):
    def __init__(self, every=1):
        super().__init__()
        self.every = every
        self.seen, self.best, self.names = [], {}, set()
        self.weights, self.last = np.zeros(2), collections.deque(maxlen=2)

    def learn(self):
        self.seen += [(1, 0.5), [np.float32(2)]]
        self.best = {"dice": {3: np.arange(3)}}
        self.names.add("liver")
        self.weights[1] = np.nan  # in place: the attribute is still the same object
        self.last.extend("abc")


class Named(keras.callbacks.Callback):
    run_id = None

    def on_train_begin(self, logs=None):
        self.run_id = self.run_id or uuid.uuid4().hex
        self.opened = self.run_id


def carried(before, after):
    """Save the states of callbacks that have learnt something, and restore them into others."""
    states = CallbackStates(before)
    for callback in before:
        callback.on_train_begin()
    states.note_begin()
    for callback in before:
        getattr(callback, "learn", lambda: None)()
    arrays, plain, more = states.capture()
    plain, more = json.loads(json.dumps([plain, more]))
    states = CallbackStates(after)
    states.restore_before(arrays, plain, more)
    for callback in after:
        callback.on_train_begin()
    states.restore(arrays, plain, more)


def test_lists_dicts_sets_and_arrays_come_back():
    callback = Remembering()
    carried([Remembering()], [callback])
    assert callback.seen == [(1, 0.5), [2.0]]
    assert callback.best["dice"][3].tolist() == [0, 1, 2]
    assert callback.names == {"liver"}
    assert np.isnan(callback.weights).tolist() == [False, True]
    assert callback.last == collections.deque("bc", maxlen=2)


def test_what_the_training_did_not_change_stays_as_it_is_given():
    given = Remembering()
    given.names = {"spleen"}
    first = Remembering()
    first.learn = lambda: first.seen.append(1)
    carried([first], [given])
    assert (given.seen, given.names) == ([1], {"spleen"})


def test_an_id_made_when_the_training_begins_is_kept():
    first, second = Named(), Named()
    carried([first], [second])
    assert second.run_id == second.opened == first.run_id


def test_callbacks_of_one_kind_are_told_apart_by_their_options():
    first, second = Remembering(every=1), Remembering(every=2)
    second.learn = lambda: second.seen.append("second")
    again = [Remembering(every=2), Remembering(every=1)]
    carried([first, second], again)
    assert again[0].seen == ["second"]
    assert again[1].names == {"liver"}


def test_what_cannot_be_saved_is_named():
    class Holding(keras.callbacks.Callback):
        client = None

        def on_train_begin(self, logs=None):
            self.client = object()  # made anew in each process, so nothing is lost

        def learn(self):
            self.queue = object()

    expected = r"attributes cannot be saved: queue of Holding-1; .*state\(\) and load_state"
    with pytest.warns(kb.CheckpointWarning, match=expected):
        carried([Holding()], [Holding()])


def test_the_files_of_keras_own_callbacks_are_no_lost_state(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    logger.learn = lambda: logger.on_epoch_end(0, {"loss": 1.0})
    again = keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        carried([logger], [again])
    assert again.keys == logger.keys
    for callback in (logger, again):
        callback.on_train_end()
