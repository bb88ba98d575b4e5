"""Stores of several machines become one: linked or copied, conflicts reported, sources left alone."""

import errno
import hashlib
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from made.stores import add_case, made_facts

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import Pseudonyms, SliceStore, Store, verify_store
from kerasbalance.data.store.merge import merge_stores
from kerasbalance.data.store.sealed_case import CaseArrays


def made_store(path, numbers, *, secret=b"k" * 32, shift=0):
    """A store with one small case for each number; `shift` changes the pixels."""
    pseudonyms = Pseudonyms(secret, path.parent)
    store = Store.create(path, pseudonyms)
    for number in numbers:
        hu = np.full((3, 8, 8), number + shift, np.int16)
        facts = made_facts(
            pseudonyms.of("series", str(number)), hu.shape, ("liver",), patient=pseudonyms.patient(f"P{number}"),
            patient_spelling=pseudonyms.of("spelling", str(number)), source_digest=f"{number + shift:064x}",
        )  # fmt: skip
        add_case(store, facts, CaseArrays(hu, np.zeros(hu.shape, np.uint8), 4.0 * np.arange(3)))
    return path


def content(path):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("cases/*")}


@pytest.fixture
def two(tmp_path):
    return made_store(tmp_path / "one", [1, 2, 3]), made_store(tmp_path / "two", [3, 4])


def test_the_merged_store_holds_every_case_once_with_its_bytes(two, tmp_path):
    merged = merge_stores(two, tmp_path / "all")
    assert (merged.added, merged.linked, merged.unchanged, merged.conflicts) == (4, 4, 1, ())
    assert content(tmp_path / "all") == content(two[0]) | content(two[1])
    assert len(SliceStore(tmp_path / "all").cases) == 4
    assert not verify_store(Store(tmp_path / "all")).faults
    assert not list((tmp_path / "all" / "tmp").iterdir())


def test_cases_are_linked_and_outlive_the_store_they_came_from(two, tmp_path):
    merge_stores(two, tmp_path / "all")
    (name,) = content(two[1]).keys() - content(two[0]).keys()
    assert (two[1] / "cases" / name).samefile(tmp_path / "all" / "cases" / name)
    before = content(tmp_path / "all")
    for file in two[1].glob("cases/*"):
        file.unlink()
    assert content(tmp_path / "all") == before


def test_without_links_cases_are_copied_and_hashed(two, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(os, "link", refuse)
    merged = merge_stores(two, tmp_path / "all")
    assert (merged.added, merged.linked) == (4, 0)
    assert content(tmp_path / "all") == content(two[0]) | content(two[1])
    file = next(two[0].glob("cases/*"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DataError, match=r"DAMAGED.*other bytes than the index states"):
        merge_stores(two, tmp_path / "again")


def test_the_same_merge_again_changes_nothing_and_more_stores_may_follow(two, tmp_path):
    merge_stores(two[:1], tmp_path / "all")
    merged = merge_stores(two, tmp_path / "all")
    assert (merged.added, merged.unchanged) == (1, 4)
    assert merge_stores(two, tmp_path / "all").added == 0


def test_conflicts_are_reported_and_the_first_counts(two, tmp_path):
    other = made_store(tmp_path / "other", [2], shift=50)
    words = ["merge", *map(str, two), str(other), "--out", str(tmp_path / "all")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3, result.output
    assert "4 cases added (4 linked), 1 already there, 1 left out" in result.output
    assert "left out: CHANGED: store 3, case" in result.output
    assert content(tmp_path / "all") == content(two[0]) | content(two[1])
    result = CliRunner().invoke(main, [*words, "--json"])
    plain = json.loads(result.stdout)
    assert (plain["added"], plain["unchanged"], len(plain["conflicts"])) == (0, 5, 1)


def test_one_ct_under_two_series_is_stored_once(two, tmp_path):
    twin = made_store(tmp_path / "twin", [7], shift=-6)  # the pixels of case 1
    (conflict,) = merge_stores([two[0], twin], tmp_path / "all").conflicts
    assert conflict.code == "DUPLICATE"


def test_stores_of_different_keys_are_refused(two, tmp_path):
    stranger = made_store(tmp_path / "stranger", [9], secret=b"s" * 32)
    with pytest.raises(DataError, match="KEY_DIFFERS: stores that were made with 2 key files"):
        merge_stores([*two, stranger], tmp_path / "all")
    merge_stores(two, tmp_path / "all")
    with pytest.raises(DataError, match="KEY_DIFFERS"):
        merge_stores([stranger], tmp_path / "all")
