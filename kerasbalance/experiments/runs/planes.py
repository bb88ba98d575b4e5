"""Slices of any size for a network that halves its input several times: padded with air, labels cut back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.store import StoreSource
from kerasbalance.data.volume.volume import AIR_HU

MULTIPLE = 32
"""Both networks take sides that this divides (the U-Net would take 16)."""


def padded_side(side: int) -> int:
    """Return the smallest multiple of `MULTIPLE` that is at least `side`."""
    return -(-side // MULTIPLE) * MULTIPLE


def pad_planes(planes: NDArray[Any], value: int) -> NDArray[Any]:
    """Pad `(n, rows, columns, ...)` behind the last row and column to sides that `MULTIPLE` divides."""
    rows, columns = planes.shape[1:3]
    missing = (padded_side(rows) - rows, padded_side(columns) - columns)
    if missing == (0, 0):
        return planes
    widths = [(0, 0), (0, missing[0]), (0, missing[1]), *[(0, 0)] * (planes.ndim - 3)]
    return np.pad(planes, widths, constant_values=value)


class PaddedSource:
    """A store's source whose slices have sides that the network takes.

    Flips are applied before the padding, so that the padding stays behind the last row and column.

    Args:
        source: what to read from.
    """

    def __init__(self, source: StoreSource) -> None:
        self.source = source
        self.plane = (padded_side(source.plane[0]), padded_side(source.plane[1]))

    def __len__(self) -> int:
        return len(self.source)

    def annotated(self, refs: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which organs are annotated; as `StoreSource.annotated`."""
        return self.source.annotated(refs)

    def read(
        self, refs: NDArray[np.integer], flips: NDArray[np.integer] | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Read slices; as `StoreSource.read`, with air and background behind the last row and column."""
        x, y = self.source.read(refs, flips)
        return pad_planes(x, AIR_HU), pad_planes(y, 0)
