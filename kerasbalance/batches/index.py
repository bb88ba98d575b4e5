"""What training draws from: slice refs, how each is flipped, and (optionally) how often it is drawn."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.errors import explain

Refs = NDArray[np.int64]
Codes = NDArray[np.uint8]
Weights = NDArray[np.float64]
Frozen = TypeVar("Frozen", bound=NDArray[Any])

FLIP_CODES = {"none": 0, "horizontal": 1, "vertical": 2, "both": 3}
"""Bit 0 mirrors left and right (the width axis), bit 1 mirrors up and down (the height axis)."""


def flip_codes(names: Sequence[str]) -> Codes:
    """Return the uint8 codes of flip names.

    Args:
        names: One or more of `"none"`, `"horizontal"`, `"vertical"`, `"both"`, each at most once.

    Raises:
        ValueError: for an unknown or repeated name, a bare string, or no name at all.
    """
    if isinstance(names, str) or not names or len(set(names)) != len(names) or set(names) - set(FLIP_CODES):
        raise ValueError(
            explain(f"flips={names!r}", f"distinct names out of {list(FLIP_CODES)}", 'pass flips=("none",)')
        )
    return np.array([FLIP_CODES[name] for name in names], np.uint8)


class Index:
    """An immutable list of entries `(ref, flip code, weight)`; a slice may stand in it several times.

    Args:
        refs: Int64 `(entries,)`, rows of the source.
        flips: Uint8 `(entries,)`, 0 none, 1 horizontal, 2 vertical, 3 both; all 0 when left out.
        weights: Float64 `(entries,)`, finite and >= 0, not all 0. When left out every pass visits each entry
            once, in random order; when given, entries are drawn with replacement in proportion to them.

    Raises:
        ValueError: If there is no entry, if lengths differ, or if a value is out of its range.

    Example:
        >>> Index([4, 7], flips=[0, 1]).refs
        array([4, 7])
    """

    def __init__(
        self, refs: ArrayLike, flips: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> None:
        self.refs: Refs = _frozen(as_refs(refs, "refs"))
        codes = np.zeros(len(self.refs), np.uint8) if flips is None else np.asarray(flips)
        self.flips: Codes = _frozen(_checked_codes(codes, len(self.refs)))
        self.weights: Weights | None = None
        if weights is not None:
            self.weights = _frozen(_checked_weights(np.asarray(weights, np.float64), len(self.refs)))
        if not len(self.refs):
            raise ValueError(explain("an index of 0 entries", "at least one slice", "pass some refs"))

    def __len__(self) -> int:
        return len(self.refs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Index):
            return NotImplemented
        mine, theirs = self.state(), other.state()
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[key], theirs[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        drawn = "shuffled" if self.weights is None else "weighted"
        return f"Index({len(self)} entries, {len(np.unique(self.refs))} slices, {drawn})"

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_state` takes."""
        arrays: dict[str, NDArray[Any]] = {"refs": self.refs, "flips": self.flips}
        return arrays if self.weights is None else {**arrays, "weights": self.weights}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> "Index":
        """Make the index that `state` describes."""
        return cls(state["refs"], state["flips"], state.get("weights"))


def as_refs(refs: ArrayLike, name: str) -> Refs:
    """Return `refs` as a fresh int64 array `(n,)`; a ValueError names the argument if they are none."""
    array = np.asarray(refs)
    whole = array.dtype.kind in "iu" or array.size == 0
    if array.ndim != 1 or not whole or (array.size and int(array.min()) < 0):
        raise ValueError(
            explain(
                f"{name} of shape {array.shape} and type {array.dtype}",
                "whole numbers >= 0 of shape (slices,)",
                "pass the rows of the slices in the source",
            )
        )
    return np.array(array, np.int64)


def _checked_codes(codes: NDArray[Any], entries: int) -> Codes:
    if codes.shape != (entries,) or (entries and not np.isin(codes, list(FLIP_CODES.values())).all()):
        raise ValueError(
            explain(
                f"flips of shape {codes.shape}",
                f"{entries} codes, each 0, 1, 2 or 3",
                "see kerasbalance.Index",
            )
        )
    return np.array(codes, np.uint8)


def _checked_weights(weights: Weights, entries: int) -> Weights:
    if (
        weights.shape != (entries,)
        or not np.isfinite(weights).all()
        or weights.min() < 0
        or not weights.any()
    ):
        raise ValueError(
            explain(
                f"weights of shape {weights.shape}",
                f"{entries} finite numbers >= 0, not all 0",
                "leave weights out to visit each entry once a pass",
            )
        )
    return np.array(weights)


def _frozen(array: Frozen) -> Frozen:
    array.flags.writeable = False
    return array
