"""Work on untrusted files in processes of their own, so that a bomb, a hang or a crash costs one case.

Every task gets a fresh process, forked from a clean server that has imported the module of the first function.
It has a limit on memory and time, prints nothing (libraries quote header values), and ends when its parent does.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.memory import usable_memory_bytes
from kerasbalance.training.signals import CAUGHT

TIMEOUT_S = 900.0
_LEAST_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Limits:
    """The limits of one task.

    Args:
        timeout_s: Wall-clock seconds.
        memory_bytes: Address space.
    """

    timeout_s: float
    memory_bytes: int

    @classmethod
    def for_jobs(cls, jobs: int, timeout_s: float = TIMEOUT_S) -> "Limits":
        """Share the memory of the machine or of its container among `jobs` processes, 4 GiB each at least."""
        return cls(timeout_s, max(_LEAST_MEMORY, usable_memory_bytes() // jobs))


@dataclass
class _Running:
    number: int
    process: ForkServerProcess
    deadline: float


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_isolated(
    function: Callable[[Any], Any], tasks: Sequence[Any], *, jobs: int, limits: Limits
) -> Generator[tuple[int, Any], None, None]:
    """Call `function(task)` for every task, each in a process of its own, `jobs` at a time.

    Args:
        function: Importable by name; its result and the tasks must pickle.
        tasks: What to work on.
        jobs: Processes at a time, above 0.
        limits: For each of them.

    Yields:
        Pairs of a task's number and its result, as they end. A `DataError` that the function raises, or one of
        code `TIMEOUT`, `MEMORY` or `CRASHED` for a process that did not come back, stands in place of a result.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs}; expected at least 1; leave it out for one process")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    waiting = deque(enumerate(tasks))
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, task = waiting.popleft()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(sender, function, task, limits), daemon=True)
                with signals_held():
                    process.start()
                    running[receiver] = _Running(number, process, time.monotonic() + limits.timeout_s)
                sender.close()
            yield from _collect(running)
    finally:
        for job in running.values():
            job.process.kill()
            job.process.join()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let Ctrl-C wait until a process has been handed all it needs and is noted, so that it is ended with the rest.

    The server, started in here, and the processes that it forks inherit that these signals wait, for good: none
    of them prints a traceback when Ctrl-C reaches the whole group.
    """
    resource_tracker.ensure_running()  # started later, it would let the signals through
    held: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # Another thread, a library's say, may be given the signal, and Python then calls its handler in this one.
        handlers = {each: signal.signal(each, lambda number, _: held.append(number)) for each in CAUGHT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for each, handler in handlers.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])


def _collect(running: dict[Connection, _Running]) -> Iterator[tuple[int, Any]]:
    nearest = min(job.deadline for job in running.values())
    ready = wait(list(running), timeout=max(0.0, nearest - time.monotonic()))
    now = time.monotonic()
    for receiver, job in list(running.items()):
        if receiver not in ready and job.deadline > now:
            continue
        result = _receive(receiver, job) if receiver in ready else _stopped("TIMEOUT", "took too long")
        job.process.kill()
        job.process.join()
        receiver.close()
        del running[receiver]
        yield job.number, result


def _receive(receiver: Connection, job: _Running) -> Any:
    try:
        return receiver.recv()
    except (EOFError, OSError):  # OSError: it was killed in the middle of its answer
        job.process.join()
        return _stopped("CRASHED", f"ended its process (exit code {job.process.exitcode})")


def _stopped(code: str, what: str) -> DataError:
    return DataError(code, f"a case that {what}", "files that can be read with the memory and time of one case",
                     "check its files; leave it out if they are damaged")  # fmt: skip


def _child(sender: Connection, function: Callable[[Any], Any], task: Any, limits: Limits) -> None:
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)  # they may reach the whole group; the parent decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    _silence()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = limits.memory_bytes if hard == resource.RLIM_INFINITY else min(limits.memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    try:
        result = function(task)
    except DataError as error:
        result = error
    except MemoryError:
        result = _stopped("MEMORY", "needs more memory than one case may have")
    except OSError as error:
        result = _unreadable(error)
    except Exception as error:
        result = _unexpected(error)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and so is this process in a moment
        sender.send(result)


def _unreadable(error: OSError) -> DataError:
    reason = error.strerror or type(error).__name__
    return DataError("UNREADABLE", f"a case on which the operating system gave up ({reason})", "readable files",
                     "check the disk and the permissions")  # fmt: skip


def _unexpected(error: Exception) -> DataError:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}" if frame else "?"
    return DataError("INTERNAL", f"a case that met an unforeseen {type(error).__name__} at {place}",
                     "a file that can be read, or a clear refusal", "please report this line")  # fmt: skip


def end_with_parent() -> None:
    """Wait for the parent process to end, however it does, and end this one then; meant for a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
