import errno
import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from made.endless_saver import content

import kerasbalance as kb
from kerasbalance.training.checkpoint import CheckpointFolder, prefixed, read_checkpoint, under
from kerasbalance.training.checkpoint_reading import read_newest

SAVER = Path(__file__).parent / "made" / "endless_saver.py"


@pytest.fixture
def folder(tmp_path):
    with CheckpointFolder(tmp_path) as opened:
        yield opened


def save(folder, *iterations):
    for iteration in iterations:
        path = folder.save(content(iteration), {"iteration": iteration})
    return path


def is_content(checkpoint):
    expected = content(checkpoint.info["iteration"])
    return checkpoint.arrays.keys() == expected.keys() and all(
        np.array_equal(checkpoint.arrays[name], expected[name]) for name in expected
    )


def test_what_was_saved_is_loaded_bit_by_bit(folder):
    arrays = {
        "a/0": np.array([np.pi, -0.0, np.inf]),
        "b": np.zeros((0, 3), np.uint8),
        "c": np.array(5, np.int64),
        "text": np.array(["hard", "easy"]),
    }
    folder.save(arrays, {"iteration": 3, "history": {"loss": [0.1 + 0.2]}})
    loaded = folder.load()
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in loaded.arrays.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
    }
    assert loaded.info == {"iteration": 3, "history": {"loss": [0.1 + 0.2]}}


def test_the_newest_two_are_kept(folder):
    save(folder, 1, 2, 3)
    assert [entry.name for entry in folder.entries()] == ["000003-iteration-3", "000002-iteration-2"]


def test_the_newest_is_the_last_saved_even_where_the_iteration_is_the_same(folder):
    save(folder, 5)
    folder.save({"x": np.zeros(1)}, {"iteration": 5})
    assert list(folder.load().arrays) == ["x"]


