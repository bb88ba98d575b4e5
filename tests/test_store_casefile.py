import gzip
import io
import resource
import time
import zlib
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made.stores import add_case, made_arrays, made_facts, made_store, open_store

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore, verify_store
from kerasbalance.data.store.catalogue import dump_entry
from kerasbalance.data.store.facts import dump_facts, load_facts
from kerasbalance.data.store.hdf5 import unpack
from kerasbalance.data.store.sealed_case import CaseArrays, append_seal, build_case, check_case


def bytes_of(facts=None, made=None):
    return bytes(build_case(facts or made_facts(), made or made_arrays())[1])


def resealed(content: bytes) -> bytes:
    buffer = io.BytesIO(content[: -(25 + 64)])
    append_seal(buffer)
    return buffer.getvalue()


shapes = st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20))


@given(shape=shapes, data=st.data())
def test_a_case_comes_back_voxel_by_voxel(shape, data):
    image = data.draw(arrays(np.int16, shape))
    mask = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 2)))
    entry, content = build_case(made_facts(shape=shape), CaseArrays(image, mask, np.arange(shape[0]) * 1.0))
    with h5py.File(io.BytesIO(bytes(content))) as file:
        np.testing.assert_array_equal(file["image"][()], image)
        np.testing.assert_array_equal(file["mask"][()], mask)
    counts = [tuple(np.count_nonzero(mask == v, axis=(1, 2)) > 0) for v in (1, 2)]
    assert entry.facts.positive_slices == tuple(sum(present) for present in counts)


def test_the_same_case_gives_the_same_bytes_at_any_time_of_day():
    first = bytes_of()
    time.sleep(1.1)  # HDF5 stamps objects with whole seconds
    assert bytes_of() == first


def test_arrays_of_any_memory_order_give_the_same_bytes():
    made = made_arrays()
    turned = CaseArrays(np.asfortranarray(made.image), np.asfortranarray(made.mask), made.depth_mm)
    assert bytes_of(made=turned) == bytes_of(made=made)


def test_the_chunks_of_an_image_lie_side_by_side_without_a_filter():
    made = made_arrays()
    entry, content = build_case(made_facts(), made)
    start, stop = entry.image_range
    np.testing.assert_array_equal(np.frombuffer(content[start:stop], "<i2"), made.image.ravel())


def test_equal_images_and_masks_have_equal_digests_and_others_do_not():
    made, other = made_arrays(0), made_arrays(1)
    one = build_case(made_facts("1" * 32), made)[0].facts
    two = build_case(made_facts("2" * 32), CaseArrays(made.image, other.mask, made.depth_mm))[0].facts
    assert one.image_digest == two.image_digest
    assert one.label_digest != two.label_digest


@pytest.mark.parametrize("cut", [0, 1, 40, 100, 2000, -1, -64])
def test_a_cut_case_is_damaged(cut):
    with pytest.raises(DataError, match="DAMAGED: a case file with changed or missing bytes"):
        check_case(bytes_of()[:cut])


def test_every_flipped_bit_is_found_before_hdf5_parses_a_byte():
    content = bytes_of()
    for at in np.random.default_rng(0).integers(0, 8 * len(content), 400).tolist():
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(DataError, match="changed or missing bytes"):
            check_case(bytes(flipped))


def test_a_seal_does_not_make_a_case_of_what_contradicts_itself():
    content = bytearray(bytes_of())
    start = build_case(made_facts(), made_arrays())[0].image_range[0]
    content[start] ^= 1
    with pytest.raises(DataError, match="does not agree with its checksums"):
        check_case(resealed(bytes(content)))


@given(text=st.text(max_size=40), value=st.floats(allow_nan=False, allow_infinity=False))
def test_facts_survive_json(text, value):
    facts = made_facts(tags={"Modality": text}, spacing_mm=(None, value, value))
    assert load_facts(dump_facts(facts)) == facts


# Files of other layouts, as an HDF5 tool may write them: they are read, only more slowly.


def rewritten(facts, made, *, image=None, mask=None):
    """The bytes of a case whose datasets were made with other options."""
    entry, content = build_case(facts, made)
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(bytes(content))) as old, h5py.File(buffer, "w", libver=("v110", "v110")) as new:
        new.attrs["format"], new.attrs["facts"] = old.attrs["format"], dump_facts(entry.facts)
        for name in old:
            options = {"image": image, "mask": mask}.get(name) or {}
            new.create_dataset(name, data=old[name][()], **options)
    append_seal(buffer)
    return buffer.getvalue()


