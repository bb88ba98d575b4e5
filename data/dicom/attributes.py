"""Reading single attributes of an untrusted data set: what is no number becomes NaN, what is missing stays None."""

import math
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO, cast

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.tag import BaseTag, Tag

from kerasbalance.data.dicom.limits import MAX_VALUE_BYTES, HeaderTooLarge, Meter, Metered

_PLAIN = {"CS", "DS", "IS", "UI", "US"}
"""Value representations whose bytes alone say what the value is: no character set, no other attribute."""

_SHORT_BYTES = 256
_MOST_CONVERTED = 10_000
_converted: dict[tuple[str | None, bytes | None, bool], Any] = {}


def check_lengths(dataset: Dataset) -> None:
    """Refuse values that would take long to convert; sequences are metered by `items_of`.

    Raises:
        HeaderTooLarge: If a value is longer than `MAX_VALUE_BYTES`.
    """
    for element in dataset.elements():
        if isinstance(element, RawDataElement) and not _is_sequence(element):
            length = len(element.value) if element.value is not None else 0
            if length > MAX_VALUE_BYTES:
                raise HeaderTooLarge


def _is_sequence(element: RawDataElement) -> bool:
    return bool(element.tag.group == 0x5200 or element.tag == 0x00283000)


def items_of(dataset: Dataset, keyword: str, meter: Meter) -> list[Dataset]:
    """Return the items of a sequence, read under the same meter as the file.

    pydicom parses a sequence of stated length only when it is asked for, and then without any limit.
    """
    element = dataset.get_item(keyword) if keyword in dataset else None
    if element is None:
        return []
    if not isinstance(element, RawDataElement):
        return list(element.value or [])
    value = element.value or b""
    if not value:
        return []
    file = cast(BinaryIO, Metered(BytesIO(value), len(value), meter))
    return list(read_sequence(file, element.is_implicit_VR, element.is_little_endian, len(value), "iso8859"))


def raw_bytes(dataset: Dataset, keyword: str) -> tuple[bytes, bool]:
    """Return an attribute's bytes as they lie in the file, and whether they are little endian."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    if not isinstance(element, RawDataElement) or element.value is None:
        return b"", True
    return element.value, element.is_little_endian


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return an attribute's value, None where it is missing; what `Dataset.get` does, at a part of its cost."""
    tag = _tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118  # `in dataset` converts the tag anew
        return None
    raw = dataset.get_item(tag)
    if not isinstance(raw, RawDataElement) or raw.VR not in _PLAIN or len(raw.value or b"") > _SHORT_BYTES:
        return dataset[tag].value
    # The files of a series repeat most of their values, and pydicom's conversion is most of a header's cost.
    key = (raw.VR, raw.value, raw.is_little_endian)
    value = _converted.get(key)
    if value is None:
        if len(_converted) >= _MOST_CONVERTED:
            _converted.clear()
        value = _converted[key] = dataset[tag].value
    return value


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(dataset: Dataset | None, keyword: str) -> str:
    """Return an attribute as text without the blanks around it, "" where it is missing."""
    value = None if dataset is None else value_of(dataset, keyword)
    return "" if value is None else str(value).strip(" \0")


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a text attribute in upper case."""
    value = value_of(dataset, keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    return tuple(str(item).strip(" \0").upper() for item in values)


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return a whole number, or None where it is missing.

    Raises:
        Exception: If whatever pydicom or `int` says about a value that is no number.
    """
    value = value_of(dataset, keyword)
    return None if value in (None, "") else int(cast(Any, value))


def order_number(dataset: Dataset, keyword: str) -> int:
    """Return a number that only orders or groups, 0 where it is missing or nonsense."""
    try:
        return integer(dataset, keyword) or 0
    except Exception:  # what pydicom raises depends on how the value is broken
        return 0


def number_of(places: Sequence[Dataset], keyword: str) -> float | None:
    """Return the number found first in `places`, None where there is none, NaN where it is not one number."""
    found = _find(places, keyword)
    return None if found is None else (found[0] if len(found) == 1 else math.nan)


def numbers_of(places: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the `count` numbers found first in `places`.

    Returns:
        None where there are none, NaN `count` times where they are not `count` numbers.
    """
    found = _find(places, keyword)
    return found if found is None or len(found) == count else (math.nan,) * count


def _find(places: Sequence[Dataset], keyword: str) -> tuple[float, ...] | None:
    for place in places:
        try:
            value = value_of(place, keyword)
            many = hasattr(value, "__len__") and not isinstance(value, str)
            if value is None or value == "" or (many and not len(value)):
                continue
            return tuple(float(item) for item in (value if many else [value]))
        except Exception:  # what pydicom raises depends on how the value is broken
            return ()
    return None
