"""A source over single samples: a torch `Dataset`, a list of dicts, anything with a length and items."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.array_source import as_numpy, check_rows
from kerasbalance.batches.index import Codes, Refs
from kerasbalance.batches.mirroring import mirror, mirror_plan
from kerasbalance.batches.nested import leaves, mapped
from kerasbalance.batches.source import Batch, check_flips, empty_batch
from kerasbalance.errors import explain


class DatasetSource:
    """A source over anything with `len()` and items that are single samples, such as a `torch.utils.data.Dataset`.

    Each sample is written straight into the arrays of its batch. Samples must have one shape, that of sample 0. They
    are read by several threads, in any order and repeatedly; a dataset that changes its samples at random gives other
    batches after a resume, so use `IndexedDataset(augment=...)` for that.

    Args:
        dataset: Has `len(dataset)` and `dataset[i]` for 0 to one less.
        unpack: Turns an item into `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each an array or a dict or tuple of
            arrays, without the axis of the batch. A tuple or list is such a sample as it is, and an array is `(x,)`;
            a dict needs `unpack`.

    Raises:
        TypeError: If `dataset` has no length or no items, or its items are batches, as in a `PyDataset`.
        ValueError: If an item is no sample; in `read`, if a sample differs from sample 0 in structure, shape or type.

    Example:
        >>> items = [{"image": np.full((8, 8, 1), i), "label": i % 2} for i in range(10)]
        >>> source = DatasetSource(items, unpack=lambda item: (item["image"], item["label"]))
        >>> images, labels = source.read(np.array([3, 5]), np.zeros(2, np.uint8))
        >>> labels
        array([1, 1])
    """

    def __init__(self, dataset: Any, unpack: Callable[[Any], Any] | None = None) -> None:
        batches = isinstance(dataset, keras.utils.PyDataset)
        if batches or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                explain(
                    f"a dataset of type {type(dataset).__name__}",
                    "single samples, by len(dataset) and dataset[i]",
                    "pass the dataset of samples that batches are made from, or arrays to ArraySource",
                )
            )
        self.dataset = dataset
        self.unpack = unpack
        self._check_not_empty()
        self._first = self._sample(0)
        self._plan = mirror_plan(mapped(lambda leaf: leaf[None], self._first))

    @property
    def can_flip(self) -> bool:
        """Whether the samples are images that can be mirrored together with their targets."""
        return self._plan is not None

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, refs: Refs, flips: Codes) -> Batch:
        """Return the samples `refs` as one batch of fresh arrays; as for `ArraySource`.

        Raises:
            IndexError: If a ref is negative or not below the length.
            ValueError: If a sample differs from sample 0, or a flip is asked for and `can_flip` is False.
        """
        check_rows(refs, len(self))
        check_flips(self, flips)
        count = len(refs)
        batch: Batch = mapped(lambda leaf: empty_batch((count, *leaf.shape), leaf.dtype), self._first)
        arrays = leaves(batch)
        for number, ref in enumerate(np.asarray(refs).tolist()):
            for array, leaf in zip(arrays, self._leaves(ref), strict=True):
                array[number] = leaf
        if self._plan is not None:
            mirror(batch, flips, self._plan)
        return batch

    def _sample(self, ref: int) -> tuple[Any, ...]:
        item = self.dataset[ref]
        sample = item if self.unpack is None else self.unpack(item)
        if isinstance(sample, (tuple, list)):
            sample = tuple(sample)
        elif not isinstance(sample, dict):
            sample = (sample,)
        if isinstance(sample, dict) or not 1 <= len(sample) <= 3 or any(part is None for part in sample):
            raise ValueError(
                explain(
                    f"a sample of type {type(sample).__name__} with {len(sample)} parts",
                    "(x,), (x, y) or (x, y, sample_weight), none of them None",
                    'pass unpack, for instance unpack=lambda item: (item["image"], item["label"])',
                )
            )
        return tuple(mapped(_as_array, part) for part in sample)

    def _leaves(self, ref: int) -> list[NDArray[Any]]:
        """Return the arrays of a sample; a ValueError says so if it differs from sample 0."""
        sample = self._sample(ref)
        wanted, found = leaves(self._first), leaves(sample)
        same = len(wanted) == len(found) and all(
            leaf.shape == first.shape and np.can_cast(leaf.dtype, first.dtype, "same_kind")
            for leaf, first in zip(found, wanted, strict=True)
        )
        if not same:
            raise ValueError(
                explain(
                    f"sample {ref} of {_described(found)}",
                    f"{_described(wanted)}, as in sample 0",
                    "bring all samples to one shape and type in the dataset, or in unpack",
                )
            )
        return found

    def _check_not_empty(self) -> None:
        if not len(self.dataset):
            raise ValueError(
                explain("a dataset of length 0", "at least one sample", "pass a dataset that holds data")
            )


def _as_array(leaf: Any) -> NDArray[Any]:
    """Return a leaf of a sample as an array: a tensor, a picture or a number."""
    array = as_numpy(leaf)
    if array.dtype.kind not in "biufc":
        raise ValueError(
            explain(
                f"a sample that holds {array.dtype}",
                "arrays, tensors or numbers",
                "convert text and objects to numbers in the dataset, or in unpack",
            )
        )
    return array


def _described(arrays: list[NDArray[Any]]) -> str:
    return ", ".join(f"{leaf.dtype} {leaf.shape}" for leaf in arrays)
