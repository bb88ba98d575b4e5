"""Full and read-only disks: what was stored before stays, and the next ingest completes."""

import re
import resource
import time

import pytest
from made.commands import run_cli
from made.ingests import CASES, cli
from made.stores import digest

from kerasbalance.data.store import SliceStore, Store, verify_store


@pytest.mark.parametrize(
    "options",
    [
        "size=8400k",
        "size=64m,nr_inodes=20",
        *(pytest.param(f"size={size}k", marks=pytest.mark.large) for size in range(8340, 8620, 40)),
    ],
)
def test_a_full_disk_keeps_what_was_done_and_the_next_ingest_completes(
    cohort, undisturbed, disk, tmp_path, options
):
    place = disk(options)
    child = cli(tmp_path, cohort, "--out", str(place / "store"))
    _, told = child.communicate()
    kept = re.fullmatch(
        r"kept (\d+) of 16 cases\n"
        r"Error: DISK_FULL: (.* free for .* MiB; expected free space on the store's disk; free space .*then run the "
        r"same command again|no more space .*)\n",
        told,
    )
    assert child.returncode == 1
    assert kept, told
    store = Store(place / "store")
    assert verify_store(store).faults == {}
    assert 0 < int(kept[1]) <= len(store.entries()) < CASES
    disk("size=64m,nr_inodes=1000")
    _, told = cli(tmp_path, cohort, "--out", str(place / "store")).communicate()
    assert (told, SliceStore(place / "store").digest) == ("", undisturbed[0])
    assert not list(place.rglob("*.tmp"))


@pytest.mark.parametrize(
    "limit_kib", [16, *(pytest.param(n, marks=pytest.mark.large) for n in (1, 2, 8, 18, 19))]
)
def test_a_limit_on_file_sizes_is_a_full_disk(cohort, undisturbed, tmp_path, limit_kib):
    # 1 KiB: not even store.json fits beside the lock; 16 and 18 KiB: cases fit or not, the index does not.
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kib * 1024, hard))  # the child inherits it
    try:
        child = cli(tmp_path, cohort)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    _, told = child.communicate()
    assert child.returncode == 1
    assert re.fullmatch(r"(kept \d+ of 16 cases\n)?Error: DISK_FULL: .*\n", told), told
    if (tmp_path / "store" / "store.json").exists():
        assert verify_store(Store(tmp_path / "store")).faults == {}
    assert not list(tmp_path.rglob("*.tmp"))
    _, told = cli(tmp_path, cohort).communicate()
    assert (told, digest(tmp_path)) == ("", undisturbed[0])


def test_a_read_only_store_is_refused_at_once_and_can_be_read(cohort, disk, tmp_path):
    place = disk("size=64m")
    cli(tmp_path, cohort, "--out", str(place / "store")).communicate()
    before = SliceStore(place / "store").digest
    disk("ro")
    start = time.monotonic()
    child = cli(tmp_path, cohort, "--out", str(place / "store"))
    _, told = child.communicate()
    assert (child.returncode, told.count("\n")) == (1, 1)
    assert told.startswith("Error: UNWRITABLE: a store that cannot be written (Read-only file system)")
    assert time.monotonic() - start < 30
    assert run_cli(tmp_path, "verify", place / "store").returncode == 0
    assert run_cli(tmp_path, "info", place / "store").returncode == 0
    assert SliceStore(place / "store").digest == before
    new = cli(tmp_path, cohort, "--out", str(place / "new"))
    assert new.communicate()[1].startswith(
        "Error: UNWRITABLE: a store folder that cannot be written (Read-only"
    )
