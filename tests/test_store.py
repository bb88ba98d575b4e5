import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made.commands import environment
from made.stores import add_case, key_file, made_arrays, made_facts, made_store, open_store

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import Pseudonyms, Rejection, SliceStore, Store, read_rejections, verify_store
from kerasbalance.data.store.catalogue import dump_entry, dump_withdrawal, load_entry, read_catalogue
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.rejections import record_rejections
from kerasbalance.data.store.sealed_case import build_case
from kerasbalance.data.store.writer import open_writer


def faults(store):
    return {key: error.message() for key, error in verify_store(store).faults.items()}


def test_a_new_store_is_empty_and_sound(tmp_path):
    store, _ = open_store(tmp_path)
    assert (store.entries(), faults(store), len(SliceStore(store.path))) == ({}, {}, 0)


def test_nobody_else_may_look_into_a_store_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        store, _ = made_store(tmp_path, 2)
        record_rejections(store, {"k": Rejection("k", "GAP", "text")}, set())
        Pseudonyms.load(tmp_path / "new keys" / "secret.key").remember("k", tmp_path)
    finally:
        os.umask(before)
    made = [*store.path.rglob("*"), store.path, tmp_path / "new keys", *(tmp_path / "new keys").iterdir()]
    modes = (
        {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()},
        {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()},
    )
    assert modes == ({0o700}, {0o600})


def test_a_folder_with_other_files_is_no_place_for_a_store(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.docx").touch()
    with pytest.raises(DataError, match="NO_STORE: a folder that holds other files"):
        open_store(tmp_path)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.docx"]


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(DataError, match="NO_STORE"):
        Store(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"NO_STORE|UNWRITABLE"):
            Store.create(path, Pseudonyms.load(key_file(tmp_path)))


def test_a_store_that_was_half_made_is_completed(tmp_path):
    for name in ("cases", "tmp"):
        (tmp_path / "store" / name).mkdir(parents=True)
    (tmp_path / "store" / "0123.tmp").write_bytes(b"{")
    store, _ = made_store(tmp_path, 1)
    assert not list(store.path.glob("*.tmp"))
    assert len(store.entries()) == 1


def test_another_secret_is_refused(tmp_path):
    open_store(tmp_path)
    with pytest.raises(DataError, match="KEY_DIFFERS"):
        Store.create(tmp_path / "store", Pseudonyms(b"x" * 32, tmp_path))


def test_a_store_of_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasbalance.data.store.store.FORMAT_VERSION", 2)
    open_store(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="FORMAT: a store of format 2"):
        Store(tmp_path / "store")


def test_no_flipped_bit_of_store_json_goes_unnoticed(tmp_path):
    store, _ = open_store(tmp_path)
    path = store.path / "store.json"
    content = path.read_bytes()
    for at in range(0, 8 * len(content), 11):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        # A blank may become another white space.
        if _manifest(store) != json.loads(content):
            with pytest.raises(DataError, match="DAMAGED: a damaged store"):
                Store(store.path)


def _manifest(store):
    try:
        return Store(store.path).manifest
    except DataError:
        return None


def test_a_case_that_was_committed_is_in_the_store_and_in_its_index(tmp_path):
    store, made = made_store(tmp_path, 3)
    assert sorted(store.entries()) == sorted(made) == sorted(read_catalogue(store.index).entries)
    assert not list(store.aside.iterdir())


def test_a_lost_index_is_rebuilt_from_the_cases(tmp_path):
    store, made = made_store(tmp_path, 3)
    before = SliceStore(store.path).digest
    store.index.unlink()
    assert SliceStore(store.path).digest == before
    with open_writer(store):
        pass
    assert sorted(read_catalogue(store.index).entries) == sorted(made)


@pytest.mark.parametrize("cut", [1, 2, 50, 400])
def test_a_torn_last_line_costs_nothing(tmp_path, cut):
    store, _ = made_store(tmp_path, 3)
    before = SliceStore(store.path).digest
    os.truncate(store.index, store.index.stat().st_size - cut)
    assert SliceStore(store.path).digest == before
    add_case(store, made_facts("f" * 32), made_arrays(9))
    assert len(read_catalogue(store.index).entries) == 4
    assert read_catalogue(store.index).is_tidy


def test_no_flipped_bit_of_the_index_changes_what_a_store_says(tmp_path):
    store, _ = made_store(tmp_path, 2)
    before, content = SliceStore(store.path).digest, store.index.read_bytes()
    for at in np.random.default_rng(0).integers(0, 8 * len(content), 100).tolist():
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        store.index.write_bytes(flipped)
        assert SliceStore(store.path).digest == before


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"0", b"00000000 {}\n", b"zz {}", b"\xff\xfe \xff", b"5 [[[[" * 5000]
)
def test_what_is_no_index_line_is_no_entry(line):
    assert load_entry(line) is None


def test_a_withdrawn_line_counts_no_more(tmp_path):
    store, made = made_store(tmp_path, 2)
    key = next(iter(made))
    with store.index.open("ab") as file:
        file.write(dump_withdrawal(key))
    assert key not in read_catalogue(store.index).entries
    assert key in store.entries()


