import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.stores import add_case, made_arrays, made_facts, made_store, open_store

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.data.store.catalogue import dump_entry
from kerasbalance.data.store.reader import Readers
from kerasbalance.data.store.sealed_case import CaseArrays, build_case

SHAPE = (4, 16, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of five random cases, and the truth: HU and labels of all slices in the order of refs."""
    folder = tmp_path_factory.mktemp("made")
    store, arrays = made_store(folder, 5, SHAPE)
    x = np.concatenate([arrays[key].image for key in sorted(arrays)])
    y = np.concatenate([arrays[key].mask for key in sorted(arrays)])
    return SliceStore(store.path), x, y


def read(store, refs, flips=None, organs=("liver", "spleen")):
    x, y = store.source(organs).read(refs, flips)
    return x[..., 0], y[..., 0]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_equals_numpy_for_any_refs_flips_and_organs(made, data):
    store, x, y = made
    refs = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), max_size=12)), np.int64)
    flips = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(refs), max_size=len(refs))), np.int64)
    organs = data.draw(st.sampled_from([("liver",), ("spleen",), ("liver", "spleen"), ("spleen", "liver")]))
    got_x, got_y = read(store, refs, flips, organs)
    value = {1: organs.index("liver") + 1 if "liver" in organs else 0,
             2: organs.index("spleen") + 1 if "spleen" in organs else 0}  # fmt: skip
    for i, (ref, flip) in enumerate(zip(refs, flips, strict=True)):
        hu, labels = x[ref], np.select([y[ref] == 1, y[ref] == 2], [value[1], value[2]])
        if flip & 1:
            hu, labels = np.fliplr(hu), np.fliplr(labels)
        if flip & 2:
            hu, labels = np.flipud(hu), np.flipud(labels)
        np.testing.assert_array_equal(got_x[i], hu)
        np.testing.assert_array_equal(got_y[i], labels)


def test_types_and_shapes_are_as_promised(made):
    store, _, _ = made
    for count in (0, 1, 3):
        x, y = store.source("liver").read(np.arange(count))
        assert (x.dtype, x.shape) == (np.dtype("int16"), (count, 16, 12, 1))
        assert (y.dtype, y.shape) == (np.dtype("uint8"), (count, 16, 12, 1))
    assert (len(store), store.first_ref.tolist()) == (20, [0, 4, 8, 12, 16, 20])


def test_a_batch_belongs_to_the_caller(made):
    source = made[0].source("liver")
    first = source.read([3, 3, 5])
    kept = [part.copy() for part in first]
    for part in first:
        assert part.flags.writeable
        part[...] = 77
    second = source.read([3, 3, 5])
    for part, wanted, spoilt in zip(second, kept, first, strict=True):
        np.testing.assert_array_equal(part, wanted)
        assert not np.shares_memory(part, spoilt)


def test_batches_do_not_share_memory_with_each_other_or_the_file(made):
    store, _, _ = made
    source = store.source("liver")
    batches = [source.read([1, 2]) for _ in range(4)]
    parts = [part for batch in batches for part in batch] + [
        store.reader(0).image(1),
        store.reader(0).mask(1),
    ]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(parts) for b in parts[:i])
    assert not store.reader(0).image(1).flags.writeable


def test_what_the_store_knows_cannot_be_changed_from_outside(made):
    store, _, _ = made
    for array in (store.first_ref, store.reader(0).positive_pixels, store.reader(0).depth_mm):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("refs", [[-1], [20], [0, 99], [-(2**40)], np.array([2**63 + 1], np.uint64)])
def test_refs_outside_the_table_are_refused(made, refs):
    store, _, _ = made
    for use in (store.source("liver").read, store.case_of, lambda refs: store.positive_pixels(refs, "liver")):
        with pytest.raises(IndexError, match="expected 0 to 19"):
            use(refs)


@pytest.mark.parametrize("refs", [[0.5], ["1"], [True]])
def test_refs_that_are_no_integers_are_refused(made, refs):
    with pytest.raises(TypeError, match="expected integers"):
        made[0].source("liver").read(refs)


@pytest.mark.parametrize("flips", [[4], [-1], [0.0], [0, 0], [[0]]])
def test_flips_that_mean_nothing_are_refused(made, flips):
    with pytest.raises(ValueError, match="flips"):
        made[0].source("liver").read([1], flips)


def test_positive_pixels_equal_numpy(made):
    store, _, y = made
    refs = np.array([[0, 19], [7, 7]])
    wanted = np.count_nonzero(y[refs.ravel()] == 2, axis=(1, 2)).reshape(2, 2)
    np.testing.assert_array_equal(store.positive_pixels(refs, "spleen"), wanted)


@pytest.mark.parametrize("organs", ["heart", (), ("liver", "liver"), ("liver", "heart")])
def test_organs_that_no_case_annotates_are_refused(made, organs):
    for use in (made[0].source, made[0].refs):
        with pytest.raises(DataError, match="NO_ORGAN"):
            use(organs)


@pytest.fixture
def mixed(tmp_path):
    """Cases that annotate liver, spleen, or both; the first is of another size."""
    store, _ = open_store(tmp_path)
    for n, (organs, shape) in enumerate(
        [(("liver",), SHAPE), (("spleen",), (4, 20, 20)), (("spleen", "liver"), SHAPE)]
    ):
        add_case(store, made_facts(f"{n}" * 32, shape, organs), made_arrays(n, shape, len(organs)))
    return SliceStore(store.path)


def test_refs_are_those_of_cases_that_annotate_every_organ(mixed):
    assert mixed.refs("liver").tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert mixed.refs(("liver", "spleen")).tolist() == [8, 9, 10, 11]
    assert mixed.refs("spleen", cases=[1]).tolist() == [4, 5, 6, 7]
    assert mixed.refs("spleen", cases=[0]).tolist() == []


def test_a_slice_without_the_organ_is_refused_and_not_called_empty(mixed):
    with pytest.raises(DataError, match="NO_ORGAN: case 1: a slice of a case without liver"):
        mixed.source("liver").read([8, 4])
    with pytest.raises(DataError, match="NO_ORGAN"):
        mixed.positive_pixels([4], "liver")


def test_slices_of_several_sizes_are_refused(mixed):
    with pytest.raises(DataError, match=r"SIZES: slices of 2 sizes \(16 x 12, 20 x 20\)"):
        mixed.source("spleen")
    assert mixed.source("liver").plane == (16, 12)


def test_refs_do_not_depend_on_the_order_of_ingest(tmp_path):
    digests = []
    for turn, order in enumerate([(0, 1, 2), (2, 0, 1)]):
        store, _ = open_store(tmp_path / str(turn))
        for n in order:
            add_case(store, made_facts(f"{n}" * 32), made_arrays(n))
        digests.append((SliceStore(store.path).digest, store.path))
    assert digests[0][0] == digests[1][0]


def test_a_pickled_store_holds_no_handle_and_reads_the_same(made):
    store, x, _ = made
    store.source("liver").read([0])
    source = pickle.loads(pickle.dumps(store.source("liver")))
    np.testing.assert_array_equal(source.read([7])[0][0, ..., 0], x[7])


def _read_in_child(source, refs, queue):
    queue.put([part.copy() for part in source.read(refs)])


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX says so of any fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_store_is_read_in_other_processes(made, method):
    store, x, _ = made
    source = store.source("liver")
    source.read([0, 5])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(source, [5, 9], queue))
    child.start()
    got, _ = queue.get(timeout=60)
    child.join()
    np.testing.assert_array_equal(got[..., 0], x[[5, 9]])


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_store_whose_lock_was_held_at_the_fork_is_read_in_the_child(made):
    store, x, _ = made
    readers = Readers(store._readers._folder, store._readers._entries)
    with readers._lock:
        child = os.fork()
        if child == 0:
            right = np.array_equal(readers.get(0).image(2), x[2])
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_read_right_with_few_open_files(tmp_path):
    store, arrays = made_store(tmp_path, 24, SHAPE)
    x = np.concatenate([arrays[key].image for key in sorted(arrays)])
    opened = SliceStore(store.path)
    opened._readers._most = 3
    source, before = opened.source("liver"), len(os.listdir("/proc/self/fd"))
    most = []

    def work(seed):
        refs = np.random.default_rng(seed).integers(0, len(x), 64)
        right = np.array_equal(source.read(refs)[0][..., 0], x[refs])
        most.append(len(os.listdir("/proc/self/fd")))
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert max(most) - before <= 3 + 8 + 8  # kept, being opened, and the directories that this test lists


def test_threads_of_a_store_open_each_case_once(made, monkeypatch):
    store = SliceStore(made[0].path)
    opened = []
    original = Readers.get.__globals__["CaseReader"]
    monkeypatch.setitem(Readers.get.__globals__, "CaseReader", lambda *a: opened.append(a) or original(*a))
    threads = [threading.Thread(target=store.reader, args=(0,)) for _ in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len(opened) == 1


def test_a_reader_keeps_its_snapshot_while_cases_are_added(tmp_path):
    store, arrays = made_store(tmp_path, 2, SHAPE)
    opened = SliceStore(store.path)
    before = opened.digest, len(opened)
    add_case(store, made_facts("0" * 32), made_arrays(9))
    assert (opened.digest, len(opened)) == before
    np.testing.assert_array_equal(read(opened, [4])[0][0], arrays[sorted(arrays)[1]].image[0])
    assert len(SliceStore(store.path)) == len(opened) + 4


@pytest.mark.parametrize("moment", ["not opened yet", "open", "closed to spare descriptors"])
def test_a_case_replaced_under_a_reader_is_never_read_as_the_old_one(tmp_path, moment):
    store, arrays = made_store(tmp_path, 1, SHAPE)
    (key, old), opened = next(iter(arrays.items())), SliceStore(store.path)
    if moment != "not opened yet":
        opened.source("liver").read([0, 1])
    if moment == "closed to spare descriptors":
        opened.reader(0).close()
    # Same mask, other image: a file of the same size and the same chunk offsets.
    add_case(store, made_facts(key), CaseArrays(old.image[::-1], old.mask, old.depth_mm))
    if moment == "open":
        np.testing.assert_array_equal(read(opened, [0])[0][0], old.image[0])
        return
    with pytest.raises(DataError, match="changed, or replaced since the store was opened"):
        opened.source("liver").read([0])


def test_a_reader_that_was_closed_checks_nothing_twice(made, monkeypatch):
    store, x, _ = made
    reader = store.reader(0)
    reader.image(0)
    reader.close()
    monkeypatch.setattr(type(reader), "_check_bytes", lambda *a: pytest.fail("hashed again"))
    np.testing.assert_array_equal(reader.image(0), x[0])


def test_one_damaged_case_stops_a_store_but_not_the_cases_that_are_named(tmp_path):
    store, arrays = made_store(tmp_path, 3, SHAPE)
    bad, *good = sorted(arrays)
    os.truncate(store.cases_folder / f"{bad}.h5", 1000)
    with pytest.raises(
        DataError, match="DAMAGED: 1 damaged cases, the first because of a case file with changed"
    ):
        SliceStore(store.path)
    opened = SliceStore(store.path, good)
    np.testing.assert_array_equal(read(opened, [0])[0][0], arrays[good[0]].image[0])
    with pytest.raises(DataError, match="a case that is not there"):
        SliceStore(store.path, ["e" * 32])


def test_a_forged_index_never_escapes_as_another_error(tmp_path):
    store, _ = made_store(tmp_path, 1, SHAPE)
    entry = next(iter(store.entries().values()))
    for facts in (replace(entry.facts, rows=10**6), replace(entry.facts, slices=9)):
        store.index.write_bytes(dump_entry(replace(entry, facts=facts)))
        with pytest.raises(DataError, match="DAMAGED"):
            SliceStore(store.path).reader(0)


@pytest.mark.parametrize("cases", [1_000, pytest.param(10_000, marks=pytest.mark.large)])
def test_opening_a_store_of_many_cases_is_fast(tmp_path, cases):
    store, pseudonyms = open_store(tmp_path)
    entry, content = build_case(made_facts(), made_arrays())
    lines = []
    for n in range(cases):
        key = pseudonyms.of("made", str(n))
        lines.append(dump_entry(replace(entry, facts=replace(entry.facts, key=key))))
        with (store.cases_folder / f"{key}.h5").open("wb") as file:
            file.truncate(len(content))  # a hole: opening reads the index and the sizes, not the cases
    store.index.write_bytes(b"".join(lines))
    start = time.process_time()
    opened = SliceStore(store.path)
    assert len(opened.cases) == cases
    assert time.process_time() - start < 2 * cases / 10_000
