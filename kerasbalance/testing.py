"""Checks for your own tests: does a source keep the contract that datasets and the scores rely on?"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Codes, Refs
from kerasbalance.batches.mirroring import mirror, mirror_plan
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import explain

_THREADS = 4
_PARTS = ("inputs", "targets", "sample weights")


def check_source(source: Source, refs: Sequence[int] | NDArray[np.integer] | None = None) -> None:
    """Check that a source keeps the contract of `Source`.

    Call it in your tests. It reads a few samples several times: in another order, repeated, flipped, from several
    threads, after the caller changed what it got, and outside of the range.

    Args:
        source: What is checked.
        refs: Rows that may be read, at least one; the first, middle and last row by default. Pass them if not every
            row of the source may be read, as in a store where some cases lack an organ.

    Raises:
        AssertionError: If the source breaks the contract; the text names the part that is broken.

    Example:
        >>> from kerasbalance import ArraySource
        >>> check_source(ArraySource(np.zeros((10, 8, 8, 1)), np.zeros((10, 8, 8), np.uint8)))
        >>> check_source(ArraySource({"signal": np.zeros((10, 50, 2))}, np.zeros(10, int)))
    """
    if len(source) < 1:
        _fail("a source of length 0", "at least one sample", "pass a source that holds data")
    rows = [0, len(source) // 2, len(source) - 1] if refs is None else refs
    chosen = np.unique(np.asarray(rows, np.int64))
    first = _read(source, chosen, 0)
    _check_arrays(first, len(chosen))
    _check_order(source, chosen, first)
    if getattr(source, "can_flip", True):
        _check_flips(source, chosen, first)
    else:
        _check_refused_flip(source, chosen)
    _check_freshness(source, chosen, first)
    _check_threads(source, chosen, first)
    for outside in (-1, len(source)):
        _check_error(source, outside)


def _read(source: Source, refs: Refs, code: int) -> Batch:
    return source.read(refs, np.full(len(refs), code, np.uint8))


def _check_arrays(batch: Batch, count: int) -> None:
    if not isinstance(batch, tuple) or not 1 <= len(batch) <= 3:
        _fail(f"a batch of type {type(batch).__name__}", "(x,), (x, y) or (x, y, sample_weight)",
              "return a tuple")  # fmt: skip
    for name, part in zip(_PARTS, batch, strict=False):
        for array in keras.tree.flatten(part):
            if not isinstance(array, np.ndarray) or len(array.shape) < 1 or len(array) != count:
                _fail(f"{name} of shape {np.shape(array)} for {count} refs", f"an array ({count}, ...)",
                      "return one row for each ref in every array")  # fmt: skip
            if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
                _fail(f"{name} of dtype {array.dtype}", "numbers", "convert them in read")


def _check_order(source: Source, refs: Refs, first: Batch) -> None:
    order = np.concatenate([np.arange(len(refs))[::-1], [0, 0]])
    _check_equal(_read(source, refs[order], 0), _taken(first, order), "refs in another order or repeated")
    _check_equal(_read(source, refs[:0], 0), _taken(first, order[:0]), "no refs")


def _check_flips(source: Source, refs: Refs, first: Batch) -> None:
    plan = mirror_plan(first)
    if plan is None:
        shapes = ", ".join(str(array.shape) for array in keras.tree.flatten(first))
        _fail(f"arrays of shapes {shapes}", "images (n, height, width, channels) with masks of their height and width, "
              "or whole-number labels", "set the attribute can_flip of the source to False")  # fmt: skip
    for code in (1, 2, 3):
        wanted = _taken(first, np.arange(len(refs)))
        mirror(wanted, np.full(len(refs), code, np.uint8), plan)
        _check_equal(_read(source, refs, code), wanted, f"flip code {code}")
    codes: Codes = (np.arange(len(refs)) % 4).astype(np.uint8)
    each = [_read(source, refs[n : n + 1], int(code)) for n, code in enumerate(codes)]
    together: Batch = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *each)
    _check_equal(source.read(refs, codes), together, "another flip code for each sample")


def _check_refused_flip(source: Source, refs: Refs) -> None:
    try:
        _read(source, refs, 1)
    except ValueError:
        return
    _fail("no ValueError for a flip, although can_flip is False", "a refusal", "check the flips in read")


def _check_freshness(source: Source, refs: Refs, first: Batch) -> None:
    before = _taken(first, np.arange(len(refs)))
    for array in keras.tree.flatten(_read(source, refs, 0)):
        array[...] = 1
    _check_equal(
        _read(source, refs, 0), before, "a second read, after the caller changed the first one's arrays"
    )


def _check_threads(source: Source, refs: Refs, first: Batch) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        batches = list(pool.map(lambda _: _read(source, refs, 0), range(2 * _THREADS)))
    for batch in batches:
        _check_equal(batch, first, f"{_THREADS} threads at once")


def _check_error(source: Source, ref: int) -> None:
    try:
        _read(source, np.array([ref]), 0)
    except IndexError:
        return
    _fail(f"no IndexError for ref {ref}", f"refs from 0 to {len(source) - 1}", "check the refs in read")


def _taken(batch: Batch, order: NDArray[np.integer]) -> Batch:
    """Return fresh arrays of some rows of a batch."""
    rows: Batch = keras.tree.map_structure(lambda array: array[order], batch)
    return rows


def _check_equal(received: Batch, wanted: Batch, case: str) -> None:
    for name, part, right_part in zip(_PARTS, received, wanted, strict=False):
        for array, right in zip(keras.tree.flatten(part), keras.tree.flatten(right_part), strict=True):
            if array.dtype != right.dtype or not np.array_equal(
                array, right, equal_nan=array.dtype.kind == "f"
            ):
                _fail(f"other {name} for {case}", "the same values and dtype as in a plain read", "make read depend on "
                      "nothing but refs and flips, and return fresh arrays")  # fmt: skip


def _fail(received: str, expected: str, advice: str) -> NoReturn:
    raise AssertionError(explain(received, expected, advice))
