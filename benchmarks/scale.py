"""How things grow with the number of cases and of slices: opening, summing up, hashing, swapping, drawing."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from loader import make_arrays, make_store
from measure import Row

from kerasbalance import HardSliceSampler, Index, lowest
from kerasbalance.batches.order import Phase
from kerasbalance.data.store import SliceStore, Store, verify_store
from kerasbalance.data.store.summary import summarise

SLICES, SIZE = 10, 16


def run(
    counts: tuple[int, ...] = (10, 100, 1_000, 10_000),
    entries: tuple[int, ...] = (10_000, 100_000, 1_000_000),
) -> list[Row]:
    """Return the figures: seconds and MiB, since there is no peer and the aim is a number of seconds."""
    rows = [_import("kerasbalance"), _import("kerasbalance.cli.main")]
    for count in counts:
        rows += _store(count)
    for count in entries:
        rows += _index(count)
    return rows


def _import(name: str) -> Row:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
        times.append(time.perf_counter() - begin)
    return Row(1000 * min(times), f"start-up: python -c 'import {name}'", "ms", "< 1000")


def _timed(what, *arguments):
    begin = time.process_time()
    result = what(*arguments)
    return time.process_time() - begin, result


def _memory(path: Path) -> float:
    """Return what opening a store adds to the memory of a process that has imported all it takes."""
    code = ("import sys; from measure import largest_memory; from kerasbalance.data.store import SliceStore; "
            "before = largest_memory(); store = SliceStore(sys.argv[1]); print(largest_memory() - before)")  # fmt: skip
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    return float(done.stdout)


def _store(count: int) -> list[Row]:
    label, aim = f"{count:,} cases of {SLICES} slices", "< 2" if count == 10_000 else ""
    with tempfile.TemporaryDirectory() as name:
        path = make_store(Path(name), make_arrays(SLICES, SIZE), count).path
        opened, store = _timed(SliceStore, path)
        table, _ = _timed(lambda: (store.refs("liver"), store.case_of(store.refs("liver"))))
        return [
            Row(opened, f"scale: open a store, {label}", "CPU seconds", aim),
            Row(_memory(path), f"scale: memory of an open store, {label}", "MiB"),
            Row(table, f"scale: slice table, {label}", "CPU seconds"),
            Row(_timed(summarise, store.cases)[0], f"scale: what info shows, {label}", "CPU seconds"),
            Row(_timed(verify_store, Store(path))[0], f"scale: verify, {label}", "CPU seconds"),
        ]


def _index(count: int) -> list[Row]:
    rng = np.random.default_rng(0)
    sampler = HardSliceSampler(np.arange(count), np.arange(count, 2 * count), lowest(0.15))
    swap, _ = _timed(sampler.update, rng.random(count))
    phase = Phase(Index(np.arange(count)), 0, 0, 0, 16)
    first, _ = _timed(phase.positions, 0)
    later, _ = _timed(lambda: [phase.positions(step) for step in range(1, 101)])
    label, aim = f"{count:,} candidates", "< 50" if count == 100_000 else ""
    return [
        Row(1000 * swap, f"scale: rule, table and new index, {label}", "CPU ms", aim),
        Row(1000 * first, f"scale: first batch of a pass, {label}", "CPU ms"),
        Row(10 * later, f"scale: each later batch, {label}", "CPU ms"),
    ]