LAYOUTS = {
    "gzip": {"chunks": (1, 16, 12), "compression": "gzip"},
    "lzf": {"chunks": (1, 16, 12), "compression": "lzf"},
    "shuffle": {"chunks": (1, 16, 12), "shuffle": True},
    "fletcher32": {"chunks": (1, 16, 12), "fletcher32": True},
    "several slices": {"chunks": (3, 16, 12)},
    "tiles": {"chunks": (1, 8, 6)},
    "contiguous": {"chunks": None},
    "lazily placed chunks": {"chunks": (1, 16, 12)},
}


@pytest.mark.parametrize("which", ["image", "mask"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_read_through_hdf5(tmp_path, layout, which):
    store, pseudonyms = open_store(tmp_path)
    facts, made = made_facts(pseudonyms.of("made", "0")), made_arrays()
    content = rewritten(facts, made, **{which: LAYOUTS[layout]})
    (store.cases_folder / f"{facts.key}.h5").write_bytes(content)
    source = SliceStore(store.path).source(("liver", "spleen"))
    x, y = source.read(np.arange(4))
    np.testing.assert_array_equal(x[..., 0], made.image)
    np.testing.assert_array_equal(y[..., 0], made.mask)
    assert not verify_store(store).faults


def test_a_chunk_that_skipped_its_filter_is_read_right(tmp_path):
    store, pseudonyms = open_store(tmp_path)
    facts, made = made_facts(pseudonyms.of("made", "0")), made_arrays()
    _, content = build_case(facts, made)
    buffer = io.BytesIO(bytes(content)[: -(25 + 64)])
    with h5py.File(buffer, "r+") as file:
        file["mask"].id.write_direct_chunk((1, 0, 0), made.mask[1].tobytes(), filter_mask=1)
    append_seal(buffer)
    (store.cases_folder / f"{facts.key}.h5").write_bytes(buffer.getvalue())
    _, y = SliceStore(store.path).source(("liver", "spleen")).read([1])
    np.testing.assert_array_equal(y[0, ..., 0], made.mask[1])


# Files that are made to do harm: sealed rightly, so that only what they hold can give them away.


def hostile(change):
    buffer = io.BytesIO(bytes_of()[: -(25 + 64)])
    with h5py.File(buffer, "r+") as file:
        change(file)
    append_seal(buffer)
    return buffer.getvalue()


def external_link(file):
    del file["image"]
    file["image"] = h5py.ExternalLink("/etc/hostname", "/x")


def soft_link(file):
    del file["image"]
    file["image"] = h5py.SoftLink("/mask")


def group(file):
    del file["image"]
    file.create_group("image")


def virtual(file):
    del file["image"]
    layout = h5py.VirtualLayout((4, 16, 12), "<i2")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 16, 12))
    file.create_virtual_dataset("image", layout)


def external_storage(file):
    del file["image"]
    file.create_dataset("image", (4, 16, 12), "<i2", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("level", [1, 2, 9])
def test_a_chunk_is_inflated_as_zlib_deflated_it_and_never_beyond_its_size(level):
    plane = np.random.default_rng(0).integers(0, 3, 4096).astype(np.uint8).tobytes()
    packed = zlib.compress(plane, level)
    assert unpack(memoryview(packed), 4096) == plane
    spoiled = bytearray(packed)
    spoiled[-1] ^= 1
    for bad, size in (
        (packed[:-1], 4096),
        (packed[:99], 4096),
        (packed, 4095),
        (packed, 4097),
        (spoiled, 4096),
    ):
        with pytest.raises(ValueError, match="inflated"):
            unpack(memoryview(bad), size)


def shape_bomb(file):
    del file["image"]
    file.create_dataset("image", (2**20, 2**10, 2**10), "<i2", chunks=(1, 2**10, 2**10))


def overflowing_shape_bomb(file):
    del file["z_mm"]
    file.create_dataset("z_mm", (2**32, 2**32), "<f8", chunks=(1, 1))


def chunk_bomb(file):
    del file["image"]
    file.create_dataset("image", (4, 2**14, 2**14), "<i2", chunks=(1, 2**14, 2**14))


def deflate_bomb(file):
    del file["mask"]
    mask = file.create_dataset("mask", (4, 8000, 8000), "u1", chunks=(1, 8000, 8000), compression="gzip")
    mask.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(64_000_000)))


