"""Who the hard slices are: their share by case, by position and by size of organ, beside all candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.experiments.runs.slice_table import SliceTable

POSITIONS = ("above", "top fifth", "2nd fifth", "middle", "4th fifth", "lowest fifth", "below", "no organ")
"""From head to feet, as a scan is drawn."""
AREAS = ("none", "smallest quarter", "2nd quarter", "3rd quarter", "largest quarter")
MAX_CASES = 12


@dataclass(frozen=True)
class Share:
    """One group of candidates.

    Args:
        name: of the group.
        candidates: slices in it.
        hard: of these, the hard ones.
    """

    name: str
    candidates: int
    hard: int

    @property
    def rate(self) -> float:
        """Share of the group that is hard; 0 for an empty group."""
        return self.hard / self.candidates if self.candidates else 0.0


def by_case(table: SliceTable) -> tuple[Share, ...]:
    """Count by case, the most hard slices first; names are the first eight digits of the keys.

    Of more than `MAX_CASES` cases the rest is one group.
    """
    names, number = np.unique(table.case, return_inverse=True)
    found = sorted(_count(number, [str(name)[:8] for name in names], table.hard), key=lambda s: -s.hard)
    if len(found) <= MAX_CASES:
        return tuple(found)
    rest = found[MAX_CASES - 1 :]
    others = Share(f"{len(rest)} others", sum(s.candidates for s in rest), sum(s.hard for s in rest))
    return (*found[: MAX_CASES - 1], others)


def by_position(table: SliceTable) -> tuple[Share, ...]:
    """Count by place along the body axis, relative to the extent of the organs in each case.

    Slices below and above the organs and those of a case without any form groups of their own; groups without
    candidates are left out.
    """
    group = np.full(len(table), len(POSITIONS) - 1, np.int64)
    for case in np.unique(table.case):
        rows = np.flatnonzero(table.case == case)
        held = table.slice[rows][table.pixels[rows] > 0]
        if len(held):
            group[rows] = _fifths(table.slice[rows], int(held.min()), int(held.max()))
    return tuple(share for share in _count(group, POSITIONS, table.hard) if share.candidates)


def _fifths(position: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Return 6 below `first`, 5 to 1 for the fifths up to `last`, 0 above it."""
    fifth = 5 - (position - first) * 5 // (last - first + 1)
    return np.where(position < first, 6, np.where(position > last, 0, fifth))


def by_area(table: SliceTable) -> tuple[Share, ...]:
    """Count by the organs' area on the slice: none, and quarters of the slices that show an organ."""
    group = np.zeros(len(table), np.int64)
    shown = table.pixels > 0
    if shown.any():
        edges = np.quantile(table.pixels[shown], (0.25, 0.5, 0.75))
        group[shown] = 1 + np.searchsorted(edges, table.pixels[shown], side="left")
    return tuple(share for share in _count(group, AREAS, table.hard) if share.candidates)


def _count(group: NDArray[np.int64], names: Sequence[str], hard: NDArray[np.bool_]) -> tuple[Share, ...]:
    candidates = np.bincount(group, minlength=len(names)).tolist()
    chosen = np.bincount(group[hard], minlength=len(names)).tolist()
    return tuple(Share(*each) for each in zip(names, candidates, chosen, strict=True))
