"""What a kill leaves in a run's folder is removed, and an error says whose it is."""

import errno

import pytest

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.lock import failed_callback, lock_run
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.studies.options import StudyOptions, open_record
from kerasbalance.files import write_by, write_file

LEFT = ("0123456789abcdef0123456789abcdef.tmp", ".part-7.run.json", ".history.csv.7.part", ".model.keras")


def test_unfinished_files_of_a_killed_process_are_removed_when_the_run_is_locked(tmp_path):
    kept = ("run.json", "notes.tmp", "model.keras")
    for name in (*LEFT, *kept):
        (tmp_path / name).write_bytes(b"x")
    lock_run(tmp_path).release()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "LOCK"}


def test_a_study_that_was_killed_before_its_first_file_was_whole_begins_anew(tmp_path):
    (tmp_path / LEFT[0]).write_bytes(b"{")
    options = StudyOptions(("liver",), ("unet",), ("all",), 1, TrainOptions(organs=("any",)))
    told = {"store": "store", "store_digest": "digest", "backend": "jax", "threads": 1}
    assert open_record(tmp_path, options, **told).options == options
    assert list(tmp_path.iterdir()) == []


def test_what_a_function_writes_is_whole_or_absent(tmp_path):
    target = tmp_path / "model.keras"
    write_by(target, lambda part: part.write_text(part.suffix))
    assert target.read_text() == ".keras"

    def fail(part):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_by(target, fail)
    assert target.read_text() == ".keras"
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    write_file(target, b"new")
    assert target.read_bytes() == b"new"


class Reporting:
    def on_epoch_end(self):
        raise OSError(errno.ENOENT, "No such file or directory")


def test_an_error_of_a_callback_is_told_apart_from_one_of_the_run():
    own, other = Reporting(), Reporting()
    with pytest.raises(OSError, match="No such file") as caught:
        own.on_epoch_end()
    told = failed_callback(caught.value, [other, own])
    assert isinstance(told, DataError)
    assert "the callback Reporting, which failed during the training (No such file" in str(told)
    assert failed_callback(caught.value, [other]) is None
