"""Every call by which a store is written fails once, in every place: what was done before stays."""

import errno
import os
import shutil
from itertools import count

import pytest
from made.stores import digest, made_arrays, made_facts, made_store, open_store

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import (
    Pseudonyms,
    Rejection,
    SliceStore,
    Store,
    read_rejections,
    record_rejections,
    verify_store,
)
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.sealed_case import build_case
from kerasbalance.data.store.writer import open_writer

CALLS = ("open", "write", "fsync", "replace", "ftruncate", "mkdir", "statvfs", "close", "unlink")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store of three cases, cases to add, and the digest of the finished store."""
    folder = tmp_path_factory.mktemp("prepared")
    made_store(folder, 3)
    finished = tmp_path_factory.mktemp("finished")
    shutil.copytree(folder, finished, dirs_exist_ok=True)
    done = []
    write_all(finished, new_cases(folder), done)
    return folder, digest(finished)


def new_cases(folder):
    """Two new cases, and one in place of a stored one."""
    stored = sorted(Store(folder / "store").entries())[1]
    facts = [made_facts("e" * 32), made_facts(stored), made_facts("f" * 32)]
    return [build_case(fact, made_arrays(50 + n)) for n, fact in enumerate(facts)]


def write_all(folder, cases, done):
    """What an ingest writes; every case is noted when it is reported as stored."""
    store, _ = open_store(folder)
    with open_writer(store) as writer:
        for entry, content in cases:
            if writer.sound(entry.facts.key) == entry.facts:
                continue
            writer.commit(entry, write_aside(store.aside, content))
            done.append(entry)
        record_rejections(store, {"k": Rejection("k", "GAP", "text")}, set())


def told_by(function, *given):
    """Code of the refusal, None for none; nothing else may escape."""
    try:
        function(*given)
    except DataError as error:
        return error.code
    return None


class Failing:
    """Lets the n-th call of `os` that matters fail; a write that fails has written half."""

    def __init__(self, monkeypatch, place, code, folder):
        self.place, self.code, self.calls, self.folder = place, code, count(), str(folder)
        self.failed = False
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name, original):
        def call(*args, **kwargs):
            if name in ("open", "replace", "mkdir", "unlink", "statvfs") and self.folder not in str(args[0]):
                return original(*args, **kwargs)
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
                return original(*args, **kwargs)
            if next(self.calls) != self.place:
                return original(*args, **kwargs)
            self.failed = True
            if name == "write":
                original(args[0], bytes(args[1])[: len(args[1]) // 2])
            if name == "close":
                original(*args, **kwargs)
            raise OSError(self.code, os.strerror(self.code))

        return call


@pytest.mark.parametrize(
    "code",
    [
        errno.ENOSPC,
        errno.EIO,
        *(pytest.param(c, marks=pytest.mark.large) for c in (errno.EDQUOT, errno.EROFS)),
    ],
    ids=errno.errorcode.get,
)
def test_whichever_call_fails_nothing_that_was_reported_is_lost(prepared, tmp_path, monkeypatch, code):
    source, finished = prepared
    cases = new_cases(source)
    before = Store(source / "store").entries()
    for place in count():
        folder, done = tmp_path / str(place), []
        shutil.copytree(source, folder)
        with monkeypatch.context() as patch:
            failing = Failing(patch, place, code, folder / "store")
            told = told_by(write_all, folder, cases, done)
        if not failing.failed:
            break
        full = code in (errno.ENOSPC, errno.EDQUOT)
        assert told in (None, "DISK_FULL" if full else "UNWRITABLE")
        store = Store(folder / "store")
        assert verify_store(store).faults == {}
        assert store.index.read_bytes().endswith(b"\n")
        entries = store.entries()
        assert all(entries[entry.facts.key] == entry for entry in done)
        replaced = cases[1][0]
        assert all(entries[key] in (entry, replaced) for key, entry in before.items())
        write_all(folder, cases, done)
        assert digest(folder) == finished
        assert verify_store(store).faults == {}
        assert [r.key for r in read_rejections(store)] == ["k"]
        assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)
    assert place > 40


def test_a_file_that_cannot_be_written_aside_leaves_nothing_there(tmp_path, monkeypatch):
    for place in count():
        with monkeypatch.context() as patch:
            failing = Failing(patch, place, errno.ENOSPC, tmp_path)
            told = told_by(write_aside, tmp_path, b"content")
        if not failing.failed:
            break
        assert (told, list(tmp_path.iterdir())) == ("DISK_FULL", [])
    assert place == 5  # statvfs, open, write, fsync, close


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_store_that_cannot_be_made_leaves_nothing_that_stops_the_next_try(tmp_path, monkeypatch, code):
    pseudonyms = Pseudonyms(b"x" * 32, tmp_path)
    for place in count():
        folder = tmp_path / str(place)
        folder.mkdir()
        with monkeypatch.context() as patch:
            failing = Failing(patch, place, code, folder)
            told = told_by(Store.create, folder / "store", pseudonyms)
        if not failing.failed:
            break
        assert told in (None, "DISK_FULL", "UNWRITABLE")
        Store.create(folder / "store", pseudonyms)
        assert len(SliceStore(folder / "store")) == 0
    assert place > 8


def test_everything_is_synced_before_the_next_step_relies_on_it(prepared, tmp_path, monkeypatch):
    folder = shutil.copytree(prepared[0], tmp_path / "home")
    entry, content = new_cases(prepared[0])[0]
    store, steps, names = Store(folder / "store"), [], {}

    def watch(name, describe):
        original = getattr(os, name)

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            if name == "open":
                names[result] = os.path.basename(args[0]).split(".")[-1]
            elif (step := describe(*args)) and steps[-1:] != [step]:
                steps.append(step)
            return result

        monkeypatch.setattr(os, name, call)

    with open_writer(store) as writer:
        watch("open", None)
        watch("write", lambda descriptor, content: f"write {names[descriptor]}")
        watch("fsync", lambda descriptor: f"sync {names[descriptor]}")
        watch("replace", lambda old, new: "rename")
        writer.commit(entry, write_aside(store.aside, content))
        steps.append("done")
        monkeypatch.undo()
    assert steps == ["write tmp", "sync tmp", "rename", "sync cases", "write jsonl", "sync jsonl", "done"]
