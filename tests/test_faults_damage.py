"""Flipped bits, cut and missing files: named by `verify`, never read as something else, mended by `ingest`."""

import os
import shutil

import numpy as np
import pytest
from made.commands import invoke
from made.ingests import LARGE
from made.stores import digest, key_file, made_store

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore, Store, verify_store


def regions(path):
    """Byte ranges of a case file: what each holds."""
    content = path.read_bytes()
    entry = Store(path.parents[1]).entries()[path.stem]
    start, stop = entry.image_range
    facts = content.index(b'"columns"')
    return {
        "superblock": (0, 48), "object headers": (48, 400), "facts": (facts, facts + 400), "image": (start, stop),
        "masks and tables": (stop, len(content) - 200), "seal": (len(content) - 89, len(content)),
    }  # fmt: skip


REGIONS = ["superblock", "object headers", "facts", "image", "masks and tables", "seal"]


def damage_is_told(store, path, made):
    """`verify` names the case; reading gives right voxels or a refusal."""
    found = verify_store(store)
    assert list(found.faults) == [path.stem]
    assert len(found.sound) == len(made) - 1
    opened = SliceStore(store.path)
    keys, refused = [case.key for case in opened.cases], set()
    for key, arrays in made.items():
        first = int(opened.first_ref[keys.index(key)])
        for n in range(len(arrays.image)):
            try:
                x, y = opened.source(("liver", "spleen")).read([first + n])
            except DataError:
                refused.add(key)
                continue
            np.testing.assert_array_equal(x[0, ..., 0], arrays.image[n])
            np.testing.assert_array_equal(y[0, ..., 0], arrays.mask[n])
    assert refused <= {path.stem}


def flip_bits(path, spots, check):
    whole = path.read_bytes()
    for at in spots:
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        check()
    path.write_bytes(whole)


@pytest.mark.parametrize("region", REGIONS)
def test_a_flipped_bit_in_each_region_is_named_and_never_read(tmp_path, region):
    store, made = made_store(tmp_path, 2)
    path = store.cases_folder / f"{sorted(made)[0]}.h5"
    low, high = regions(path)[region]
    spots = np.random.default_rng(0).integers(8 * low, 8 * high, 8).tolist()
    flip_bits(path, spots, lambda: damage_is_told(store, path, made))
    assert verify_store(store).faults == {}


@pytest.mark.parametrize("flips", [250, pytest.param(5000, marks=LARGE)])
@pytest.mark.parametrize("index", ["with the index", "without the index"])
def test_no_random_flip_is_silent(tmp_path, flips, index):
    store, made = made_store(tmp_path, 2)
    path = store.cases_folder / f"{sorted(made)[0]}.h5"
    spots = np.random.default_rng(flips).integers(0, 8 * path.stat().st_size, flips).tolist()
    if index == "with the index":
        flip_bits(path, spots, lambda: damage_is_told(store, path, made))
        return
    store.index.unlink()

    def refused():
        assert list(verify_store(store).faults) == [path.stem]
        with pytest.raises(DataError, match="DAMAGED"):
            SliceStore(store.path)

    flip_bits(path, spots, refused)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_case_is_named_by_verify_with_exit_1_and_mended_by_ingest(
    cohort, undisturbed, tmp_path, damage
):
    home = shutil.copytree(undisturbed[2], tmp_path / "home")
    path = sorted((home / "store" / "cases").iterdir())[3]
    content = path.read_bytes()
    {
        "flip": lambda: path.write_bytes(content[:-500] + b"x" + content[-499:]),
        "cut": lambda: os.truncate(path, len(content) // 2),
        "empty": lambda: os.truncate(path, 0),
        "missing": path.unlink,
    }[damage]()
    verified = invoke(home, "verify", "store")
    assert verified.exit_code == 1
    assert verified.stdout.startswith(f"damaged  DAMAGED: case {path.stem[:8]}: ")
    assert verified.stdout.endswith("15 cases sound, 1 damaged\n")
    mended = invoke(home, "ingest", cohort, "--out", "store", "--key-file", key_file(home))
    assert mended.stdout.splitlines()[-1] == "15 unchanged, 1 mended"
    assert digest(home) == undisturbed[0]
