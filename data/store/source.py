"""What training reads from a store: images and the labels of some organs, by slice ref."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.source import empty_batch
from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import IGNORED
from kerasbalance.data.store.facts import CaseFacts
from kerasbalance.data.volume.neighbours import neighbour_table
from kerasbalance.data.volume.volume import AIR_HU

if TYPE_CHECKING:
    from kerasbalance.data.store.slices import SliceStore

NOT_ANNOTATED = 255
"""The label of a pixel of which nobody has said what it shows."""


class StoreSource:
    """Images and labels by slice ref; `SliceStore.source` makes it.

    Args:
        store: The store.
        organs: The organs, in the order of their label values 1, 2, ...
        neighbours: How many slices before and after each one are channels beside it, see `neighbour_table`.
        partial: Whether cases that annotate only some of the organs are read too.
        unknown: The label of their pixels outside of the annotated organs.
    """

    def __init__(
        self,
        store: "SliceStore",
        organs: tuple[str, ...],
        neighbours: int = 0,
        *,
        partial: bool = False,
        unknown: int = NOT_ANNOTATED,
    ) -> None:
        if neighbours < 0:
            raise ValueError(f"neighbours={neighbours}; expected 0 or more; leave it out for none")
        self.store, self.organs, self.neighbours = store, organs, neighbours
        self.partial, self.unknown = partial, unknown
        self._tables: dict[int, NDArray[np.int64]] = {}
        fitting = [case for case in store.cases if annotates(case, organs, partial=partial)]
        self.has_unknown = any(not annotates(case, organs) or IGNORED in case.organs for case in fitting)
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
            uint8 `(n, rows, columns, 1)`: 0 background, i + 1 for `organs[i]`, 255 not annotated. No refs give
            arrays of length 0.

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

    def annotated(self, refs: ArrayLike) -> NDArray[np.bool_]:
        """Return which organs the cases of some slices annotate, bool `(n, organs)`."""
        numbers = self.store.case_of(refs)
        known = [[organ in self.store.cases[n].organs for organ in self.organs] for n in numbers.tolist()]
        return np.array(known, bool).reshape(len(numbers), len(self.organs))

    def judged(self) -> "StoreSource":
        """Return this source with the label 0, not 255, outside of the organs that a case annotates.

        For a comparison organ by organ: what lies outside of an organ that is annotated is not this organ. Pixels that
        the masks themselves leave out keep the label 255.
        """
        return StoreSource(self.store, self.organs, self.neighbours, partial=self.partial, unknown=0)

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
        reader, values = self.store.reader(number), self._values(number)
        case = self.store.cases[number]
        labels = np.empty((case.slices, *(case.ct_plane or (0, 0))), np.uint8)
        for position, plane in enumerate(labels):
            _renumber(reader.mask_ct(position), values, plane)
        return labels

    def _values(self, number: int) -> NDArray[np.uint8]:
        """Return for each label of a case its label in this source, uint8 `(256,)`."""
        own = self.store.cases[number].organs
        partly = self.partial and any(organ in own for organ in self.organs)
        values = np.full(256, self.unknown if partly and not annotates_all(own, self.organs) else 0, np.uint8)
        for value, organ in enumerate(self.organs, 1):
            if organ in own or not partly:
                values[self.store.organ_column(number, organ) + 1] = value
        if IGNORED in own:
            values[own.index(IGNORED) + 1] = NOT_ANNOTATED
        return values

    def _read_one(
        self, number: int, position: int, code: int, x: NDArray[np.int16], y: NDArray[np.uint8]
    ) -> None:
        values, reader = self._values(number), self.store.reader(number)
        turn = (slice(None, None, -1 if code & 2 else 1), slice(None, None, -1 if code & 1 else 1))
        for channel, near in enumerate(self._near(number, position)):
            x[..., channel] = reader.image(near)[turn]
        drawn = np.flatnonzero(reader.positive_pixels[position]) + 1
        if (values[drawn] == values[0]).all():
            y[...] = values[0]
            return
        _renumber(reader.mask(position)[turn], values, y)


def annotates(case: CaseFacts, organs: Sequence[str], *, partial: bool = False) -> bool:
    """Return whether a case annotates all of some organs, or with `partial` at least one of them."""
    return any(organ in case.organs for organ in organs) if partial else annotates_all(case.organs, organs)


def annotates_all(own: Sequence[str], organs: Sequence[str]) -> bool:
    """Return whether all organs are among those of a case."""
    return set(organs) <= set(own)


def _renumber(labels: NDArray[np.uint8], values: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write labels of a case as labels of a source, which counts its organs from 1; other organs are background."""
    (named,) = np.nonzero(values)
    if len(named) == 1 and values[named[0]] == 1:
        np.equal(labels, named[0], out=out.view(np.bool_))
        return
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