def test_an_old_copy_of_the_index_gives_way_to_the_cases(tmp_path):
    store, made = made_store(tmp_path, 2)
    old = store.index.read_bytes()
    key = next(iter(made))
    add_case(store, made_facts(key, (5, 16, 12)), made_arrays(7, (5, 16, 12)))
    store.index.write_bytes(old)
    assert store.entries()[key].facts.slices == 5
    assert not faults(store)


def test_a_missing_file_is_named_until_it_is_mended_or_the_index_deleted(tmp_path):
    store, made = made_store(tmp_path, 3)
    key, other = sorted(made)[:2]
    (store.cases_folder / f"{key}.h5").unlink()
    for _ in range(2):
        assert list(faults(store)) == [key]
        add_case(store, made_facts("f" * 32), made_arrays(9))  # an ingest of other cases does not forget it
    with pytest.raises(
        DataError, match="DAMAGED: 1 damaged cases, the first because of a case whose file is missing"
    ):
        SliceStore(store.path)
    assert len(SliceStore(store.path, [other])) == 4


def test_a_case_without_a_line_is_found(tmp_path):
    store, made = made_store(tmp_path, 3)
    lines = store.index.read_bytes().splitlines(keepends=True)
    store.index.write_bytes(b"".join(lines[1:]))
    assert sorted(store.entries()) == sorted(made)


def test_swapped_files_are_both_damaged(tmp_path):
    store, made = made_store(tmp_path, 3)
    one, two = (store.cases_folder / f"{key}.h5" for key in sorted(made)[:2])
    aside = tmp_path / "x"
    one.rename(aside), two.rename(one), aside.rename(two)
    assert list(faults(store)) == sorted(made)[:2]
    store.index.unlink()
    assert all("under another case's name" in message for message in faults(store).values())


@pytest.mark.parametrize("kind", ["text", "folder", "fifo", "dangling link", "link", "foreign name"])
def test_strays_among_the_cases_are_told_without_their_name(tmp_path, kind):
    store, made = made_store(tmp_path, 1)
    place = store.cases_folder / "DOE^JANE.h5"
    {
        "text": lambda: (store.cases_folder / "DOE^JANE.txt").write_text("x"),
        "folder": place.mkdir,
        "fifo": lambda: os.mkfifo(place),
        "dangling link": lambda: place.symlink_to("/nowhere"),
        "link": lambda: (store.cases_folder / f"{'e' * 32}.h5").symlink_to(
            store.cases_folder / f"{next(iter(made))}.h5"
        ),
        "foreign name": lambda: shutil.copy(store.cases_folder / f"{next(iter(made))}.h5", place),
    }[kind]()
    found = faults(store)
    assert list(found) == ["stray 1"]
    assert "DOE" not in found["stray 1"]
    with open_writer(store):
        pass


@pytest.mark.parametrize("name", ["store.json", "index.jsonl", "rejects.jsonl", "LOCK"])
@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_a_pipe_or_folder_in_place_of_a_file_does_not_hang(tmp_path, name, kind):
    store, made = made_store(tmp_path, 1)
    (store.path / name).unlink(missing_ok=True)
    os.mkfifo(store.path / name) if kind == "a pipe" else (store.path / name).mkdir()
    with contextlib.suppress(DataError):
        assert sorted(SliceStore(store.path).digest)
        assert read_rejections(store) == []
    with contextlib.suppress(DataError), open_writer(Store(store.path)):
        record_rejections(store, {"k": Rejection("k", "GAP", "text")}, set())
    assert (store.cases_folder / f"{next(iter(made))}.h5").stat().st_size


def test_a_second_writer_is_told_who_writes(tmp_path):
    store, _ = open_store(tmp_path)
    with open_writer(store):
        message = f"LOCKED: a store that is being written by process {os.getpid()} on "
        with pytest.raises(DataError, match=message), open_writer(Store(store.path)):
            pass
        assert store.entries() == {}
    assert (store.path / "LOCK").read_bytes() == b""


def test_the_lock_of_a_dead_process_frees_itself(tmp_path):
    store, _ = open_store(tmp_path)
    code = (
        "import os, sys; from made.stores import open_store, open_writer; from pathlib import Path\n"
        "with open_writer(open_store(Path(sys.argv[1]))[0]): os.kill(os.getpid(), 9)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment(tmp_path), check=False
    )
    assert child.returncode == -9
    assert b"process" in (store.path / "LOCK").read_bytes()
    with open_writer(store):
        pass


def test_a_failing_block_gives_the_lock_back(tmp_path):
    store, _ = open_store(tmp_path)
    with pytest.raises(KeyError), open_writer(store):
        raise KeyError
    with open_writer(store):
        pass


def test_what_a_dead_writer_left_aside_is_cleared(tmp_path):
    store, made = made_store(tmp_path, 1)
    (store.aside / "0.tmp").write_bytes(b"half a case")
    (store.path / "1.tmp").write_bytes(b"half an index")
    with open_writer(store):
        pass
    assert not [*store.aside.iterdir(), *store.path.glob("*.tmp")]
    assert sorted(store.entries()) == sorted(made)


