"""Runs a study: what there is to do, what it will take, and the doing."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.augmentations import check_strength
from kerasbalance.experiments.runs.split import split_store
from kerasbalance.experiments.studies.executors import submit_units
from kerasbalance.experiments.studies.options import TEST_SEED, StudyRecord, Unit
from kerasbalance.experiments.studies.progress import iterations_left, units_left
from kerasbalance.experiments.studies.workers import Task, run_units

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.cost import Cost

Progress = Callable[[int, str], None]


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
    """Refuse before any work what some run would refuse.

    That is an organ that is not there, cases that cannot be split, or an augmentation without its package.

    Raises:
        DataError: as `Run.create`.
    """
    for unit in record.options.units():
        store.source((unit.organ,))
        for arm in unit.arms:
            check_strength(arm.augment)
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
        measured = {(unit.organ, unit.model): _cost(*found) for unit, *found in run_units(tasks, 1)}
    seconds = disk = 0.0
    for unit in left:
        cost = measured[unit.organ, unit.model]
        seconds += cost.step_s * iterations_left(folder, record, unit)
        disk += cost.disk_bytes * (len(unit.arms) + 1)
    largest = max(cost.memory_bytes for cost in measured.values())
    parallel = min(jobs, len(left))
    return Estimate(
        runs=sum(len(unit.arms) for unit in left),
        iterations=sum(iterations_left(folder, record, unit) for unit in left),
        seconds=seconds / parallel,
        disk_bytes=int(disk),
        memory_bytes=int(largest * parallel),
    )


def _cost(kind: str, content: Any) -> "Cost":
    if kind == "failed":
        raise content
    cost: Cost = content
    return cost


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


def train_study(
    folder: Path, record: StudyRecord, jobs: int, progress: Progress, executor: Executor | None = None
) -> tuple[DataError, ...]:
    """Train and evaluate all that is missing.

    Args:
        folder: the study's.
        record: the study.
        jobs: processes at a time; an executor has its own number.
        progress: called with iterations done since the last call, and with a run when it is done ("" else).
        executor: what runs the units in place of processes of our own: any `concurrent.futures.Executor`, such as
            `ProcessPoolExecutor`, Dask's `Client.get_executor()` or executorlib's. Its workers need the study's
            folder and store under the same paths, and should serve one unit each, since a process keeps its backend
            and its GPU memory. The iterations of a unit are reported when it ends.

    Returns:
        The errors of the units that failed, each with the name of its unit. The other units are trained all the same.
    """
    left = units_left(folder, record)
    work: Iterator[tuple[Unit, str, Any]]
    if executor is None:
        work = run_units([Task(folder, record, unit) for unit in left], jobs)
    else:
        work = submit_units(executor, folder.absolute(), record, left)
    failures = []
    for unit, kind, content in work:
        if kind == "failed":
            failures.append(content)
        elif kind == "iterations":
            progress(int(content), "")
        else:
            progress(0, f"{unit.label}, {content}")
    return tuple(failures)
