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
from kerasbalance.experiments.studies.options import StudyRecord, Unit
from kerasbalance.training.signals import CAUGHT

Message = tuple[str, Any]


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
        Triples of a unit, "iterations", "done", "measured", and the number, the arm or the figures it is about.

    Raises:
        DataError: a process failed; the others were told to save and to end.
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
            raise DataError(
                "CRASHED",
                f"a process for {job.unit.label} that ended with exit code {job.process.exitcode}",
                "memory and cores for a run",
                "run the same command again to go on, with fewer --jobs if memory was short",
            ) from None
        return
    if kind == "error":
        raise content
    yield job.unit, kind, content


def _work(sender: Connection, task: Task, slot: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
    threading.Thread(target=end_with_parent, daemon=True).start()
    _pin(slot, task.record.threads)
    os.environ["KERAS_BACKEND"] = task.record.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _silence()
    try:
        _train_or_measure(sender, task)
    except DataError as error:
        sender.send(("error", error.at(where=task.unit.label)))
    except Exception as error:
        sender.send(("error", _told(error, task.unit)))


def _train_or_measure(sender: Connection, task: Task) -> None:
    from kerasbalance.errors import Interrupted
    from kerasbalance.experiments.studies.unit import measure_step, run_unit

    if task.scratch is not None:
        sender.send(("measured", measure_step(task.record, task.unit, task.scratch)))
        return
    with contextlib.suppress(Interrupted):  # the parent knows; it sent the signal
        run_unit(task.folder, task.record, task.unit, lambda kind, content: sender.send((kind, content)))


def _told(error: Exception, unit: Unit) -> DataError:
    """Turn an error of a training into one that travels, without the paths that are in its text."""
    if isinstance(error, OSError):
        return DataError("UNWRITABLE", f"{unit.label}: a run's folder on which the operating system gave up "
                         f"({error.strerror or type(error).__name__})", "a disk with room that may be written",
                         "mend that and run the same command again to go on")  # fmt: skip
    return DataError("INTERNAL", f"{unit.label}: an unforeseen {type(error).__name__}", "a run that trains to its end",
                     "train that run alone with kerasbalance train --debug and report what it shows")  # fmt: skip


def _pin(slot: int, threads: int) -> None:
    """Use only some cores, where the system can be told so."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    own = [cores[(slot * threads + n) % len(cores)] for n in range(threads)]
    os.sched_setaffinity(0, set(own))


def threads_for(jobs: int) -> int:
    """Return how many cores each of so many processes may use."""
    return max(1, usable_cores() // jobs)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
