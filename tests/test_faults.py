"""Kills, signals and readers: nothing that an ingest reported as done is lost.

The small forms run by default; `pytest -m large` runs hundreds of kills and thousands of flips.
"""

import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
from made.commands import environment, run_cli
from made.ingests import (
    CASES,
    LARGE,
    assert_sound,
    cli,
    driver,
    family,
    index_lines,
    ready,
    wait_for,
    wait_until_gone,
)
from made.stores import digest, take

from kerasbalance.data.ingest.layouts import find_cases
from kerasbalance.data.store import SliceStore, Store, verify_store


def run_and_kill(folder, cohort, after_s, after_reports=0):
    """Start an ingest and kill it; return what it had reported and whether it was still alive."""
    with driver(folder, cohort) as child:
        ready(child)
        first = [child.stdout.readline() for _ in range(after_reports)]
        time.sleep(after_s)
        relatives = family(child.pid)
        child.kill()
        alive = child.wait() == -signal.SIGKILL
        reported = [line.split() for line in [*first, *child.stdout.read().splitlines()] if line]
    wait_until_gone(relatives)
    return reported, alive


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=LARGE)])
def test_a_killed_ingest_loses_nothing_and_is_completed_by_the_next(cohort, undisturbed, tmp_path, kills):
    wanted, span, _ = undisturbed
    rng = np.random.default_rng(kills)
    hit = 0
    for trial in range(4 * kills):
        folder = tmp_path / str(trial)
        folder.mkdir()
        reported, alive = run_and_kill(folder, cohort, rng.uniform(0, span))
        hit += alive
        assert_sound(folder, reported)
        if trial % 5 == 0:
            resumed = driver(folder, cohort)
            again = [line.split()[0] for line in resumed.communicate()[0].splitlines()[1:]]
            assert again.count("unchanged") >= len(reported)
            assert digest(folder) == wanted
            assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)
        if hit == kills:
            return
    pytest.fail(f"only {hit} of {kills} kills hit a running ingest")


@pytest.mark.parametrize(("chains", "step"), [(1, (4, 8)), pytest.param(25, (1, 4), marks=LARGE)])
def test_chains_of_kills_and_resumptions_end_in_the_undisturbed_store(
    cohort, undisturbed, tmp_path, chains, step
):
    rng = np.random.default_rng(chains)
    for chain in range(chains):
        folder, known = tmp_path / str(chain), {}
        folder.mkdir()
        for _ in range(CASES):
            reported, alive = run_and_kill(
                folder, cohort, rng.uniform(0, 0.1), len(known) + rng.integers(1, 4)
            )
            known |= {key: (status, key, name) for status, key, name in reported}
            assert_sound(folder, known.values())
            if not alive:
                break
        assert len(take(folder, list(find_cases(cohort).requests))) == CASES
        assert digest(folder) == undisturbed[0]
        assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("number", "exit_code", "group"),
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGINT, 130, True),
        pytest.param(signal.SIGTERM, 143, True, marks=pytest.mark.large),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.large),
    ],
)
def test_an_interrupted_ingest_says_what_is_kept(cohort, undisturbed, tmp_path, number, exit_code, group):
    child = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 2)
    relatives = family(child.pid)
    (os.killpg if group else os.kill)(child.pid, number)
    _, told = child.communicate()
    kept = re.fullmatch(r"interrupted; kept (\d+) of 16 cases; run the same command again to go on\n", told)
    assert child.returncode == exit_code
    assert kept, told
    assert 1 <= int(kept[1]) <= index_lines(tmp_path) < CASES
    wait_until_gone(relatives)
    assert verify_store(Store(tmp_path / "store")).faults == {}
    assert not list(tmp_path.rglob("*.tmp"))
    assert "refused" not in run_cli(tmp_path, "info", "store").stdout
    _, told = cli(tmp_path, cohort).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])


def test_an_ingest_under_nohup_ignores_ctrl_c(cohort, undisturbed, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the child inherits
    try:
        child = cli(tmp_path, cohort)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: index_lines(tmp_path) >= 2)
    os.killpg(child.pid, signal.SIGINT)
    _, told = child.communicate()
    assert (child.returncode, told, digest(tmp_path)) == (0, "", undisturbed[0])


def test_a_second_ingest_at_once_is_refused_and_the_first_completes(cohort, undisturbed, tmp_path):
    first = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 1)
    first.send_signal(signal.SIGSTOP)
    second = cli(tmp_path, cohort)
    _, told = second.communicate()
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert re.fullmatch(rf"Error: LOCKED: a store that is being written by process {first.pid} on .*\n", told)
    first.communicate()
    assert (first.returncode, digest(tmp_path)) == (0, undisturbed[0])


def test_a_reader_keeps_its_snapshot_while_an_ingest_writes(cohort, tmp_path):
    child = cli(tmp_path, cohort)
    wait_for(lambda: index_lines(tmp_path) >= 1)
    snapshots = []
    while child.poll() is None:
        opened = SliceStore(tmp_path / "store")
        source = opened.source(("liver", "spleen"))
        snapshots.append((opened, source, opened.digest, source.read(np.arange(len(opened)))))
        time.sleep(0.2)
    child.communicate()
    for opened, source, before, (x, y) in snapshots:
        assert opened.digest == before
        again = source.read(np.arange(len(opened)))
        np.testing.assert_array_equal(again[0], x)
        np.testing.assert_array_equal(again[1], y)


def test_no_clock_time_zone_or_umask_matters(cohort, undisturbed, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    for path in data.iterdir():
        os.utime(path, (0, 0))
    home = {"HOME": str(tmp_path / "nobody"), "LANG": "C", "LC_ALL": "C"}
    how = environment(tmp_path) | {"TZ": "Pacific/Kiritimati"} | home
    _, told = cli(tmp_path, data, env=how, umask=0).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*")}
    assert modes == {0o700, 0o600}
