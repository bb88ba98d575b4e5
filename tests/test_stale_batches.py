"""After a swap every sample that reached the train step belongs to the new index; before it none does.

Judged by what the step received: a metric inside the compiled step writes down the refs.
"""

import keras
import numpy as np
import pytest
from keras import ops
from made.training import Received, tagged_source

import kerasbalance as kb
from kerasbalance.mining.result import MiningResult

STEPS, BATCH = 6, 4
OLD = np.arange(20)
NEW = {"grows": np.arange(20, 40), "shrinks": np.arange(20, 23), "keeps its length": np.arange(20, 30)}


class SwapSampler:
    """A strategy that replaces the whole index, so that one sample of the wrong one shows."""

    reference = np.zeros(0, np.int64)

    def __init__(self, old, new):
        self.index, self.new = kb.Index(old), np.asarray(new)
        self.candidates = self.new

    def update(self, scores, *, reference=None, iteration=None):
        self.index = kb.Index(self.new)
        rows = len(self.new)
        columns = scores, np.ones(rows, bool), np.full(rows, "hard"), np.ones(rows)
        return MiningResult(self.new, *columns, 1.0, "swap", iteration)

    def state(self):
        return self.index.state()

    def load_state(self, state):
        self.index = kb.Index.from_state(state)


def mean_output(model, source, refs):
    """A score of samples whose masks hold their refs, which are no labels."""
    x, _ = source.read(refs, np.zeros(len(refs), np.uint8))
    return np.asarray(model.predict_on_batch(x)).mean(axis=(1, 2, 3))


def received_by(dataset, steps, train):
    """Return the refs `(steps, batch)` that the train steps of `train(model)` received."""
    received = Received(steps + 2, dataset.batch_size)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile("sgd", loss=lambda y_true, y_pred: ops.mean(ops.square(y_pred)), metrics=[received])
    train(model)
    rows = received.rows()
    assert (rows[:steps] >= 0).all()
    assert (rows[steps:] == -1).all(), "more steps than asked for"
    return rows[:steps]


def setup(change, at, old=OLD):
    sampler = SwapSampler(old[:10], NEW[change])
    dataset = kb.IndexedDataset(
        tagged_source(), sampler.index, batch_size=BATCH, steps_per_epoch=STEPS, seed=1
    )
    return dataset, kb.ScheduledMining(dataset, sampler, at=at, score=mean_output)


def check(rows, swaps_at, new):
    assert np.isin(rows[:swaps_at], OLD).all(), "a sample of the new index came early"
    assert np.isin(rows[swaps_at:], new).all(), "a sample of the old index was trained on"


@pytest.mark.parametrize("change", NEW)
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"steps_per_epoch": STEPS}], ids=str)
def test_plain_fit_has_no_stale_batch(change, options):
    dataset, mining = setup(change, at=8)  # the next epoch begins at 12
    rows = received_by(
        dataset,
        4 * STEPS,
        lambda model: model.fit(dataset, epochs=4, callbacks=[mining], verbose=0, **options),
    )
    check(rows, 12, NEW[change])
    assert [result.iteration for result in mining.results] == [12]
    if options == {"shuffle": False}:
        assert rows[12:].tolist() == [dataset.refs(iteration) for iteration in range(12, 24)]


@pytest.mark.parametrize("change", NEW)
@pytest.mark.parametrize("at", [12, 8], ids=["at a window's end", "at the exact iteration"])
def test_our_fit_has_no_stale_batch(change, at):
    dataset, mining = setup(change, at)
    rows = received_by(
        dataset, 4 * STEPS, lambda model: kb.fit(model, dataset, 4 * STEPS, callbacks=[mining], verbose=0)
    )
    check(rows, at, NEW[change])
    assert rows[at:].tolist() == [dataset.refs(iteration) for iteration in range(at, 24)]


def test_mining_every_few_steps_has_no_stale_batch():
    sampler = SwapSampler(np.arange(10), np.arange(10, 20))
    dataset = kb.IndexedDataset(tagged_source(), sampler.index, batch_size=BATCH, steps_per_epoch=STEPS)
    expected = []

    class Alternate(SwapSampler):
        def update(self, scores, *, reference=None, iteration=None):
            result = super().update(scores, reference=reference, iteration=iteration)
            self.new = self.candidates = (self.new + 10) % 40
            return result

    strategy = Alternate(np.arange(10), np.arange(10, 20))
    mining = kb.ScheduledMining(dataset, strategy, every=5, score=mean_output)
    rows = received_by(dataset, 23, lambda model: kb.fit(model, dataset, 23, callbacks=[mining], verbose=0))
    expected = [iteration // 5 * 10 % 40 for iteration in range(23)]
    assert (rows.min(axis=1) // 10 * 10).tolist() == expected
    assert (rows.max(axis=1) // 10 * 10).tolist() == expected


def test_two_plain_fits_in_a_row_count_on():
    dataset, mining = setup("grows", at=2 * STEPS)

    def train(model):
        with pytest.warns(UserWarning, match="nothing will be mined in this fit"):
            model.fit(dataset, epochs=2, callbacks=[mining], verbose=0)
        model.fit(dataset, epochs=2, callbacks=[mining], verbose=0)

    check(received_by(dataset, 4 * STEPS, train), 2 * STEPS, NEW["grows"])


def test_keras_own_workers_are_refused():
    dataset, mining = setup("grows", at=2)
    dataset.workers = 2
    with pytest.raises(ValueError, match=r"received workers=2, .*expected workers=0"):
        received_by(dataset, STEPS, lambda model: model.fit(dataset, callbacks=[mining], verbose=0))


def test_epochs_of_another_length_are_refused():
    dataset, mining = setup("grows", at=2)
    with pytest.raises(ValueError, match=r"received epochs of 3 steps.*pass steps_per_epoch to the dataset"):
        received_by(
            dataset,
            STEPS,
            lambda model: model.fit(dataset, steps_per_epoch=3, callbacks=[mining], verbose=0),
        )


def test_a_fit_on_other_data_is_refused():
    _, mining = setup("grows", at=2)
    other, _ = setup("grows", at=2)
    with pytest.raises(ValueError, match="received a fit on other data"):
        received_by(other, STEPS, lambda model: model.fit(other, epochs=2, callbacks=[mining], verbose=0))
