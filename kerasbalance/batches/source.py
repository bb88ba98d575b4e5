"""What a dataset and the scores read from: anything that reads samples by row."""

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Codes, Refs
from kerasbalance.errors import explain

_ALIGNED_TO = 64
_HUGE_PAGE = 2**21

Batch = tuple[Any, ...]
"""Inputs, or inputs and targets, or inputs, targets and sample weights; each an array or a dict or tuple of arrays."""


@runtime_checkable
class Source(Protocol):
    """What a dataset and the scorer read from; `read` may be called from several threads at once."""

    def __len__(self) -> int:
        """Return the number of samples; refs run from 0 to one less."""
        ...

    def read(self, refs: Refs, flips: Codes) -> Batch:
        """Return a batch as Keras takes it: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, fresh arrays.

        Each part is an array `(n, ...)`, or a dict or tuple of such arrays. For segmentation, x is
        `(n, height, width, channels)` and y `(n, height, width[, 1])`.

        Args:
            refs: Int64 `(n,)`, rows of this source; any order, repeats allowed.
            flips: Uint8 `(n,)`, 0 none, 1 horizontal (width), 2 vertical (height), 3 both. A source whose samples
                cannot be mirrored has an attribute `can_flip` that is False, and is given 0 only.
        """
        ...


def check_flips(source: Source, flips: Codes) -> None:
    """Raise a ValueError if there is a flip that the source cannot make."""
    if flips.any() and not getattr(source, "can_flip", True):
        raise ValueError(
            explain(
                "flips of samples that are not images",
                "images (height, width, channels) whose targets are masks or whole-number labels",
                'leave out flips, or pass flips=("none",)',
            )
        )


def empty_batch(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an uninitialised array whose first byte lies at a multiple of 64.

    TensorFlow and JAX take such arrays as they are, and copy others. A large one begins where a huge page of
    memory does: the system then fills it with a few pages, where thousands cost as much as the copy.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    multiple = _ALIGNED_TO if size < _HUGE_PAGE else _HUGE_PAGE
    room = np.empty(size + multiple, np.uint8)
    start = -room.ctypes.data % multiple
    batch: NDArray[Any] = room[start : start + size].view(dtype).reshape(shape)
    return batch


def flip_in_place(array: NDArray[Any], flips: Codes) -> None:
    """Mirror each slice of `(n, height, width, ...)` by its code: bit 0 the width, bit 1 the height."""
    for bit, axis in ((1, 2), (2, 1)):
        chosen = (flips & bit).astype(bool)
        if chosen.any():
            array[chosen] = np.flip(array[chosen], axis)
