import multiprocessing
import pickle
import threading
import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.training import Received, arrays, tagged_source

import kerasbalance as kb
from kerasbalance.mining.reading import read_batches

FLIPS = {0: (), 1: (1,), 2: (0,), 3: (0, 1)}


def make_dataset(entries=10, batch_size=4, steps=5, **options):
    index = options.pop("index", None) or kb.Index(np.arange(entries))
    return kb.IndexedDataset(tagged_source(), index, batch_size=batch_size, steps_per_epoch=steps, **options)


def refs_of(batch):
    return batch[1][:, 0, 0].tolist()


def batch_refs(dataset, iterations):
    return [refs_of(dataset.batch(iteration)) for iteration in iterations]


def test_a_batch_is_the_same_whenever_and_wherever_it_is_read():
    first = batch_refs(make_dataset(seed=7), range(20))
    backwards = batch_refs(make_dataset(seed=7, read_ahead=0), reversed(range(20)))
    assert first == backwards[::-1]


def test_another_seed_and_another_phase_give_another_order():
    dataset = make_dataset(seed=7)
    other = batch_refs(make_dataset(seed=8), range(5))
    before = batch_refs(dataset, range(5))
    dataset.swap(dataset.index, 0)
    assert before != other
    assert before != batch_refs(dataset, range(5))


@given(entries=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None)
def test_every_pass_visits_every_entry_once_and_no_batch_is_ever_smaller(entries, batch_size, seed):
    dataset = make_dataset(entries, batch_size, seed=seed, read_ahead=0)
    batches = batch_refs(dataset, range(-(-3 * entries // batch_size)))
    drawn = [ref for batch in batches for ref in batch]
    assert {len(batch) for batch in batches} == {batch_size}
    for start in range(0, 3 * entries, entries):
        assert sorted(drawn[start : start + entries]) == list(range(entries))


def test_the_order_of_the_first_batches_never_changes_between_versions():
    dataset = make_dataset(seed=5)
    assert batch_refs(dataset, range(3)) == [[4, 6, 9, 8], [5, 3, 7, 0], [2, 1, 6, 3]]


@pytest.mark.parametrize("code", FLIPS)
def test_image_and_mask_are_flipped_together(code):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4, 5, 2)), rng.integers(0, 3, (3, 4, 5, 1))
    image, mask = kb.ArraySource(x, y).read(np.array([2]), np.array([code], np.uint8))
    assert np.array_equal(image[0], np.flip(x[2], FLIPS[code]))
    assert np.array_equal(mask[0], np.flip(y[2], FLIPS[code]))


def test_a_batch_may_be_changed_without_changing_any_other():
    source = tagged_source()
    dataset = kb.IndexedDataset(source, kb.Index([3]), batch_size=2, steps_per_epoch=4)
    for iteration in range(4):
        x, y = dataset.batch(iteration)
        assert (y == 3).all()
        x[:], y[:] = -1, -1
    assert source.y[3, 0, 0] == 3


def test_the_backend_takes_a_batch_as_it_is_where_it_can():
    images, masks = kb.ArraySource(np.zeros((9, 8, 8, 1), np.int16), np.zeros((9, 8, 8), np.uint8)).read(
        np.arange(3), np.zeros(3, np.uint8)
    )
    assert [array.ctypes.data % 64 for array in (images, masks)] == [0, 0]
    if keras.backend.backend() == "jax":
        import jax

        addresses = [jax.device_put(array).unsafe_buffer_pointer() for array in (images, masks)]
        assert addresses == [array.ctypes.data for array in (images, masks)]


def test_weighted_draws_follow_the_weights_and_never_take_a_zero():
    dataset = make_dataset(index=kb.Index([4, 5, 6], weights=[1, 0, 3]), batch_size=50, read_ahead=0)
    drawn = np.concatenate(batch_refs(dataset, range(80)))
    assert set(drawn) == {4, 6}
    assert np.mean(drawn == 6) == pytest.approx(0.75, abs=0.02)


def test_weighted_draws_are_pure_too():
    index = kb.Index(np.arange(9), weights=np.arange(9))
    first, second = make_dataset(index=index), make_dataset(index=index)
    assert batch_refs(first, range(8)) == [refs_of(second.batch(i)) for i in reversed(range(8))][::-1]


class SlowSource:
    """Reads only after `go` is set, and notes what it read."""

    def __init__(self):
        self.inner, self.go, self.seen = tagged_source(), threading.Event(), []

    def __len__(self):
        return len(self.inner)

    def read(self, refs, flips):
        if threading.current_thread() is not threading.main_thread():
            self.go.wait(10)
        self.seen.extend(refs.tolist())
        return self.inner.read(refs, flips)


def test_what_was_read_ahead_for_the_old_index_is_dropped_at_a_swap():
    source = SlowSource()
    dataset = kb.IndexedDataset(source, kb.Index(np.arange(10)), batch_size=2, steps_per_epoch=9)
    batch_refs(dataset, range(2))  # the second one in sequence starts reading ahead
    dataset.swap(kb.Index(np.arange(20, 30)), 2)
    source.go.set()
    assert all(ref >= 20 for batch in batch_refs(dataset, range(2, 12)) for ref in batch)


def test_batches_are_read_ahead_while_a_step_runs():
    source = SlowSource()
    source.go.set()
    dataset = kb.IndexedDataset(source, kb.Index(np.arange(10)), batch_size=2, steps_per_epoch=9)
    batch_refs(dataset, range(2))
    deadline = time.monotonic() + 10
    while len(source.seen) < 2 * (2 + 8) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(source.seen) == 2 * (2 + 8)


def test_no_read_ahead_is_wasted_on_a_shuffled_order():
    source = SlowSource()
    source.go.set()
    dataset = kb.IndexedDataset(source, kb.Index(np.arange(10)), batch_size=1, steps_per_epoch=9)
    batch_refs(dataset, [4, 0, 7, 2, 8, 1, 5])
    assert len(source.seen) == 7


def test_an_error_of_the_source_reaches_the_reader_and_is_kept():
    dataset = make_dataset()
    dataset.source = None
    with pytest.raises(AttributeError):
        dataset.batch(0)
    assert isinstance(dataset.failure, AttributeError)


def test_a_pickled_dataset_goes_on_with_the_same_batches_and_index():
    dataset = make_dataset(seed=2)
    dataset.swap(kb.Index(np.arange(5, 25)), 3)
    dataset.batch(3), dataset.batch(4), dataset.batch(5)
    copy = pickle.loads(pickle.dumps(dataset))
    assert batch_refs(copy, range(3, 9)) == batch_refs(dataset, range(3, 9))


def in_child(dataset, queue):
    queue.put(batch_refs(dataset, range(6)))


@pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning"
)  # JAX says so of any fork; the child uses NumPy only
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_reads_the_same_batches(method):
    dataset = make_dataset(seed=2)
    expected = batch_refs(dataset, range(6))  # its threads and lock are in use when the child is made
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=in_child, args=(dataset, queue))
    child.start()
    assert queue.get(timeout=120) == expected
    child.join()


