"""The places of the stored bytes of each frame, which are found without reading them.

Reference:
    DICOM PS3.5 section 8 (pixel data) and annex A.4 (encapsulation).
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from kerasbalance.data.dicom.frames import Span

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
BIG_ENDIAN = "1.2.840.10008.1.2.2"

_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD


class BadLayout(Exception):
    """The pixel data do not fit the header: a code, what was received, what was expected."""

    def __init__(self, code: str, received: str, expected: str) -> None:
        super().__init__(code)
        self.code, self.received, self.expected = code, received, expected


@dataclass(frozen=True)
class PixelElement:
    """The head of a PixelData element.

    Args:
        start: Offset of its value in the file.
        length: Bytes of its value as stated, None where the length is undefined (encapsulated).
    """

    start: int
    length: int | None


def read_element(file: BinaryIO, offset: int, *, big_endian: bool) -> PixelElement:
    """Read the head of the PixelData element that begins at `offset`.

    Raises:
        BadLayout: If there is none.
    """
    file.seek(offset)
    head = file.read(12)
    order = ">" if big_endian else "<"
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        raise BadLayout("NO_PIXELS", "no PixelData, or a file that ends before it", "PixelData")
    explicit = head[4:8] in (b"OW\0\0", b"OB\0\0", b"UN\0\0") and len(head) == 12
    length: int = struct.unpack(order + "I", head[8:12] if explicit else head[4:8])[0]
    return PixelElement(offset + (12 if explicit else 8), None if length == _UNDEFINED else length)


def native_spans(
    element: PixelElement, *, size: int, frame_bytes: int, row_bytes: int, count: int
) -> list[Span]:
    """Return where each frame of uncompressed pixel data lies.

    Args:
        element: The element's head.
        size: Bytes of the file.
        frame_bytes: Bytes of one frame.
        row_bytes: Bytes of one row; as much as this at the end counts as padding.
        count: Frames.

    Raises:
        BadLayout: If the element is not as long as its frames.
    """
    wanted = frame_bytes * count
    if element.length is None:
        raise BadLayout(
            "BAD_PIXELS", "encapsulated pixel data", "uncompressed ones, as the transfer syntax says"
        )
    held = min(element.length, size - element.start)
    if held < wanted or held < element.length:
        raise BadLayout("TRUNCATED", f"{held} bytes of pixel data", f"{max(wanted, element.length)} bytes")
    if element.length >= wanted + max(row_bytes, 2):
        raise BadLayout(
            "BAD_PIXELS", f"{element.length} bytes of pixel data", f"{wanted} bytes by Rows and Columns"
        )
    return [(element.start + index * frame_bytes, frame_bytes) for index in range(count)]


def encapsulated_spans(file: BinaryIO, element: PixelElement, *, size: int, count: int) -> list[list[Span]]:
    """Return the pieces of each frame of compressed pixel data.

    Raises:
        BadLayout: If the pieces are cut, malformed, or do not add up to `count` frames.
    """
    if element.length is not None:
        raise BadLayout(
            "BAD_PIXELS",
            "pixel data that are not encapsulated",
            "compressed ones, as the transfer syntax says",
        )
    file.seek(element.start)
    table_bytes = _item(file, size)
    if table_bytes is None or table_bytes % 4 or table_bytes > 4 * count:
        raise BadLayout("BAD_PIXELS", "a bad table of frame offsets", "one offset a frame, or none")
    table = struct.unpack(f"<{table_bytes // 4}I", file.read(table_bytes))
    return _frames(_fragments(file, size, count), table, count)


def _fragments(file: BinaryIO, size: int, count: int) -> list[Span]:
    spans: list[Span] = []
    while (length := _item(file, size)) is not None:
        spans.append((file.tell(), length))
        file.seek(length, 1)
        if len(spans) > 1000 + 100 * count:
            raise BadLayout("TOO_LARGE", "pixel data in countless pieces", "at most 100 pieces a frame")
    return spans


def _item(file: BinaryIO, size: int) -> int | None:
    """Read the head of an item and return its length, None at the end of the sequence."""
    head = file.read(8)
    if len(head) < 8:
        raise BadLayout("TRUNCATED", "compressed pixel data without their end mark", "a complete file")
    group, element, length = struct.unpack("<HHI", head)
    tag = group << 16 | element
    if tag == _DELIMITER:
        return None
    if tag != _ITEM or length == _UNDEFINED:
        raise BadLayout("BAD_PIXELS", "compressed pixel data that are not a sequence of items", "items")
    if file.tell() + length > size:
        raise BadLayout(
            "TRUNCATED", f"{size - file.tell()} of {length} bytes of compressed pixel data", "all of them"
        )
    return int(length)


def _frames(spans: list[Span], table: tuple[int, ...], count: int) -> list[list[Span]]:
    if not spans or len(spans) < count or (len(table) > 1 and len(table) != count):
        raise BadLayout("BAD_PIXELS", f"{len(table) or len(spans)} compressed frames", f"{count}")
    if count == 1:
        return [spans]
    if len(spans) == count:
        return [[span] for span in spans]
    origin = spans[0][0] - 8
    starts = {span[0] - 8 - origin: place for place, span in enumerate(spans)}
    if (
        len(table) != count
        or list(table) != sorted({*table})
        or table[0] != 0
        or not {*table} <= starts.keys()
    ):
        raise BadLayout("BAD_PIXELS", f"{len(spans)} pieces of {count} frames without their offsets",
                        "a piece a frame or a table of offsets")  # fmt: skip
    places = [starts[offset] for offset in table] + [len(spans)]
    return [spans[a:b] for a, b in pairwise(places)]