@pytest.mark.parametrize("name", ["arrays.npz", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_checkpoint_is_set_aside_loudly_and_the_one_before_loaded(folder, name, damage):
    path = save(folder, 1, 2) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    {
        "flip": lambda: path.write_bytes(data),
        "truncate": lambda: path.write_bytes(data[:-9]),
        "empty": lambda: path.write_bytes(b""),
        "remove": path.unlink,
    }[damage]()
    with pytest.warns(
        kb.CheckpointWarning, match=r"000002-iteration-2 is damaged.*the older 000001-iteration-1"
    ):
        assert is_content(folder.load())
    assert [entry.name for entry in folder.entries()] == ["000001-iteration-1"]
    save(folder, 3)
    assert folder.load().info["iteration"] == 3


def test_no_flipped_bit_is_ever_loaded(folder):
    newest = save(folder, 1, 2)
    rng = random.Random(0)
    for path in newest.iterdir():
        whole = path.read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            try:
                checkpoint = read_checkpoint(newest)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            assert is_content(checkpoint), "a damaged checkpoint was taken for a good one"
        path.write_bytes(whole)


def test_a_manifest_that_was_edited_is_refused(folder):
    path = save(folder, 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["info"]["iteration"] = 99
    path.write_text(json.dumps(manifest))
    with pytest.raises(kb.CheckpointError, match="its manifest is damaged or of another format"):
        folder.load()


def test_nothing_to_load_is_an_error(folder):
    with pytest.raises(
        kb.CheckpointError, match=r"received no valid checkpoint.*damaged: none; expected at least one"
    ):
        folder.load()


def test_objects_are_never_stored(folder):
    with pytest.raises(ValueError, match="allow_pickle"):
        folder.save({"x": np.array([object()])}, {"iteration": 1})
    assert folder.entries() == []


def test_a_second_process_is_kept_out(folder):
    with pytest.raises(kb.CheckpointError, match="which another process has open"):
        CheckpointFolder(folder.path)


def test_readers_take_no_lock_while_a_training_has_the_folder(folder):
    save(folder, 1)
    save(folder, 2)
    before = sorted(entry.name for entry in folder.path.iterdir())
    assert read_newest(folder.path).info["iteration"] == 2
    assert sorted(entry.name for entry in folder.path.iterdir()) == before


def test_a_reader_passes_over_a_damaged_checkpoint_and_leaves_it_where_it_is(folder):
    save(folder, 1)
    damaged = save(folder, 2)
    (damaged / "arrays.npz").write_bytes(b"")
    assert read_newest(folder.path).info["iteration"] == 1
    assert damaged.exists()


def test_a_reader_names_what_is_missing_and_makes_no_folder(tmp_path):
    with pytest.raises(kb.CheckpointError, match="received no valid checkpoint; expected at least one"):
        read_newest(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def names(folder):
    return sorted(entry.name for entry in folder.path.iterdir() if entry.name != "LOCK")


@pytest.mark.parametrize(
    ("function", "call"), [("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("rename", 0)]
)
def test_a_full_disk_keeps_what_was_there_and_leaves_nothing_behind(folder, monkeypatch, function, call):
    save(folder, 1)
    real, left = getattr(os, function), [call]

    def full(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, function, full)
    with pytest.raises(kb.CheckpointWriteError, match=r"No space left.*kept: 00000\d-iteration-\d"):
        save(folder, 2)
    assert is_content(folder.load())
    assert not any(name.startswith(".part") for name in names(folder))


def test_a_disk_that_is_really_full_keeps_the_newest_and_the_message_says_so(folder):
    save(folder, 1, 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            kb.CheckpointWriteError, match=r"while saving iteration 3.*kept: 000002-iteration-2"
        ):
            save(folder, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.load().info["iteration"] == 2
    assert save(folder, 4).name == "000003-iteration-4"


def test_room_is_made_by_removing_the_older_one_before_giving_up(folder, monkeypatch):
    save(folder, 1, 2)
    real = os.fsync

    def full_while_two_are_there(descriptor):
        if len(folder.entries()) >= 2 and any(folder.path.glob(".part-*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_while_two_are_there)
    save(folder, 3)
    assert [entry.name for entry in folder.entries()] == ["000003-iteration-3", "000002-iteration-2"]


def test_what_does_not_read_back_is_not_kept(folder, monkeypatch):
    save(folder, 1)

    def unreadable(path):
        raise ValueError("flipped")

    monkeypatch.setattr("kerasbalance.training.checkpoint.read_checkpoint", unreadable)
    with pytest.raises(
        kb.CheckpointWriteError, match=r"does not read back: flipped.*kept: 000001-iteration-1"
    ):
        save(folder, 2)


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".part-abc").mkdir()
    CheckpointFolder(tmp_path).close()
    assert not (tmp_path / ".part-abc").exists()


def test_prefixes_are_put_and_taken_away():
    arrays = prefixed("a", {"x": np.zeros(1), "b/y": np.ones(1)})
    assert list(under("a", arrays)) == ["x", "b/y"]
    assert under("a/b", arrays)["y"] == 1


def kill_while_saving(path, kills):
    """Kill the saver at random moments; after each, what it acknowledged last, or newer, must load."""
    rng = random.Random(kills)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(kills):
        command = [sys.executable, str(SAVER), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as saver:
            acknowledged = int(saver.stdout.readline())
            time.sleep(rng.uniform(0, 0.03))
            saver.kill()
            acknowledged = max([acknowledged, *map(int, saver.stdout.read().split())])
        with warnings.catch_warnings(), CheckpointFolder(path) as folder:
            warnings.simplefilter("error")  # no fallback: each kill leaves whole checkpoints only
            checkpoint = folder.load()
        assert checkpoint.info["iteration"] >= acknowledged
        assert is_content(checkpoint)


def test_kills_during_saving_leave_a_loadable_consistent_checkpoint(tmp_path):
    kill_while_saving(tmp_path, 8)


@pytest.mark.large
def test_two_hundred_kills_during_saving_leave_a_loadable_consistent_checkpoint(tmp_path):
    kill_while_saving(tmp_path, 200)
