"""CPU seconds of several ways to do one thing, taken in turns so that other load hits all of them alike."""

import contextlib
import importlib.util
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Ways = dict[str, Callable[[], object]]


class Row(NamedTuple):
    """One figure: a number, what it is of, what it is measured against, and what is aimed at ("" where nothing is)."""

    number: float
    what: str
    unit: str
    aim: str = ""


def cpu_seconds() -> float:
    """CPU seconds of this process, all threads, and of the child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def take_turns(ways: Ways, repeats: int, clock: Callable[[], float] = cpu_seconds) -> dict[str, float]:
    """Run every way `repeats` times, in turns, after one unmeasured round; return the median of each."""
    for way in ways.values():
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            before = clock()
            way()
            spent[name].append(clock() - before)
    return {name: statistics.median(times) for name, times in spent.items()}


def one_core() -> None:
    """Use one core only, so that threads which wait for each other do not count as work.

    Call it before a backend is imported: torch counts the cores then, and two threads on one core spin.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextlib.contextmanager
def peer(name: str) -> Any:
    """Leave a peer out, and say so, where its package is not installed."""
    try:
        yield
    except ImportError:
        print(f"left out, not installed: {name}")


def is_installed(package: str) -> bool:
    """Say whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def largest_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    with (
        contextlib.suppress(OSError),
        open("/proc/self/status") as file,
    ):  # Linux: getrusage would count the parent's
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> str:
    """Return one line on the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {model}; Python {platform.python_version()}; {platform.system()} {platform.release()}"
