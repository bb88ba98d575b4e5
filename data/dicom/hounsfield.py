"""From stored values to modality values, which are Hounsfield units in a CT.

Every image has its own rescale; the arithmetic is exact (float64, or integers where slope and intercept are
whole numbers). MONOCHROME1 is not inverted: photometric interpretation concerns display,
not the modality values.

Reference:
    DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.11.1 (rescale), C.7.5.1.1.2 (padding).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.dicom.stack import Slice
from kerasbalance.data.volume.plausibility import Wrap


def padding_of(raw: NDArray[Any], item: Slice) -> NDArray[np.bool_] | None:
    """Return which stored values the header declares as padding, bool `(rows, columns)`, or None."""
    if item.header.padding is None:
        return None
    low, high = item.header.padding
    return np.asarray((raw >= low) & (raw <= high))


def possible_wraps(item: Slice) -> tuple[Wrap, ...]:
    """Return what a wrong PixelRepresentation would do to the values of an image."""
    slope, intercept, bits = item.frame.slope, item.frame.intercept, item.header.bit_shape[1]
    if (
        slope is None
        or intercept is None
        or slope <= 0
        or not 10 <= bits <= 16
        or item.header.modality_lut is not None
    ):
        return ()
    return (Wrap(2**bits * slope, 2 ** (bits - 1) * slope + intercept),)


def hounsfield(raw: NDArray[Any], item: Slice) -> NDArray[Any]:
    """Turn the stored values of one image into HU by its rescale or table; no bounds, and padding as it is.

    Args:
        raw: Stored values, `(rows, columns)`.
        item: The image they belong to; it has passed `checks.check_values`.
    """
    if item.header.modality_lut is not None:
        return item.header.modality_lut.apply(raw)
    slope, intercept = item.frame.slope, item.frame.intercept
    if slope is None or intercept is None:
        raise item.refused(
            "BAD_RESCALE", "no rescale", "RescaleSlope and RescaleIntercept", "check the series first"
        )
    if not (float(slope).is_integer() and float(intercept).is_integer()):
        scaled = raw * slope + intercept
        return np.rint(scaled, out=scaled)
    # 16 bits times a slope of 1 stay within int32 whatever the intercept; everything else gets 64 bits.
    narrow = raw.dtype.itemsize <= 2 and abs(slope) <= 1
    values: NDArray[Any] = raw.astype(np.int32 if narrow else np.int64)
    if slope != 1:
        values *= int(slope)
    values += int(intercept)
    return values