def test_state_brings_back_index_phase_and_batches():
    dataset, other = make_dataset(seed=2), make_dataset(seed=2)
    dataset.swap(kb.Index([1, 2, 3], flips=[0, 1, 3], weights=[1.0, 2.0, 3.0]), 11)
    other.load_state(dataset.state())
    assert other.index == dataset.index
    assert (other.phase.number, other.phase.begin) == (1, 11)
    assert batch_refs(other, range(11, 15)) == batch_refs(dataset, range(11, 15))


def fit_and_log(dataset, epochs, **options):
    from test_stale_batches import received_by

    return received_by(
        dataset, epochs * len(dataset), lambda model: model.fit(dataset, epochs=epochs, **options)
    )


def test_epochs_of_a_plain_fit_go_on_where_the_last_one_ended():
    dataset = make_dataset(entries=12, batch_size=4, steps=3)
    rows = fit_and_log(dataset, 4, shuffle=False, verbose=0)
    assert rows.tolist() == [dataset.refs(iteration) for iteration in range(12)]


def test_every_pass_is_whole_under_keras_own_shuffling_of_the_batches():
    dataset = make_dataset(entries=12, batch_size=4, steps=3)
    rows = fit_and_log(dataset, 3, shuffle=True, verbose=0)
    assert [sorted(epoch.ravel().tolist()) for epoch in rows.reshape(3, 3, 4)] == [list(range(12))] * 3


