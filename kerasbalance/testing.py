"""Checks for your own tests: does a source keep the contract that datasets and the scorer rely on?"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Codes, Refs
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import explain

_THREADS = 4


def check_source(source: Source, refs: Sequence[int] | NDArray[np.integer] | None = None) -> None:
    """Check that a source keeps the contract of `Source`.

    Call it in your tests. It reads a few slices several times: in another order, repeated, flipped, from several
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
    """
    if len(source) < 1:
        _fail("a source of length 0", "at least one slice", "pass a source that holds data")
    rows = [0, len(source) // 2, len(source) - 1] if refs is None else refs
    chosen = np.unique(np.asarray(rows, np.int64))
    first = _read(source, chosen, 0)
    _check_shapes(first, len(chosen))
    _check_order(source, chosen, first)
    _check_flips(source, chosen, first)
    _check_freshness(source, chosen, first)
    _check_threads(source, chosen, first)
    for outside in (-1, len(source)):
        _check_error(source, outside)


def _read(source: Source, refs: Refs, code: int) -> Batch:
    return source.read(refs, np.full(len(refs), code, np.uint8))


def _check_shapes(batch: Batch, count: int) -> None:
    x, y = batch
    if x.ndim != 4 or len(x) != count:
        _fail(f"images of shape {x.shape} for {count} refs", f"({count}, height, width, channels)",
              "return one image with a channel axis per ref")  # fmt: skip
    if y.shape not in (x.shape[:3], (*x.shape[:3], 1)):
        _fail(f"masks of shape {y.shape} beside images of shape {x.shape}", f"{x.shape[:3]} or {(*x.shape[:3], 1)}",
              "return one mask of the image's size per ref")  # fmt: skip
    for name, array in (("images", x), ("masks", y)):
        if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            _fail(f"{name} of dtype {array.dtype}", "numbers", "convert them in read")


def _check_order(source: Source, refs: Refs, first: Batch) -> None:
    order = np.concatenate([np.arange(len(refs))[::-1], [0, 0]])
    wanted = (first[0][order], first[1][order])
    _check_equal(_read(source, refs[order], 0), wanted, "refs in another order or repeated")
    empty = _read(source, refs[:0], 0)
    _check_equal(empty, (first[0][:0], first[1][:0]), "no refs")


def _check_flips(source: Source, refs: Refs, first: Batch) -> None:
    axes: dict[int, tuple[int, ...]] = {1: (2,), 2: (1,), 3: (1, 2)}
    for code, mirrored in axes.items():
        wanted = (np.flip(first[0], mirrored), np.flip(first[1], mirrored))
        _check_equal(_read(source, refs, code), wanted, f"flip code {code}")
    codes: Codes = (np.arange(len(refs)) % 4).astype(np.uint8)
    each = [_read(source, refs[n : n + 1], int(code)) for n, code in enumerate(codes)]
    together = (np.concatenate([x for x, _ in each]), np.concatenate([y for _, y in each]))
    _check_equal(source.read(refs, codes), together, "another flip code for each slice")


def _check_freshness(source: Source, refs: Refs, first: Batch) -> None:
    before = (first[0].copy(), first[1].copy())
    for array in _read(source, refs, 0):
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


def _check_equal(received: Batch, wanted: Batch, case: str) -> None:
    for name, array, right in zip(("images", "masks"), received, wanted, strict=True):
        if array.dtype != right.dtype or not np.array_equal(array, right, equal_nan=array.dtype.kind == "f"):
            _fail(f"other {name} for {case}", "the same values and dtype as in a plain read", "make read depend on "
                  "nothing but refs and flips, and return fresh arrays")  # fmt: skip


def _fail(received: str, expected: str, advice: str) -> NoReturn:
    raise AssertionError(explain(received, expected, advice))
