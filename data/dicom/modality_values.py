"""The meaning of stored values: which of them are padding, and the table that some files have instead of a rescale.

Reference:
    DICOM PS3.3 C.7.5.1.1.2 (padding), C.11.1 (Modality LUT).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from kerasbalance.data.dicom.attributes import items_of, raw_bytes
from kerasbalance.data.dicom.limits import Meter


@dataclass(frozen=True)
class ModalityLut:
    """A table from stored values to modality values.

    Args:
        first: The stored value that the first entry belongs to; smaller ones take it too.
        entries: The table, 16-bit little endian; larger stored values take the last entry.
    """

    first: int
    entries: bytes = field(repr=False)

    def apply(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Return the modality values of stored ones."""
        table = np.frombuffer(self.entries, "<u2").astype(np.int64)
        return table[np.clip(raw.astype(np.int64) - self.first, 0, len(table) - 1)]


def modality_lut(dataset: Dataset, meter: Meter, *, signed: bool) -> ModalityLut | None:
    """Read the ModalityLUTSequence.

    Returns:
        The table, or None where there is no such sequence or it is empty.

    Raises:
        ValueError: If the table does not fit its descriptor.
    """
    items = items_of(dataset, "ModalityLUTSequence", meter)
    if not items:
        return None
    descriptor, little = raw_bytes(items[0], "LUTDescriptor")
    data, _ = raw_bytes(items[0], "LUTData")
    order = "<" if little else ">"
    if len(descriptor) != 6:
        raise ValueError("LUTDescriptor")
    count, first, bits = (int(value) for value in np.frombuffer(descriptor, order + "u2"))
    count = count or 2**16
    if signed and first >= 2**15:
        first -= 2**16
    kind = "u1" if bits == 8 and len(data) in (count, count + 1) else order + "u2"
    entries = np.frombuffer(data[: len(data) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)[
        :count
    ]
    if len(entries) != count or not 8 <= bits <= 16:
        raise ValueError("LUTData")
    return ModalityLut(first, entries.astype("<u2").tobytes())


def padding_range(dataset: Dataset, *, signed: bool, bits: int) -> tuple[int, int] | None:
    """Return the smallest and largest stored value that mean "no pixel".

    The bytes are read as PixelRepresentation says, whatever VR (US or SS) the writer gave them.

    Args:
        dataset: The data set.
        signed: Whether stored values are signed.
        bits: BitsAllocated.
    """
    values = [
        _stored(dataset, name, signed=signed) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ]
    value, limit = values
    if value is None or bits not in (8, 16, 32):
        return None
    ends = [_wrap(v, bits, signed=signed) for v in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _stored(dataset: Dataset, keyword: str, *, signed: bool) -> int | None:
    data, little = raw_bytes(dataset, keyword)
    return int.from_bytes(data[:4], "little" if little else "big", signed=signed) if data else None


def _wrap(value: int, bits: int, *, signed: bool) -> int:
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value
