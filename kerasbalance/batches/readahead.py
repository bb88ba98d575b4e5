"""Reads the next batches in threads while a step runs, and forgets all of them when the phase changes.

Keras has an own mechanism (`workers=`), which serves batches of the old index after a swap and hangs when a
worker dies; see `IndexedDataset`.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kerasbalance.batches.order import Phase
from kerasbalance.batches.source import Batch

READING_THREADS = 8
"""A thread makes one request at a time: one fed 190 slices of 512 px a second from a cold disk, 16 fed 1,250."""
Make = Callable[[Phase, int], Batch]


class ReadAhead:
    """Hands out the batch of an iteration, reading the following ones meanwhile.

    It reads ahead only while iterations are asked for in sequence, since a guess about a shuffled order would
    be wrong nearly always. A batch is handed out once; asked for again, it is made again.

    Args:
        make: Makes one batch, a pure function of `(phase, iteration)`; called from several threads.
        depth: Batches held ready; 0 makes every batch in the thread that asks for it.
        threads: Reading threads.
    """

    def __init__(self, make: Make, depth: int, threads: int = READING_THREADS) -> None:
        self.make = make
        self.depth = depth
        self.threads = threads
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[int, Future[Batch]] = {}
        self._phase: Phase | None = None
        self._last = -2

    def get(self, phase: Phase, iteration: int) -> Batch:
        """Return the batch of `iteration` in `phase`; an error of the source is raised here."""
        if self._owner != os.getpid():
            self._reset()  # after a fork neither the threads nor the lock of the parent can be used
        with self._lock:
            self._forget_all_but(phase, iteration)
            ready = self._waiting.pop(iteration, None)
            in_sequence, self._last = iteration == self._last + 1, iteration
            if self.depth and in_sequence:
                self._ask_for(phase, iteration)
        return self.make(phase, iteration) if ready is None else ready.result()

    def _forget_all_but(self, phase: Phase, iteration: int) -> None:
        if phase is not self._phase:
            self._drop(list(self._waiting))
            self._phase = phase
        self._drop([key for key in self._waiting if not iteration <= key <= iteration + self.depth])

    def _drop(self, iterations: list[int]) -> None:
        for iteration in iterations:
            self._waiting.pop(iteration).cancel()

    def _ask_for(self, phase: Phase, iteration: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="kerasbalance-read")
        for ahead in range(iteration + 1, iteration + 1 + self.depth):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._pool.submit(self.make, phase, ahead)

    def __getstate__(self) -> dict[str, Any]:
        return {"make": self.make, "depth": self.depth, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()
