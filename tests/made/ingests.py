"""Runs ingests in processes of their own, to be killed, interrupted and starved."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from kerasbalance.data.store import SliceStore, Store, verify_store
from made.cases import made_pair, make_cohort
from made.commands import environment
from made.stores import digest, key_file

CASES = 16
SHAPE = {"slices": 4, "size": 48}
LARGE = [pytest.mark.large, pytest.mark.timeout(7200)]
DRIVER = Path(__file__).with_name("stores.py")


def driver(folder, cohort, jobs=2):
    """An ingest that reports each case as done in a line of its own."""
    command = [sys.executable, str(DRIVER), str(folder), str(cohort), str(jobs)]
    return subprocess.Popen(
        command, env=environment(folder), stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def ready(child):
    assert child.stdout.readline() == "ready\n"
    return time.monotonic()


def family(pid):
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes):
    wait_for(lambda: not any(map(is_alive, processes)))


def cli(folder, cohort, *more, **how):
    words = [
        "ingest",
        str(cohort),
        "--out",
        "store",
        "--key-file",
        str(key_file(folder)),
        "--jobs",
        "2",
        *more,
    ]
    command = [sys.executable, "-m", "kerasbalance.cli", *words]
    options = {
        "cwd": folder,
        "env": environment(folder),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return subprocess.Popen(command, text=True, start_new_session=True, **(options | how))


def index_lines(folder):
    path = folder / "store" / "index.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def assert_sound(folder, reported):
    """Every case that was reported is stored, voxel by voxel, and nothing in the store is half a case."""
    store = Store(folder / "store")
    assert verify_store(store).faults == {}
    opened = SliceStore(folder / "store")
    keys = [case.key for case in opened.cases]
    for status, key, name in reported:
        assert status in ("taken", "unchanged")
        x, y = opened.source(("liver", "spleen")).read(
            np.arange(SHAPE["slices"]) + opened.first_ref[keys.index(key)]
        )
        hu, labels = made_pair(int(name[2:5]), **SHAPE)
        np.testing.assert_array_equal(x[..., 0], hu)
        np.testing.assert_array_equal(y[..., 0], labels)


def make_small_cohort(folder):
    """Write the cases that all fault tests ingest."""
    make_cohort(folder, CASES, **SHAPE)
    return folder


def run_undisturbed(folder, cohort):
    """Ingest them in peace; return the store's digest, the seconds that it took, and the folder."""
    with driver(folder, cohort) as child:
        start = ready(child)
        reported = child.stdout.read().split("\n")
    assert (child.returncode, len(reported) - 1) == (0, CASES)
    return digest(folder), time.monotonic() - start, folder
