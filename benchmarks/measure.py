"""CPU seconds of several ways to do one thing, taken in turns so that other load hits all of them alike."""

import platform
import resource
import statistics
import time
from collections.abc import Callable


def cpu_seconds() -> float:
    """CPU seconds of this process and of the child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def take_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run every way `repeats` times, in turns, after one unmeasured round; return the median CPU seconds."""
    for way in ways.values():
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            before = cpu_seconds()
            way()
            spent[name].append(cpu_seconds() - before)
    return {name: statistics.median(times) for name, times in spent.items()}


def machine() -> str:
    """Return one line on the machine."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(":")[1].strip() for line in file if line.startswith("model name")), model
            )
    except OSError:
        model = f"{model} (no /proc)"
    return f"{model}; Python {platform.python_version()}; {platform.system()} {platform.release()}"