def test_a_case_dropped_while_a_reader_looks_is_not_called_missing(tmp_path, monkeypatch):
    store, made = made_store(tmp_path, 3)
    dropped, cut, _ = sorted(made)
    files = Store._files

    def dropped_meanwhile(self):
        monkeypatch.undo()
        os.truncate(store.cases_folder / f"{cut}.h5", 10)
        with open_writer(store) as writer:
            writer.drop(dropped)
        return files(self)

    monkeypatch.setattr(Store, "_files", dropped_meanwhile)
    found, damaged = Store(store.path).survey()
    assert list(damaged) == [cut]
    assert len(found) == 1


def test_a_kill_between_a_replaced_file_and_its_line_leaves_a_sound_store(tmp_path, monkeypatch):
    store, made = made_store(tmp_path, 2)
    key = next(iter(made))
    # The same size, so that only the withdrawal keeps the old line from describing the new file.
    other = replace(made[key], image=made[key].image[::-1])
    entry, content = build_case(made_facts(key), other)
    assert entry.size == store.entries()[key].size

    def killed(path, line):
        if b"withdrawn" not in line:
            raise KeyboardInterrupt
        with path.open("ab") as file:
            file.write(line)

    monkeypatch.setattr("kerasbalance.data.store.writer.append_line", killed)
    with pytest.raises(KeyboardInterrupt), open_writer(store) as writer:
        writer.commit(entry, write_aside(store.aside, content))
    monkeypatch.undo()
    assert not faults(store)
    assert store.entries()[key] == entry


def test_a_stale_line_of_the_same_size_is_told_and_then_mended(tmp_path):
    store, made = made_store(tmp_path, 2)
    key = next(iter(made))
    entry = store.entries()[key]
    stale = replace(entry, sha256="0" * 64)
    lines = [dump_entry(stale if e == entry else e) for e in store.entries().values()]
    store.index.write_bytes(b"".join(lines))
    assert "not the one that the index names" in faults(store)[key]
    with open_writer(store) as writer:
        assert writer.sound(key) == entry.facts
    assert not faults(store)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]\n{}\nnull\n", b'{"key": 1}\n', b"[" * 100_000])
def test_a_damaged_log_of_refusals_stops_nothing(tmp_path, content):
    store, _ = open_store(tmp_path)
    (store.path / "rejects.jsonl").write_bytes(content)
    assert read_rejections(store) == []
    record_rejections(store, {"k": Rejection("k", "GAP", "text")}, set())
    assert read_rejections(store) == [Rejection("k", "GAP", "text")]


def test_refusals_are_kept_until_their_source_is_taken(tmp_path):
    store, _ = open_store(tmp_path)
    one, two = Rejection("1", "GAP", "a"), Rejection("2", "TILT", "b")
    record_rejections(store, {"1": one, "2": two}, set())
    record_rejections(store, {"2": replace(two, code="GAP")}, {"1"})
    assert read_rejections(store) == [replace(two, code="GAP")]


def test_spellings_of_a_patient_share_a_key_and_secrets_do_not(tmp_path):
    keys = Pseudonyms(b"x" * 32, tmp_path)
    assert len({keys.patient(name) for name in ("Doe-12", "doe 12", " DOE_12", "doe^12")}) == 1
    assert keys.patient("12") != keys.patient("13")
    assert keys.patient("12") != Pseudonyms(b"y" * 32, tmp_path).patient("12")
    assert len({keys.of("patient", "1"), keys.of("series", "1")}) == 2


def test_a_path_that_is_no_unicode_has_a_key(tmp_path):
    assert len(Pseudonyms(b"x" * 32, tmp_path).of("source", "/data/\udcff")) == 32


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_file_of_another_size_is_refused(tmp_path, size):
    (tmp_path / "k").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"KEY_FILE: key file: a key file of {size} bytes"):
        Pseudonyms.load(tmp_path / "k")


def test_the_secret_is_in_no_text_and_no_store(tmp_path):
    store, _ = made_store(tmp_path, 1)
    secret = (tmp_path / "keys" / "secret.key").read_bytes()
    assert repr(secret)[2:20] not in repr(Pseudonyms.load(tmp_path / "keys" / "secret.key"))
    assert all(secret not in path.read_bytes() for path in store.path.rglob("*") if path.is_file())


def test_links_that_were_torn_do_not_tear_the_next(tmp_path):
    keys = Pseudonyms(b"x" * 32, tmp_path)
    keys.remember("a", tmp_path)
    os.truncate(tmp_path / "links.jsonl", (tmp_path / "links.jsonl").stat().st_size - 3)
    keys.remember("b", tmp_path)
    assert keys.sources() == {"b": str(tmp_path)}


def test_links_that_cannot_be_written_stop_nothing(tmp_path):
    (tmp_path / "links.jsonl").mkdir()
    assert Pseudonyms(b"x" * 32, tmp_path).remember("a", tmp_path) is False
    assert Pseudonyms(b"x" * 32, tmp_path).sources() == {}
