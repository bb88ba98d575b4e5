"""`SliceStore`: a store as a table of slices that training draws from."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.facts import CaseFacts, Entry
from kerasbalance.data.store.reader import CaseReader, Readers
from kerasbalance.data.store.source import StoreSource, annotates
from kerasbalance.data.store.store import Store
from kerasbalance.notebook import html_table


class SliceStore:
    """A store opened for reading: cases, slices, and sources of batches.

    Cases stand in the order of their keys and slices in the order of their depth, so a slice ref (a row of the
    slice table) does not depend on the order of ingest. The snapshot is taken when the store is opened: cases
    that are added later are not seen. The object may be pickled and used in several processes and threads.

    Args:
        path: The store's folder.
        keys: The cases to open, by key; all by default. Nothing else in the store then matters.

    Raises:
        DataError: If there is no store, or a case is damaged or missing (codes `NO_STORE`, `DAMAGED`).

    Example:
        >>> store = SliceStore("store")                                  # doctest: +SKIP
        >>> x, y = store.source("liver").read(store.refs("liver")[:16])  # doctest: +SKIP
        >>> x.shape, x.dtype                                             # doctest: +SKIP
        ((16, 512, 512, 1), dtype('int16'))
    """

    def __init__(self, path: str | Path, keys: Collection[str] | None = None) -> None:
        store = Store(Path(path))
        self.path = Path(path).absolute()
        self._entries: tuple[Entry, ...] = tuple(store.entries(keys).values())
        self._cases = tuple(entry.facts for entry in self._entries)
        counts = [case.slices for case in self._cases]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        self._first.setflags(write=False)
        self._readers = Readers(store.cases_folder.absolute(), self._entries)

    @property
    def cases(self) -> tuple[CaseFacts, ...]:
        """The cases; case i owns the slice refs `first_ref[i]` to `first_ref[i + 1]` (exclusive)."""
        return self._cases

    @property
    def first_ref(self) -> NDArray[np.int64]:
        """int64 `(cases + 1,)`: the slice ref at which each case begins, and the number of slices."""
        return self._first

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the snapshot: which cases, and every byte of them."""
        lines = "\n".join(f"{entry.facts.key} {entry.sha256}" for entry in self._entries)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def organs(self) -> tuple[str, ...]:
        """All organs that are annotated in some case, sorted."""
        return tuple(sorted({organ for case in self.cases for organ in case.organs}))

    def _repr_html_(self) -> str:
        """Return the organs and their numbers of cases as a table, for a notebook."""
        rows = [[organ, sum(organ in case.organs for case in self.cases)] for organ in self.organs]
        return html_table(
            f"SliceStore: {len(self.cases)} cases, {len(self)} slices", ["organ", "cases"], rows
        )

    def __len__(self) -> int:
        """Number of slices."""
        return int(self._first[-1])

    def case_refs(self, number: int) -> NDArray[np.int64]:
        """Return all slice refs of a case, int64, in their order.

        Args:
            number: The case, from 0.
        """
        return np.arange(self.first_ref[number], self.first_ref[number + 1])

    def case_of(self, refs: ArrayLike) -> NDArray[np.int64]:
        """Return the case number of each slice ref, int64, same shape.

        Raises:
            IndexError: If a ref is not a row of the slice table.
            TypeError: If the refs are not integers.
        """
        refs = self.check_refs(refs)
        return np.searchsorted(self._first, refs, side="right") - 1

    def check_refs(self, refs: ArrayLike) -> NDArray[np.int64]:
        """Return slice refs as int64, same shape.

        Raises:
            IndexError: If a ref is not a row of the slice table.
            TypeError: If the refs are not integers.
        """
        array = np.asarray(refs)
        if array.size == 0:
            return array.astype(np.int64)
        if array.dtype.kind not in "iu":
            raise TypeError(
                f"slice refs of type {array.dtype}; expected integers; take them from SliceStore.refs"
            )
        if array.min() < 0 or array.max() >= len(self):
            raise IndexError(f"slice refs {array.min()} to {array.max()}; expected 0 to {len(self) - 1}; "
                             "take them from SliceStore.refs")  # fmt: skip
        return array.astype(np.int64)

    def refs(
        self, organs: str | Sequence[str], cases: Sequence[int] | None = None, *, partial: bool = False
    ) -> NDArray[np.int64]:
        """Return the slice refs of the cases in which all of `organs` are annotated.

        Args:
            organs: One organ or several.
            cases: Case numbers to look at; all by default.
            partial: Whether a case that annotates only some of the organs counts too.

        Returns:
            int64, ascending within a case; empty if no case fits.

        Raises:
            DataError: If no case annotates one of the organs (code `NO_ORGAN`).
        """
        wanted = self._check_organs(organs)
        numbers = range(len(self._entries)) if cases is None else cases
        fitting = [n for n in numbers if annotates(self.cases[n], wanted, partial=partial)]
        parts = [np.arange(self._first[n], self._first[n + 1]) for n in fitting]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def positive_pixels(self, refs: ArrayLike, organ: str) -> NDArray[np.int64]:
        """Return how many pixels of an organ lie on each of the given slices, int64, same shape."""
        refs = self.check_refs(refs)
        counts = np.zeros(refs.shape, np.int64)
        numbers = self.case_of(refs)
        for number in np.unique(numbers):
            here = numbers == number
            column = self.organ_column(int(number), organ)
            counts[here] = self.reader(int(number)).positive_pixels[refs[here] - self._first[number], column]
        return counts

    def source(
        self, organs: str | Sequence[str], *, neighbours: int = 0, partial: bool = False
    ) -> StoreSource:
        """Return what `IndexedDataset` reads from: images and the labels of the given organs.

        Args:
            organs: One organ or several.
            partial: Whether cases that annotate only some of the organs are read too. On them, pixels outside of
                the annotated organs have the label 255, since nobody knows what they show: train with
                `DiceLoss(ignore_label=255)`.
            neighbours: How many slices before and after each one are read as channels beside it.

        Raises:
            ValueError: If `neighbours` is negative.
            DataError: If no case annotates one of the organs, or the slices of the cases that annotate them all
                differ in size (codes `NO_ORGAN`, `SIZES`).
        """
        return StoreSource(self, self._check_organs(organs), neighbours, partial=partial)

    def _check_organs(self, organs: str | Sequence[str]) -> tuple[str, ...]:
        wanted = (organs,) if isinstance(organs, str) else tuple(organs)
        if len(set(wanted)) < len(wanted):
            raise DataError(
                "NO_ORGAN", f"the organs {', '.join(wanted)}", "each organ once", "name each organ once"
            )
        missing = [organ for organ in wanted if organ not in self.organs]
        if missing or not wanted:
            raise DataError("NO_ORGAN", f"the organ {missing[0]!r}" if missing else "no organ",
                            f"one of {', '.join(self.organs) or 'none (the store is empty)'}",
                            "correct the organ, or ingest cases that annotate it")  # fmt: skip
        return wanted

    def organ_column(self, number: int, organ: str) -> int:
        """Return the place of an organ among those of a case.

        Raises:
            DataError: If the case does not annotate it (code `NO_ORGAN`).
        """
        organs = self.cases[number].organs
        if organ not in organs:
            raise DataError("NO_ORGAN", f"a slice of a case without {organ}", f"a case that annotates {organ}",
                            "take slices from SliceStore.refs", where=f"case {number}")  # fmt: skip
        return organs.index(organ)

    def reader(self, number: int) -> CaseReader:
        """Return this process's reader of a case, by case number.

        Raises:
            DataError: If the case's file is damaged.
        """
        return self._readers.get(number)
