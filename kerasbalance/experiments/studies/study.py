"""Runs a study: what there is to do, what it will take, and the doing."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.split import split_store
from kerasbalance.experiments.studies.options import TEST_SEED, StudyRecord
from kerasbalance.experiments.studies.progress import iterations_left, units_left
from kerasbalance.experiments.studies.workers import Task, run_units

Progress = Callable[[int, str], None]
KEPT_CHECKPOINTS = 2
BYTES_A_PARAMETER = 4


@dataclass(frozen=True)
class Estimate:
    """What is left to do and what it will take.

    Args:
        runs: runs to train or to finish.
        iterations: of all of them together, shared ones once.
        seconds: of training, from a few steps of each network; scoring and evaluation come on top.
        disk_bytes: of the runs' folders.
        memory_bytes: of all processes together.
    """

    runs: int
    iterations: int
    seconds: float
    disk_bytes: int
    memory_bytes: int


def check_store(store: SliceStore, record: StudyRecord) -> None:
    """Refuse before any work what some run would refuse: organs that are not there, cases that cannot be split.

    Raises:
        DataError: as `Run.create`.
    """
    for unit in record.options.units():
        store.source((unit.organ,))
        for arm in unit.arms:
            split_store(store, record.options.train_options(unit, arm), test_seed=TEST_SEED)


def estimate(folder: Path, record: StudyRecord, jobs: int) -> Estimate:
    """Train a few steps of each network and say what the rest of the study will take.

    Raises:
        DataError: a network cannot be built or trained.
    """
    left = units_left(folder, record)
    if not left:
        return Estimate(0, 0, 0.0, 0, 0)
    first = {(unit.organ, unit.model): unit for unit in reversed(left)}
    with tempfile.TemporaryDirectory(prefix="kerasbalance-estimate-") as scratch:
        tasks = [Task(folder, record, unit, Path(scratch) / str(n)) for n, unit in enumerate(first.values())]
        measured = {(unit.organ, unit.model): figures for unit, _, figures in run_units(tasks, 1)}
    seconds = disk = 0.0
    for unit in left:
        figures = measured[unit.organ, unit.model]
        seconds += figures["seconds"] * iterations_left(folder, record, unit)
        size = BYTES_A_PARAMETER * figures["parameters"]
        # Checkpoints hold the weights, and their momentum; model.keras holds both.
        states = KEPT_CHECKPOINTS * (2 if record.options.base.momentum else 1) + 2
        disk += size * states * (len(unit.arms) + 1)
    largest = max(figures["memory_bytes"] for figures in measured.values())
    parallel = min(jobs, len(left))
    return Estimate(
        runs=sum(len(unit.arms) for unit in left),
        iterations=sum(iterations_left(folder, record, unit) for unit in left),
        seconds=seconds / parallel,
        disk_bytes=int(disk),
        memory_bytes=int(largest * parallel),
    )


def check_room(folder: Path, needed: Estimate) -> None:
    """Refuse a study that does not fit on the disk.

    Raises:
        DataError: there is less room than it needs (code `DISK_FULL`).
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed.disk_bytes:
        raise DataError("DISK_FULL", f"{free / 2**20:,.0f} MiB free for a study of "
                        f"{needed.disk_bytes / 2**20:,.0f} MiB", "room for all runs",
                        "free space, choose another --out, or ask for fewer arms or seeds")  # fmt: skip


def train_study(folder: Path, record: StudyRecord, jobs: int, progress: Progress) -> None:
    """Train and evaluate all that is missing.

    Args:
        folder: the study's.
        record: the study.
        jobs: processes at a time.
        progress: called with iterations done since the last call, and with a run when it is done ("" else).

    Raises:
        DataError: a run failed; what is done stays.
    """
    tasks = [Task(folder, record, unit) for unit in units_left(folder, record)]
    for unit, kind, content in run_units(tasks, jobs):
        if kind == "iterations":
            progress(int(content), "")
        else:
            progress(0, f"{unit.label}, {content}")
