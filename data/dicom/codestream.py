"""The size that a compressed frame states, which is checked before it is decoded, and run-length code.

Reference:
    ISO/IEC 15444-1 A.5.1 (JPEG 2000 SIZ); ISO/IEC 10918-1 B.2.2 (JPEG SOF); DICOM PS3.5 annex G (RLE).
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

RLE = "1.2.840.10008.1.2.5"
_SIZ = b"\xff\x4f\xff\x51"
_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)
_MAX_MARKERS = 10_000


def coded_plane(frame: bytes) -> tuple[int, int] | None:
    """Return `(rows, columns)` as a JPEG, JPEG-LS or JPEG 2000 frame states them.

    Returns:
        None where the frame is none of these or states no size.
    """
    at = frame.find(_SIZ, 0, 4096)
    if at >= 0 and len(frame) >= at + 24:
        right, bottom, left, top = struct.unpack(">4I", frame[at + 8 : at + 24])
        return bottom - top, right - left
    return _jpeg_plane(frame) if frame[:2] == b"\xff\xd8" else None


def _jpeg_plane(frame: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MAX_MARKERS):
        if len(frame) < at + 9 or frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER) or marker == 0xF7:
            rows, columns = struct.unpack(">HH", frame[at + 5 : at + 9])
            return rows, columns
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def unpack_rle(frame: bytes, *, pixels: int, pixel_bytes: int, slack: int) -> NDArray[Any]:
    """Unpack a run-length encoded frame of one sample a pixel.

    pydicom's decoder unpacks whatever is there and takes segments that are too long; this one stops.

    Args:
        frame: The encoded frame.
        pixels: Rows times columns.
        pixel_bytes: Bytes of a pixel; each has a segment of its own, the most significant first.
        slack: How many bytes too many a segment may have.

    Returns:
        Unsigned integers `(pixels,)`.

    Raises:
        ValueError: If the segments are not as many or as long as the pixels need.
    """
    count, *offsets = struct.unpack("<16I", frame[:64])
    if count != pixel_bytes or min(offsets[:count]) < 64 or offsets[:count] != sorted(offsets[:count]):
        raise ValueError("segments")
    ends = [*offsets[1:count], len(frame)]
    values = np.zeros(pixels, f"u{pixel_bytes}")
    for start, end in zip(offsets, ends, strict=False):
        part = _unpack_segment(frame[start:end], pixels + slack)
        if not pixels <= len(part) <= pixels + slack:
            raise ValueError("segment length")
        # The shift by 8 is undefined for a type of one byte, which has one segment only.
        values = values << 8 if pixel_bytes > 1 else values
        values |= np.frombuffer(part, np.uint8, pixels)
    return values


def _unpack_segment(code: bytes, most: int) -> bytearray:
    unpacked = bytearray()
    at, end = 0, len(code)
    while at < end and len(unpacked) <= most:
        run = code[at]
        if run < 128:
            unpacked += code[at + 1 : at + run + 2]
            at += run + 2
        elif run > 128:
            unpacked += code[at + 1 : at + 2] * (257 - run)
            at += 2
        else:
            at += 1
    return unpacked