def test_the_length_of_an_epoch_does_not_follow_the_index():
    dataset = make_dataset()
    dataset.swap(kb.Index(np.arange(40)))
    assert len(dataset) == dataset.num_batches == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "received batch_size=0; expected a whole number from 1"),
        ({"steps": 1.5}, "received steps_per_epoch=1.5; expected a whole number"),
        ({"seed": -1}, "received seed=-1; expected a whole number from 0"),
        ({"read_ahead": -1}, "received read_ahead=-1"),
        ({"index": kb.Index([40])}, "received ref 40; expected refs below 40"),
    ],
)
def test_a_dataset_refuses_what_it_cannot_use(change, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(**change)


def test_a_source_without_read_is_refused():
    with pytest.raises(TypeError, match="received a source of type list"):
        kb.IndexedDataset([], kb.Index([0]), batch_size=1, steps_per_epoch=1)


def test_a_batch_outside_the_epoch_is_refused():
    with pytest.raises(IndexError, match="received batch 5; expected 0 to 4"):
        make_dataset()[5]


def test_an_iteration_before_the_phase_is_refused():
    dataset = make_dataset()
    dataset.swap(dataset.index, 10)
    with pytest.raises(IndexError, match="received iteration 9; expected one at or after 10"):
        dataset.batch(9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "an index of 0 entries"),
        (([[1]],), r"refs of shape \(1, 1\)"),
        (([-1],), "whole numbers >= 0"),
        (([0.5],), "whole numbers >= 0"),
        (([1, 2], [0]), r"flips of shape \(1,\)"),
        (([1], [4]), "each 0, 1, 2 or 3"),
        (([1], None, [0.0]), "not all 0"),
        (([1], None, [np.nan]), "finite numbers"),
    ],
)
def test_an_index_refuses_what_is_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        kb.Index(*arguments)


def test_an_index_cannot_be_changed_and_does_not_share_its_callers_arrays():
    refs = np.arange(3)
    index = kb.Index(refs)
    refs[0] = 9
    assert index.refs.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        index.refs[0] = 9


def test_an_epoch_is_one_pass_by_default_and_a_sampler_serves_as_an_index():
    sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3))
    dataset = kb.IndexedDataset(kb.ArraySource(*arrays()), sampler, batch_size=4)
    assert len(dataset) == 3
    assert dataset.index == sampler.index
    assert dataset.sampler is sampler


def test_augmentation_leaves_weights_alone_and_needs_targets():
    def brighter(x, y, rng):
        return x + 1, y

    x, y = arrays(4)
    options = {"batch_size": 4, "steps_per_epoch": 1, "augment": brighter}
    weights = np.arange(4.0)
    images, masks, w = kb.IndexedDataset(kb.ArraySource(x, y, weights), kb.Index(range(4)), **options)[0]
    order = [int(weight) for weight in w]
    np.testing.assert_array_equal(images, x[order] + 1)
    np.testing.assert_array_equal(masks, y[order])
    with pytest.raises(ValueError, match=r"augment for samples without targets; .*; leave it out"):
        kb.IndexedDataset(kb.ArraySource(x), kb.Index(range(4)), **options)[0]


def test_the_metric_used_in_these_tests_logs_rows_in_order():
    metric = Received(2, 3)
    metric.update_state(np.full((3, 4, 4), 7), None)
    assert metric.rows().tolist() == [[7, 7, 7], [-1, -1, -1]]


class Slow:
    """A source that counts how many reads run at the same time."""

    def __init__(self):
        self.running, self.most, self.lock = 0, 0, threading.Lock()

    def __len__(self):
        return 100

    def read(self, refs, flips):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
        return np.zeros((len(refs), 2, 2, 1)), np.zeros((len(refs), 2, 2))


def test_as_many_batches_are_read_at_once_as_there_are_threads():
    for threads in (1, 5):
        source = Slow()
        dataset = kb.IndexedDataset(
            source, kb.Index(range(100)), batch_size=2, steps_per_epoch=9, threads=threads
        )
        for step in range(9):
            dataset[step]
        assert threads <= source.most <= threads + 1  # the first batch is read by the caller
    with pytest.raises(ValueError, match="threads=0; expected a whole number from 1"):
        kb.IndexedDataset(Slow(), kb.Index(range(4)), batch_size=2, steps_per_epoch=2, threads=0)


def test_scoring_reads_several_batches_at_once():
    source, together = (
        kb.ArraySource(np.zeros((40, 4, 4, 1)), np.zeros((40, 4, 4), np.uint8)),
        threading.Barrier(4),
    )
    read = source.read
    source.read = lambda refs, flips: (together.wait(20), read(refs, flips))[1]  # none comes back alone
    found = [part.tolist() for part, _ in read_batches(source, np.arange(40), 5)]
    assert found == np.arange(40).reshape(8, 5).tolist()
