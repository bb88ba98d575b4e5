"""A source over arrays of any rank: in memory, mapped from a file, or of h5py or zarr."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Codes, Refs
from kerasbalance.batches.mirroring import mirror, mirror_plan
from kerasbalance.batches.nested import leaves, mapped
from kerasbalance.batches.source import Batch, check_flips, empty_batch
from kerasbalance.errors import explain

_SMALL_ROW = 1 << 12
"""Bytes below which the loop over rows costs more than the rows."""


class ArraySource:
    """A source over arrays whose first axis counts the samples: images, volumes, signals or rows of a table.

    An array may be anything that has a shape, a NumPy dtype and rows: a NumPy array, a memory map, a dataset of h5py or
    an array of zarr. Only the rows that are asked for are read. Tensors and data frames are converted once. Inputs and
    targets may be dicts, tuples or lists of arrays, for a model with several inputs or outputs.

    Args:
        x: Inputs `(samples, ...)`. Images are `(samples, height, width, channels)`.
        y: Targets, for instance masks of whole-number labels `(samples, height, width[, 1])` or classes `(samples,)`.
            Without them, a batch is `(x,)`.
        sample_weight: `(samples,)` or as Keras takes it; needs `y`.

    Raises:
        ValueError: If the arrays do not have the same number of samples, or do not hold numbers.

    Example:
        >>> source = ArraySource(np.zeros((10, 8, 8, 1)), np.zeros((10, 8, 8, 1), np.uint8))
        >>> images, masks = source.read(np.array([3, 3]), np.array([0, 1], np.uint8))
        >>> signals = ArraySource({"ecg": np.zeros((10, 200, 2)), "age": np.zeros((10, 1))}, np.zeros(10, int))
        >>> signals.can_flip
        False
    """

    def __init__(self, x: Any, y: Any = None, sample_weight: Any = None) -> None:
        parts = (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
        if y is None and sample_weight is not None:
            raise ValueError(
                explain("sample_weight without y", "targets that the weights belong to", "pass y too")
            )
        self._parts = tuple(mapped(_as_array, _structure(part)) for part in parts)
        self.x = self._parts[0]
        self.y = self._parts[1] if y is not None else None
        self._length = _common_length(leaves(self._parts))
        self._plan = mirror_plan(self._parts)

    @property
    def can_flip(self) -> bool:
        """Whether the samples are images that can be mirrored together with their targets."""
        return self._plan is not None

    def __len__(self) -> int:
        return self._length

    def read(self, refs: Refs, flips: Codes) -> Batch:
        """Return fresh copies of the rows `refs`, images and masks flipped together.

        Raises:
            IndexError: If a ref is negative or not below the length.
            ValueError: If a flip is asked for and `can_flip` is False.
        """
        check_rows(refs, len(self))
        check_flips(self, flips)
        batch: Batch = mapped(lambda array: _rows(array, refs), self._parts)
        if self._plan is not None:
            mirror(batch, flips, self._plan)
        return batch


def as_numpy(array: Any) -> NDArray[Any]:
    """Return a tensor of any backend, a data frame, a picture or a number as an array."""
    return np.asarray(array.detach().cpu().numpy() if hasattr(array, "detach") else array)


def check_rows(refs: Refs, length: int) -> None:
    """Raise an IndexError if a ref is no row: NumPy would count a negative one from the end."""
    if len(refs) and not 0 <= int(np.min(refs)) <= int(np.max(refs)) < length:
        outside = next(int(ref) for ref in refs if not 0 <= ref < length)
        raise IndexError(
            explain(
                f"ref {outside}", f"refs from 0 to {length - 1}", "take them from an index of this source"
            )
        )


def _structure(part: Any) -> Any:
    """Return a list of numbers as an array; a list of arrays stands for several inputs, as in Keras."""
    numbers = isinstance(part, list) and not any(hasattr(item, "shape") for item in leaves(part))
    return np.asarray(part) if numbers else part


def _as_array(array: Any) -> Any:
    """Return an array that rows can be taken from; tensors and data frames become arrays of NumPy."""
    in_rows = isinstance(getattr(array, "dtype", None), np.dtype) and not hasattr(array, "to_numpy")
    if not isinstance(array, np.ndarray) and (not in_rows or hasattr(array, "__dlpack__")):
        array = as_numpy(array)
    if not array.shape or array.dtype.kind not in "biufc":
        raise ValueError(
            explain(
                f"an array of shape {tuple(array.shape)} and type {array.dtype}",
                "numbers whose first axis counts the samples",
                "convert it with numpy.asarray, or wrap single samples in DatasetSource",
            )
        )
    return array


def _common_length(arrays: list[Any]) -> int:
    if len({array.shape[0] for array in arrays}) != 1:
        raise ValueError(
            explain(
                f"arrays of shapes {', '.join(str(tuple(array.shape)) for array in arrays) or 'none'}",
                "the same number of samples in each, along the first axis",
                "check that inputs, targets and weights belong together",
            )
        )
    return int(arrays[0].shape[0])


def _rows(array: Any, refs: Refs) -> NDArray[Any]:
    rows = empty_batch((len(refs), *array.shape[1:]), array.dtype)
    if isinstance(array, np.ndarray) and rows.nbytes < _SMALL_ROW * len(refs) and array.flags.c_contiguous:
        np.take(array, refs, axis=0, out=rows, mode="clip")  # every ref is a row; other modes copy twice
        return rows
    for number, ref in enumerate(np.asarray(refs).tolist()):
        rows[number] = array[ref]
    return rows
