"""Reads samples in batches of one size for scoring, the next batches while one is scored."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.backend.processes import own_rows
from kerasbalance.batches.index import Refs, as_refs
from kerasbalance.batches.readahead import READING_THREADS
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import explain


def check_request(source: Source, refs: ArrayLike, batch_size: int) -> Refs:
    """Return the refs to score as an int64 array; a ValueError says so if one is out of range."""
    rows = as_refs(refs, "refs")
    if batch_size < 1 or (len(rows) and int(rows.max()) >= len(source)):
        raise ValueError(
            explain(
                f"batch_size={batch_size}, largest ref {rows.max(initial=-1)}",
                f"a batch of at least 1 and refs below {len(source)}",
                "check the refs against the source",
            )
        )
    return rows


def read_batches(source: Source, refs: Refs, batch_size: int) -> Iterator[tuple[Refs, Batch]]:
    """Yield refs and their batches, the next ones being read in threads meanwhile.

    The last batch is padded with copies of its last sample, so that one shape is compiled. Of several processes, each
    reads its own rows of every batch.
    """
    parts = [refs[start : start + batch_size] for start in range(0, len(refs), batch_size)]
    rows = len(range(batch_size)[own_rows(batch_size)])

    def read(part: Refs) -> Batch:
        own = part[own_rows(batch_size)]
        own = own if len(own) else part[-1:]  # all of it is padding
        return source.read(own, np.zeros(len(own), np.uint8))

    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="kerasbalance-score") as pool:
        coming = deque(pool.submit(read, part) for part in parts[:READING_THREADS])
        for number, part in enumerate(parts):
            batch = coming.popleft().result()
            coming.extend(pool.submit(read, one) for one in parts[number + READING_THREADS :][:1])
            yield part, keras.tree.map_structure(lambda array: _padded(array, rows), batch)


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
