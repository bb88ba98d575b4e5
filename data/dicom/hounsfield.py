"""From stored values to int16 Hounsfield units.

Every image has its own rescale; the arithmetic is exact (float64, or integers where slope and intercept are
whole numbers). Padding becomes air. MONOCHROME1 is not inverted: photometric interpretation concerns display,
not the modality values.

Reference:
    DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.11.1 (rescale), C.7.5.1.1.2 (padding).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.dicom.stack import Slice
from kerasbalance.data.volume.volume import AIR_HU

HIGHEST_HU = int(np.iinfo(np.int16).max)


def hounsfield(raw: NDArray[Any], item: Slice) -> NDArray[np.int16]:
    """Turn the stored values of one image into int16 HU: rescale, padding to air, nothing below `AIR_HU`.

    Args:
        raw: stored values, `(rows, columns)`.
        item: the image they belong to; it has passed `checks.check_values`.
    """
    values = _modality_values(raw, item)
    hu: NDArray[np.int16] = np.clip(values, AIR_HU, HIGHEST_HU, out=values).astype(np.int16)
    if item.header.padding is not None:
        low, high = item.header.padding
        hu[(raw >= low) & (raw <= high)] = AIR_HU
    return hu


def _modality_values(raw: NDArray[Any], item: Slice) -> NDArray[Any]:
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
