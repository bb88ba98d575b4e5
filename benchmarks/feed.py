"""The share of the time that a fast device waits for batches from a slow disk, which is simulated by sleeping."""

import time

import numpy as np
from measure import Row

from kerasbalance.batches.index import Index
from kerasbalance.batches.order import Phase
from kerasbalance.batches.readahead import READING_THREADS, ReadAhead
from kerasbalance.batches.source import Batch

BATCH = 16


def run(slice_s: float = 0.005, step_s: float = 0.02, steps: int = 40) -> list[Row]:
    """Return the figures.

    Args:
        slice_s: Seconds that the disk takes for one slice, if it is asked for one at a time. Half a MiB took so long
            from a cold disk of ours.
        step_s: Seconds of a step of the device.
        steps: How many are made.
    """
    text = f"{1000 * slice_s:.0f} ms a slice, a step of {1000 * step_s:.0f} ms for {BATCH}"
    return [
        Row(
            100 * _waiting(threads, depth, slice_s, step_s, steps),
            f"feeding from a slow disk: {threads} reading threads, {depth} batches ahead",
            f"% of wall time waited, {text}, both simulated",
        )
        for threads, depth in ((1, 1), (2, 4), (READING_THREADS, READING_THREADS))
    ]


def _waiting(threads: int, depth: int, slice_s: float, step_s: float, steps: int) -> float:
    def read(phase: Phase, iteration: int) -> Batch:
        time.sleep(BATCH * slice_s)  # like a read, it lets other threads run
        return np.zeros(0), np.zeros(0)

    phase = Phase(Index(np.arange(1000)), 0, 0, 0, BATCH)
    ahead = ReadAhead(read, depth, threads)
    for iteration in range(2 * depth):  # until the reading has fallen into its rhythm
        ahead.get(phase, iteration)
    waited, begin = 0.0, time.perf_counter()
    for iteration in range(2 * depth, 2 * depth + steps):
        asked = time.perf_counter()
        ahead.get(phase, iteration)
        waited += time.perf_counter() - asked
        time.sleep(step_s)
    return waited / (time.perf_counter() - begin)