def many_members(file):
    for n in range(5000):
        file[f"x{n}"] = 1


def missing_table(file):
    del file["z_mm"]


def other_sizes(file):
    del file["image"]
    file.create_dataset("image", data=np.zeros((4, 1, 1), "<i2"))


HOSTILE = [
    external_link, soft_link, group, virtual, external_storage, shape_bomb, overflowing_shape_bomb, chunk_bomb,
    deflate_bomb, many_members, missing_table, other_sizes,
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_a_hostile_file_is_refused_fast_and_with_little_memory(change):
    content = hostile(change)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match=r"UNSAFE|DAMAGED"):
        check_case(content)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.monotonic() - start < 1
    assert grown < 200 * 2**10


@pytest.mark.parametrize(
    "change", [external_link, virtual, external_storage], ids=lambda change: change.__name__
)
def test_a_hostile_file_is_refused_even_where_the_index_vouches_for_it(tmp_path, change):
    store, made = made_store(tmp_path, 1)
    key = next(iter(made))
    content = hostile(change)
    (store.cases_folder / f"{key}.h5").write_bytes(content)
    entry = forged(store, key, content)
    store.index.write_bytes(dump_entry(entry))
    with pytest.raises(DataError, match="UNSAFE"):
        SliceStore(store.path).source("liver").read([0])


def forged(store, key, content):
    """An index line that has the right size and hashes for any content."""
    from dataclasses import replace
    from hashlib import sha256

    entry = build_case(made_facts(key), made_arrays())[0]
    digest = sha256(content).hexdigest()
    return replace(entry, size=len(content), sha256=digest, image_range=(0, 0), metadata_sha256=digest)


def test_a_link_to_a_genuine_case_is_not_followed(tmp_path):
    (tmp_path / "other.h5").write_bytes(bytes_of())

    def link(file):
        del file["image"]
        file["image"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/image")

    with pytest.raises(DataError, match="UNSAFE: an HDF5 file with a link or group"):
        check_case(hostile(link))


def test_a_gzip_file_under_a_case_name_is_damaged_and_not_parsed(tmp_path):
    store, pseudonyms = open_store(tmp_path)
    (store.cases_folder / f"{pseudonyms.of('x', '')}.h5").write_bytes(gzip.compress(bytes_of()))
    assert [e.code for e in verify_store(store).faults.values()] == ["DAMAGED"]


def test_uids_are_stored_only_when_given(tmp_path):
    store, pseudonyms = open_store(tmp_path)
    made = made_arrays()
    facts = made_facts(pseudonyms.of("made", "0"), has_uids=True)
    add_case(store, facts, CaseArrays(made.image, made.mask, made.depth_mm, ("1.2.3", "1.2.4")))
    with h5py.File(store.cases_folder / f"{facts.key}.h5") as file:
        assert file["uids"].asstr()[()].tolist() == ["1.2.3", "1.2.4"]
    with h5py.File(io.BytesIO(bytes_of())) as file:
        assert "uids" not in file


def made_case_on_two_grids():
    facts = made_facts(ct_plane=(20, 30), ct_pixel_mm=(0.5, 0.25), resampled_mm=1.0)
    mask_ct = np.random.default_rng(5).integers(0, 3, (4, 20, 30)).astype(np.uint8)
    return facts, replace(made_arrays(), mask_ct=mask_ct)


def test_a_mask_on_the_cts_own_grid_comes_back_voxel_by_voxel(tmp_path):
    facts, arrays = made_case_on_two_grids()
    add_case(open_store(tmp_path)[0], facts, arrays)
    store = SliceStore(tmp_path / "store")
    assert store.cases[0].ct_plane == (20, 30)
    found = store.source(("spleen", "liver")).reference_ct(0)
    np.testing.assert_array_equal(found, np.array([0, 2, 1], np.uint8)[arrays.mask_ct])
    assert verify_store(open_store(tmp_path)[0]).faults == {}


@pytest.mark.parametrize(("plane", "with_mask"), [((20, 29), True), ((20, 30), False), (None, True)])
def test_a_mask_on_another_grid_than_the_facts_state_is_damage(plane, with_mask):
    facts, arrays = made_case_on_two_grids()
    wrong = replace(facts, ct_plane=plane, ct_pixel_mm=plane and (0.5, 0.25))
    with pytest.raises(DataError, match="does not agree with its checksums"):
        build_case(wrong, arrays if with_mask else replace(arrays, mask_ct=None))
