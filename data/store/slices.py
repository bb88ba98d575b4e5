"""`SliceStore`: a store as a table of slices that training draws from."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.source import empty_batch
from kerasbalance.data.errors import DataError
from kerasbalance.data.store.facts import CaseFacts, Entry
from kerasbalance.data.store.reader import CaseReader, Readers
from kerasbalance.data.store.store import Store
from kerasbalance.data.volume.neighbours import neighbour_table
from kerasbalance.data.volume.volume import AIR_HU
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

    def refs(self, organs: str | Sequence[str], cases: Sequence[int] | None = None) -> NDArray[np.int64]:
        """Return the slice refs of the cases in which all of `organs` are annotated.

        Args:
            organs: One organ or several.
            cases: Case numbers to look at; all by default.

        Returns:
            int64, ascending within a case; empty if no case fits.

        Raises:
            DataError: If no case annotates one of the organs (code `NO_ORGAN`).
        """
        wanted = self._check_organs(organs)
        numbers = range(len(self._entries)) if cases is None else cases
        fitting = [n for n in numbers if set(wanted) <= set(self.cases[n].organs)]
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

    def source(self, organs: str | Sequence[str], *, neighbours: int = 0) -> "StoreSource":
        """Return what `IndexedDataset` reads from: images and the labels of the given organs.

        Args:
            organs: One organ or several.
            neighbours: How many slices before and after each one are read as channels beside it.

        Raises:
            ValueError: If `neighbours` is negative.
            DataError: If no case annotates one of the organs, or the slices of the cases that annotate them all
                differ in size (codes `NO_ORGAN`, `SIZES`).
        """
        return StoreSource(self, self._check_organs(organs), neighbours)

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


class StoreSource:
    """Images and labels by slice ref; `SliceStore.source` makes it.

    Args:
        store: The store.
        organs: The organs, in the order of their label values 1, 2, ...
        neighbours: How many slices before and after each one are channels beside it, see `neighbour_table`.
    """

    def __init__(self, store: SliceStore, organs: tuple[str, ...], neighbours: int = 0) -> None:
        if neighbours < 0:
            raise ValueError(f"neighbours={neighbours}; expected 0 or more; leave it out for none")
        self.store, self.organs, self.neighbours = store, organs, neighbours
        self._tables: dict[int, NDArray[np.int64]] = {}
        fitting = [case for case in store.cases if set(organs) <= set(case.organs)]
        sizes = sorted({(case.rows, case.columns) for case in fitting})
        one_pixel_size = len({case.resampled_mm or case.key for case in fitting}) == 1
        if len(sizes) > 1 and not one_pixel_size:
            listed = ", ".join(f"{rows} x {columns}" for rows, columns in sizes)
            raise DataError("SIZES", f"slices of {len(sizes)} sizes ({listed})", "one size for all batches",
                            "ingest all cases into a new store with one --spacing, --resize or --crop")  # fmt: skip
        self.plane = (max(r for r, _ in sizes), max(c for _, c in sizes)) if sizes else (0, 0)

    def __len__(self) -> int:
        """Number of slices of the whole store, so that every slice ref is below it."""
        return len(self.store)

    def read(
        self, refs: ArrayLike, flips: ArrayLike | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Read slices into fresh arrays, which are the caller's to keep.

        Args:
            refs: Slice refs, `(n,)`; repeats are allowed.
            flips: Per slice 0 none, 1 left-right, 2 front-back, 3 both; none by default.

        Returns:
            HU, int16 `(n, rows, columns, 2 * neighbours + 1)`, each slice in the middle channel, and its labels,
            uint8 `(n, rows, columns, 1)`: 0 background, i + 1 for `organs[i]`. No refs give arrays of length 0.

        Raises:
            DataError: If a slice is damaged or lies in a case without one of the organs.
            IndexError: If a ref is not a row of the slice table.
            TypeError, ValueError: If refs or flips are not integers, or not one list of one length.
        """
        refs = self.store.check_refs(refs)
        codes = _check_flips(flips, refs)
        x = empty_batch((len(refs), *self.plane, 2 * self.neighbours + 1), np.int16)
        y = empty_batch((len(refs), *self.plane, 1), np.uint8)
        numbers = self.store.case_of(refs)
        for i, (number, ref, code) in enumerate(
            zip(numbers.tolist(), refs.tolist(), codes.tolist(), strict=True)
        ):
            here = (i, *self.window(number))
            if y[here].shape[:2] != self.plane:
                x[i], y[i] = AIR_HU, 0
            self._read_one(number, ref - int(self.store.first_ref[number]), code, x[here], y[here][..., 0])
        return x, y

    def middle(self, x: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the slices themselves, `(n, rows, columns)`, without their neighbours.

        Args:
            x: Images as `read` returns them.
        """
        return x[..., self.neighbours]

    def _near(self, number: int, position: int) -> list[int]:
        """Return the places in a case of the slices that are the channels of one."""
        if not self.neighbours:
            return [position]
        table = self._tables.get(number)
        if table is None:
            table = self._tables[number] = neighbour_table(
                self.store.reader(number).depth_mm, self.neighbours
            )
        return [int(near) for near in table[position]]

    def window(self, number: int) -> tuple[slice, slice]:
        """Return where in the plane of this source the slices of a case lie: central, with air around smaller ones."""
        case = self.store.cases[number]
        rows, columns = (self.plane[0] - case.rows) // 2, (self.plane[1] - case.columns) // 2
        return slice(rows, rows + case.rows), slice(columns, columns + case.columns)

    def reference_ct(self, number: int) -> NDArray[np.uint8]:
        """Return the labels of a case on the grid that its CT had before the slices were shaped.

        Args:
            number: A case whose facts have a `ct_plane`.

        Returns:
            uint8 `(slices, *ct_plane)`: 0 background, i + 1 for `organs[i]`.

        Raises:
            DataError: If the case is damaged, has no such mask, or lacks one of the organs.
        """
        reader, columns = self.store.reader(number), self._columns(number)
        case = self.store.cases[number]
        labels = np.empty((case.slices, *(case.ct_plane or (0, 0))), np.uint8)
        for position, plane in enumerate(labels):
            _renumber(reader.mask_ct(position), columns, plane)
        return labels

    def _columns(self, number: int) -> list[int]:
        return [self.store.organ_column(number, organ) for organ in self.organs]

    def _read_one(
        self, number: int, position: int, code: int, x: NDArray[np.int16], y: NDArray[np.uint8]
    ) -> None:
        columns, reader = self._columns(number), self.store.reader(number)
        turn = (slice(None, None, -1 if code & 2 else 1), slice(None, None, -1 if code & 1 else 1))
        for channel, near in enumerate(self._near(number, position)):
            x[..., channel] = reader.image(near)[turn]
        present = reader.positive_pixels[position, columns] > 0
        if not present.any():
            y[...] = 0
            return
        _renumber(reader.mask(position)[turn], columns, y)


def _renumber(labels: NDArray[np.uint8], columns: list[int], out: NDArray[np.uint8]) -> None:
    """Write labels of a case as labels of a source, which counts its organs from 1; other organs are background."""
    if len(columns) == 1:
        np.equal(labels, columns[0] + 1, out=out.view(np.bool_))
        return
    values = np.zeros(256, np.uint8)
    values[np.array(columns) + 1] = np.arange(1, len(columns) + 1)
    np.take(values, labels, out=out, mode="clip")


def _check_flips(flips: ArrayLike | None, refs: NDArray[np.int64]) -> NDArray[np.int64]:
    codes = np.zeros(refs.shape, np.int64) if flips is None else np.asarray(flips)
    if refs.ndim != 1 or codes.shape != refs.shape:
        raise ValueError(
            f"refs of shape {refs.shape} and flips of shape {codes.shape}; expected (n,) for both"
        )
    if codes.size and (codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() > 3):
        raise ValueError(
            "flips outside 0 to 3; expected 0 none, 1 left-right, 2 front-back or 3 both; correct them"
        )
    return codes.astype(np.int64)
