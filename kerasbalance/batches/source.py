"""Where the pixels are: anything that reads slices by row, and the plain case of two arrays."""

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Codes, Refs
from kerasbalance.errors import explain

_ALIGNED_TO = 64
_HUGE_PAGE = 2**21

Batch = tuple[NDArray[Any], NDArray[Any]]


@runtime_checkable
class Source(Protocol):
    """What a dataset and the scorer read from; `read` may be called from several threads at once."""

    def __len__(self) -> int:
        """Return the number of slices; refs run from 0 to one less."""
        ...

    def read(self, refs: Refs, flips: Codes) -> Batch:
        """Return images `(n, height, width, channels)` and masks `(n, height, width[, 1])`, fresh arrays.

        Args:
            refs: Int64 `(n,)`, rows of this source; any order, repeats allowed.
            flips: Uint8 `(n,)`, 0 none, 1 horizontal (width), 2 vertical (height), 3 both.
        """
        ...


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


class ArraySource:
    """A source over two arrays, or over anything that NumPy can take rows from (a memory map, say).

    Args:
        x: Images `(slices, height, width, channels)`.
        y: Masks of integer labels, `(slices, height, width)` or `(slices, height, width, 1)`.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        >>> source = ArraySource(np.zeros((10, 8, 8, 1)), np.zeros((10, 8, 8, 1), np.uint8))
        >>> images, masks = source.read(np.array([3, 3]), np.array([0, 1], np.uint8))
    """

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        if x.ndim != 4 or y.ndim not in (3, 4) or x.shape[:3] != y.shape[:3]:
            raise ValueError(
                explain(
                    f"x of shape {x.shape} and y of shape {y.shape}",
                    "(slices, height, width, channels) and masks of the same slices, height and width",
                    "add the channel axis with x[..., None]",
                )
            )
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def read(self, refs: Refs, flips: Codes) -> Batch:
        """Return fresh copies of the rows `refs`, image and mask flipped together.

        Raises:
            IndexError: If a ref is negative or not below the length.
        """
        if len(refs) and np.min(refs) < 0:  # NumPy would count from the end
            received, expected = f"ref {np.min(refs)}", f"refs from 0 to {len(self) - 1}"
            raise IndexError(explain(received, expected, "take them from an index of this source"))
        x, y = (_rows(array, refs) for array in (self.x, self.y))
        flip_in_place(x, flips)
        flip_in_place(y, flips)
        return x, y


def _rows(array: NDArray[Any], refs: Refs) -> NDArray[Any]:
    rows = empty_batch((len(refs), *array.shape[1:]), array.dtype)
    for row, ref in zip(rows, np.asarray(refs).tolist(), strict=True):
        row[...] = array[ref]
    return rows
