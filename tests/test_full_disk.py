"""A full disk under every command that writes: one clear line, exit 1, and what was there before stays."""

import contextlib
import hashlib
import shutil

import pytest
from test_runs import TRAIN, call, home  # noqa: F401  # a fixture


@pytest.fixture
def full(disk):
    """A disk with no more than some KiB left, and in it a file that must stay as it is."""
    place = disk("size=4m")
    (place / "kept").write_bytes(b"mine")

    def fill(keep_kib=8):
        with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        with (place / "filler").open("r+b") as file:
            file.truncate((place / "filler").stat().st_size - keep_kib * 1024)
        return place

    return fill


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("filler", "LOCK")
    }


COMMANDS = {
    "train": ["train", "{root}/store", "--out", "{disk}/new", *TRAIN],
    "eval": ["eval", "{disk}/run", "--store", "{root}/store"],
    "report": ["report", "{disk}/run", "--store", "{root}/store"],
    "mine": ["mine", "{disk}/run", "--store", "{root}/store", "--out", "{disk}/mined"],
    "predict": ["predict", "{root}/run", "{root}/phantom/case-000/ct", "--out", "{disk}/liver.nii"],
    "predict SEG": ["predict", "{root}/run", "{root}/phantom/case-000/ct", "--out", "{disk}/liver.dcm"],
    "study": ["study", "{root}/store", "--out", "{disk}/study", "--arms", "0.5", "--seeds", "1",
              "--iterations", "6", "--base-filters", "4"],
    "phantom": ["phantom", "--out", "{disk}/phantom", "--cases", "8", "--size", "32"],
    "ingest": ["ingest", "{root}/phantom", "--out", "{disk}/store", "--key-file", "{root}/key"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_gives_one_clear_line_and_nothing_is_lost(home, full, tmp_path, name):  # noqa: F811
    place = tmp_path / "disk"
    if "{disk}/run" in " ".join(COMMANDS[name]):
        shutil.copytree(home / "run", place / "run")
    place = full()
    before = digests(place)
    code, output = call(*(word.format(root=home, disk=place) for word in COMMANDS[name]))
    assert code == 1, output
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert last.startswith("Error: "), output
    assert "INTERNAL" not in output
    assert str(place) not in last
    assert before.items() <= digests(place).items()
