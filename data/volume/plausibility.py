"""Whether values are Hounsfield units that a reader would believe; one set of checks for every format of CT.

A few slices are looked at first, because padding and wrapped values show at the rim of the image, where a CT has
air. What they say then holds for every slice, which is turned into int16 HU and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.volume.volume import AIR_HU

NO_AIR = "no-air"
"""The relaxation that accepts a CT without any value below 0, of which air and fat have many."""
HIGHEST_HU = int(np.iinfo(np.int16).max)
RIM_HIGH_HU = 1000
"""At the rim of a CT lie air, padding, a table or fat; bone and metal hardly ever do."""
RIM_SHARE = 0.02
AIR_BELOW_HU = -200
AIR_SHARE = 1e-3
LOW_HU = -1500
"""No tissue and no noise of air goes below."""
LOW_SHARE = 5e-4
PLAIN_SHARE = 0.95
"""Padding is one value; this share of the odd values must have it."""
WRAPPED_SHARE = 0.9
HIGHEST_CT_HU = 3071
MIN_HU_RANGE = 50
PICTURE_HIGHEST = 255
MAX_CLIPPED_SHARE = 0.01
SAMPLES = 9

Values = NDArray[Any]


@dataclass(frozen=True)
class Wrap:
    """Where stored bits taken with the wrong sign begin, in HU.

    Args:
        modulus: What a wrong sign adds to a value or takes away.
        half: Values from here on are negative ones if the sign was left out.
    """

    modulus: float
    half: float


NO_FORMAT = (Wrap(65536.0, 32768.0), Wrap(4096.0, 2048.0))
"""What can be tried where the format does not say how many bits were stored."""


@dataclass(frozen=True)
class Reading:
    """How the values of a series are to be taken.

    Args:
        padding: The value that means "no pixel", or None.
        negative: Values from `half` on are negative ones without their sign, or None.
        positive: Values below `LOW_HU` are positive ones with a wrong sign, or None.
        notes: What was found.
    """

    padding: float | None = None
    negative: Wrap | None = None
    positive: Wrap | None = None
    notes: tuple[Note, ...] = ()

    def apply(self, values: Values) -> Values:
        """Return the values with the signs that were meant."""
        meant = values
        if self.negative is not None:
            meant = np.where(values >= self.negative.half, values - self.negative.modulus, meant)
        if self.positive is not None:
            meant = np.where(values < LOW_HU, values + self.positive.modulus, meant)
        return meant


def sample_numbers(slices: int) -> list[int]:
    """Return the numbers of the slices to look at first: at most `SAMPLES`, spread evenly."""
    return sorted({int(n) for n in np.linspace(0, slices - 1, min(slices, SAMPLES))})


def judge(samples: Sequence[Values], wraps: Sequence[Wrap] = NO_FORMAT) -> Reading:
    """Find untagged padding, and values whose sign bit was taken wrongly.

    Args:
        samples: Slices `(rows, columns)` in what should be HU; NaN is passed over.
        wraps: Which wrong signs are possible.
    """
    rim = _finite([part for plane in samples for part in (plane[0], plane[-1], plane[:, 0], plane[:, -1])])
    whole = _finite(samples)
    if not rim.size:
        return Reading()
    padding, notes = _padding(rim, whole, wraps), []
    if padding is not None:
        rim, whole = rim[rim != padding], whole[whole != padding]
        notes.append(
            Note("PADDING", f"padding at {padding:g} HU, which no tag declares, was turned into air", True)
        )
    negative = _lost_sign(whole, wraps)
    positive = _false_sign(rim, whole, wraps) if negative is None else None
    if negative is not None or positive is not None:
        kind = (
            "negative values stored as unsigned"
            if negative is not None
            else "positive values stored as signed"
        )
        notes.append(Note("WRAPPED", f"{kind} were turned back into HU: check the images", loud=True))
    return Reading(padding, negative, positive, tuple(notes))


def _finite(parts: Sequence[Values]) -> Values:
    joined = np.concatenate([np.ravel(part) for part in parts])
    return joined[np.isfinite(joined)] if joined.dtype.kind == "f" else joined


def _has_air(whole: Values) -> bool:
    return whole.size > 0 and float(np.mean(whole <= AIR_BELOW_HU)) >= AIR_SHARE


def _padding(rim: Values, whole: Values, wraps: Sequence[Wrap]) -> float | None:
    high = rim[rim >= RIM_HIGH_HU]
    if high.size < RIM_SHARE * rim.size:
        return None
    found, counts = np.unique(high, return_counts=True)
    value = float(found[counts.argmax()])
    if counts.max() < PLAIN_SHARE * high.size:
        return None
    if _has_air(whole):
        return value
    is_air = any(value >= wrap.half and -1100 <= value - wrap.modulus <= -900 for wrap in wraps)
    return value if not is_air and (value > HIGHEST_CT_HU or value == whole.max()) else None


def _lost_sign(whole: Values, wraps: Sequence[Wrap]) -> Wrap | None:
    """Return the wrap that makes air of what lies too high, where there is no air otherwise."""
    if _has_air(whole):
        return None
    for wrap in wraps:
        high = whole[whole >= wrap.half]
        meant = high - wrap.modulus
        if high.size > RIM_SHARE * whole.size and np.mean((meant >= LOW_HU) & (meant < 0)) >= WRAPPED_SHARE:
            return wrap
    return None


def _false_sign(rim: Values, whole: Values, wraps: Sequence[Wrap]) -> Wrap | None:
    """Return the wrap that makes bone or tissue of what lies far below air, but not at the rim as padding does."""
    low = whole[whole < LOW_HU]
    if low.size <= LOW_SHARE * whole.size or np.mean(rim < LOW_HU) >= RIM_SHARE:
        return None
    if np.unique(low, return_counts=True)[1].max() >= PLAIN_SHARE * low.size:
        return None
    for wrap in wraps:
        meant = low + wrap.modulus
        if np.mean((meant >= AIR_HU) & (meant <= HIGHEST_CT_HU)) >= WRAPPED_SHARE:
            return wrap
    return None


class HuStack:
    """A volume of HU that is filled slice by slice and judged at the end.

    Args:
        shape: `(slices, rows, columns)`.
        reading: How the values are to be taken, from `judge`.
    """

    def __init__(self, shape: tuple[int, int, int], reading: Reading) -> None:
        self.hu = np.empty(shape, np.int16)
        self._reading = reading
        self._lowest, self._highest = np.inf, -np.inf
        self._below = self._above = self._outside = self._broken = 0
        self._is_empty = [False] * shape[0]
        self._has_negative = False

    def put(self, number: int, values: Values, padding: NDArray[np.bool_] | None = None) -> None:
        """Take one slice.

        Args:
            number: Which.
            values: `(rows, columns)`; integers of any signed type wide enough, or floats, which are rounded. NaN and
                infinity count as air where they reach the rim of the slice.
            padding: Which voxels a tag declares as padding, bool; they become air.
        """
        outside = np.zeros(values.shape, bool) if padding is None else padding
        if self._reading.padding is not None:
            outside = outside | (values == self._reading.padding)
        values = self._reading.apply(values)
        if values.dtype.kind == "f":
            outside = outside | ~np.isfinite(values)
            values = self._without_nan(number, np.rint(values))
        self.hu[number] = np.clip(values, AIR_HU, HIGHEST_HU)
        if outside.any():
            self.hu[number][outside] = AIR_HU
            values = values[~outside]
        if values.size:
            self._count(values)

    def _count(self, values: Values) -> None:
        low, high = float(values.min()), float(values.max())
        if not self._has_negative:
            self._has_negative = bool(np.any((values > AIR_HU) & (values < 0)))
        if low < AIR_HU:
            self._below += int(np.count_nonzero(values < AIR_HU))
        if high > HIGHEST_HU:
            self._above += int(np.count_nonzero(values > HIGHEST_HU))
        self._lowest, self._highest = min(self._lowest, low), max(self._highest, high)

    def _without_nan(self, number: int, values: Values) -> Values:
        broken = ~np.isfinite(values)
        if not broken.any():
            return values
        self._is_empty[number] = bool(broken.all())
        parts, _ = ndimage.label(broken)
        at_rim = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        outside = np.isin(parts, at_rim) & broken
        self._outside += int(outside.sum())
        self._broken += int(broken.sum() - outside.sum())
        return np.where(broken, AIR_HU, values)

    def finish(self, allow: frozenset[str] = frozenset()) -> tuple[NDArray[np.int16], tuple[Note, ...]]:
        """Return the volume and what was found.

        Args:
            allow: Relaxations by name; `"no-air"` accepts values of which none is below 0.

        Raises:
            DataError: If the values are no HU (code `NOT_HU`).
        """
        if self._broken or _is_interrupted(self._is_empty):
            raise _not_hu(
                f"{self._broken + self._outside:,} voxels that are NaN or infinite, some inside the body"
            )
        span = f"values from {self._lowest:g} to {self._highest:g}"
        if self._highest - self._lowest < MIN_HU_RANGE:
            raise _not_hu(span)
        if self._lowest == 0 and self._highest <= PICTURE_HIGHEST:
            raise _not_hu(f"{span}, as in a picture of 8 bits")
        if self._above > MAX_CLIPPED_SHARE * self.hu.size:
            raise _not_hu(f"{span}; {self._above:,} voxels lie above {HIGHEST_HU:,}")
        if not self._has_negative and NO_AIR not in allow:
            received = f"{span}, of which none lies between {AIR_HU} and 0: an offset of 1024 may be missing"
            raise _not_hu(received, f"export the CT with its rescale values, or pass --allow {NO_AIR} if it is cropped "
                          "to tissue")  # fmt: skip
        return self.hu, (*self._reading.notes, *self._notes())

    def _notes(self) -> list[Note]:
        notes = []
        if self._outside:
            notes.append(
                Note("NAN", f"{self._outside:,} voxels at the rim are NaN or infinite and count as air", True)
            )
        if self._below:
            notes.append(Note("CLIPPED", f"{self._below:,} voxels below {AIR_HU} HU were set to {AIR_HU}"))
        if self._above:
            text = f"{self._above:,} voxels above {HIGHEST_HU:,} HU were set to {HIGHEST_HU:,}"
            notes.append(Note("CLIPPED", text, loud=True))
        if self._lowest > AIR_BELOW_HU:
            text = f"no voxel is below {self._lowest:g}: are these Hounsfield units, or is an offset of 1024 missing?"
            notes.append(
                Note("NO_AIR", text if self._has_negative else f"allowed ({NO_AIR}): {text}", loud=True)
            )
        if self._highest < AIR_BELOW_HU:
            text = f"no voxel is above {self._highest:g}: are these Hounsfield units?"
            notes.append(Note("NO_TISSUE", text, loud=True))
        return notes


def _is_interrupted(empty: Sequence[bool]) -> bool:
    """Return whether slices without any value lie between others."""
    changes = sum(a != b for a, b in pairwise([True, *empty, True]))
    return changes > 2 or all(empty)


def _not_hu(received: str, advice: str = "export the CT without normalisation or windowing") -> DataError:
    return DataError("NOT_HU", received, "Hounsfield units, from air (-1000) to bone", advice)
