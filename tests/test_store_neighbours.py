"""Neighbour slices: which they are, and how a store's source reads them beside each slice."""

import numpy as np
import pytest
from made import runs

from kerasbalance.data.store import SliceStore
from kerasbalance.data.store.reader import CaseReader
from kerasbalance.data.volume.neighbours import neighbour_table


@pytest.mark.parametrize(("depth", "count", "table"), [
    ([0, 2, 4, 6], 1, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]),
    ([0, 2, 4], 2, [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2]]),
    ([0, 2, 4, 20, 22], 1, [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 4], [3, 4, 4]]),
    ([0, 2, 4.9, 7], 1, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]),
    ([5], 2, [[0, 0, 0, 0, 0]]),
    ([0, 1], 0, [[0], [1]]),
])  # fmt: skip
def test_neighbours_are_clamped_at_the_ends_and_at_a_gap(depth, count, table):
    assert neighbour_table(depth, count).tolist() == table


def test_an_empty_stack_has_no_neighbours():
    assert neighbour_table([], 1).shape == (0, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    return runs.store_of_stacks(folder / "store", [runs.made_stack(seed, slices=6) for seed in range(2)])


def test_each_slice_lies_between_its_neighbours_and_never_those_of_another_case(store):
    plain, near = store.source(runs.ORGAN), store.source(runs.ORGAN, neighbours=1)
    refs = np.arange(12)
    images, labels = plain.read(refs)
    x, y = near.read(refs)
    assert x.shape == (12, 32, 32, 3)
    before = [0, 0, 1, 2, 3, 4, 6, 6, 7, 8, 9, 10]
    after = [1, 2, 3, 4, 5, 5, 7, 8, 9, 10, 11, 11]
    assert np.array_equal(x, np.concatenate([images[before], images, images[after]], axis=-1))
    assert np.array_equal(y, labels)
    assert np.array_equal(near.middle(x), images[..., 0])


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_flip_turns_the_slice_and_its_neighbours_alike(store, code):
    source, refs = store.source(runs.ORGAN, neighbours=2), np.array([3, 7])
    x, y = source.read(refs)
    turned = (slice(None), slice(None, None, -1 if code & 2 else 1), slice(None, None, -1 if code & 1 else 1))
    flipped = source.read(refs, np.full(2, code))
    assert np.array_equal(flipped[0], x[turned])
    assert np.array_equal(flipped[1], y[turned])


def test_the_mask_is_read_once_and_each_neighbour_once(store, monkeypatch):
    read = {"image": [], "mask": []}
    for name, places in read.items():
        plain = getattr(CaseReader, name)
        monkeypatch.setattr(
            CaseReader, name, lambda self, n, plain=plain, places=places: places.append(n) or plain(self, n)
        )
    store.source(runs.ORGAN, neighbours=1).read([2, 9])
    assert read == {"image": [1, 2, 3, 2, 3, 4], "mask": [2, 3]}


def test_smaller_slices_of_a_store_have_air_around_their_neighbours_too(tmp_path):
    store = runs.store_of_stacks(tmp_path / "store", [runs.made_stack(0, slices=3)])
    source = SliceStore(store.path).source(runs.ORGAN, neighbours=1)
    source.plane = (36, 40)
    x, y = source.read([1])
    assert x.shape == (1, 36, 40, 3)
    assert (x[0, :2] == -1024).all()
    assert (x[0, :, :4] == -1024).all()
    assert not y[0, :2].any()
    assert np.array_equal(x[0, 2:-2, 4:-4], store.source(runs.ORGAN, neighbours=1).read([1])[0][0])


def test_a_negative_number_of_neighbours_is_refused(store):
    with pytest.raises(ValueError, match="neighbours=-1; expected 0 or more"):
        store.source(runs.ORGAN, neighbours=-1)
