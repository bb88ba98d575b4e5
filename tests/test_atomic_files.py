"""Files that are whole or absent."""

import os
import stat

import pytest

from kerasbalance.files import write_file, write_new


def test_a_new_file_is_whole_and_of_the_mode_that_was_asked_for(tmp_path):
    write_new(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"other")


@pytest.mark.parametrize("call", ["os.write", "os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(28, "No space left on device")

    write_file(tmp_path / "a.txt", b"old")
    monkeypatch.setattr(call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a.txt", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"old"}


def test_what_a_killed_process_of_the_same_number_left_does_not_stop_a_write(tmp_path):
    (tmp_path / f".part-{os.getpid()}.a.txt").write_bytes(b"half")
    write_file(tmp_path / "a.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
