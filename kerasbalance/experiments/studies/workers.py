"""Processes that work on the units of a study, so many at a time, each on its own cores."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.isolate import end_with_parent, signals_held, usable_cores
from kerasbalance.experiments.studies.gpus import use_one_gpu
from kerasbalance.experiments.studies.options import StudyRecord, Unit
from kerasbalance.experiments.studies.unit_process import errors_that_travel, prepare_process
from kerasbalance.training.signals import CAUGHT


@dataclass(frozen=True)
class Task:
    """What one process does.

    Args:
        folder: the study's.
        record: the study.
        unit: which runs.
        scratch: measure a few steps in this folder instead of training; None trains.
    """

    folder: Path
    record: StudyRecord
    unit: Unit
    scratch: Path | None = None


@dataclass
class _Running:
    unit: Unit
    process: SpawnProcess
    slot: int


def run_units(tasks: Sequence[Task], jobs: int) -> Generator[tuple[Unit, str, Any], None, None]:
    """Work on tasks, each in a new process.

    Args:
        tasks: in order.
        jobs: processes at a time, >= 1.

    Yields:
        Triples of a unit, "iterations", "done", "measured" or "failed", and the number, the arm, the figures or the
        `DataError` it is about. A unit that fails does not stop the others.
    """
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    running: dict[Connection, _Running] = {}
    slots = deque(range(jobs))
    try:
        while waiting or running:
            while waiting and slots:
                task, slot = waiting.popleft(), slots.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(sender, task, slot), daemon=True)
                with signals_held():
                    process.start()
                    running[receiver] = _Running(task.unit, process, slot)
                sender.close()
            for ready in wait(list(running)):
                yield from _receive(cast(Connection, ready), running, slots)
    finally:
        for job in running.values():
            job.process.terminate()  # a training saves where it is
        for job in running.values():
            job.process.join()


def _receive(
    receiver: Connection, running: dict[Connection, _Running], slots: deque[int]
) -> Generator[tuple[Unit, str, Any], None, None]:
    job = running[receiver]
    try:
        kind, content = receiver.recv()
    except (EOFError, OSError):
        job.process.join()
        del running[receiver]
        slots.append(job.slot)
        if job.process.exitcode:
            yield job.unit, "failed", crashed(job.unit, f"ended with exit code {job.process.exitcode}")
        return
    yield job.unit, kind, content


def crashed(unit: Unit, how: str) -> DataError:
    """Return the error of a unit whose process ended without a word."""
    return DataError("CRASHED", f"a process for {unit.label} that {how}", "memory and cores for a run",
                     "run the same command again to go on, with fewer --jobs if memory was short")  # fmt: skip


def _work(sender: Connection, task: Task, slot: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
    threading.Thread(target=end_with_parent, daemon=True).start()
    prepare_process(task.record, slot)
    use_one_gpu(slot)
    _silence()
    try:
        with errors_that_travel(task.unit):
            _train_or_measure(sender, task)
    except DataError as error:
        sender.send(("failed", error))


def _train_or_measure(sender: Connection, task: Task) -> None:
    from kerasbalance.errors import Interrupted
    from kerasbalance.experiments.studies.unit import measure_step, run_unit

    if task.scratch is not None:
        sender.send(("measured", measure_step(task.record, task.unit, task.scratch)))
        return
    with contextlib.suppress(Interrupted):  # the parent knows; it sent the signal
        run_unit(task.folder, task.record, task.unit, lambda kind, content: sender.send((kind, content)))


def threads_for(jobs: int) -> int:
    """Return how many cores each of so many processes may use."""
    return max(1, usable_cores() // jobs)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
