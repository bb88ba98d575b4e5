"""The limits on what one file may ask for, and a file object that enforces them while pydicom parses."""

import sys
from typing import BinaryIO

MAX_FRAMES = 20_000
MAX_EXPANSION = 50
EXPANSION_FREE_BYTES = 2**28
"""A series may decode to `MAX_EXPANSION` times its stored bytes; up to 256 MiB are not checked."""

MAX_HEADER_BYTES = 64 * 2**20
MAX_VALUE_BYTES = 2**16

MAX_READS = 200_000
BYTES_A_READ = 400
"""A header may take `MAX_READS` reads, and one more for every so many bytes of the file (multi-frame files)."""


class HeaderTooLarge(Exception):
    """The header asks for more than any honest header needs."""


class InflationAsked(Exception):
    """The whole rest of the file was asked for, which pydicom only does in order to inflate it."""


class PastHead(Exception):
    """More was asked for than the beginning of a file."""


class Meter:
    """The rest of a file's allowance, which is shared by the file and the sequences in it.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self.bytes = MAX_HEADER_BYTES
        self.reads = MAX_READS + size // BYTES_A_READ

    @classmethod
    def unlimited(cls) -> "Meter":
        """Return a meter that never runs out, for files of a limited size that are read whole."""
        meter = cls(0)
        meter.bytes = meter.reads = sys.maxsize
        return meter


class Metered:
    """A binary file that stops answering once its meter has run out.

    Args:
        file: What is read.
        size: Its bytes; a read of more than there are must not allocate them.
        meter: The allowance, used up in place.
        is_head: Whether `file` holds only the beginning of a larger one.
    """

    name = ""

    def __init__(self, file: BinaryIO, size: int, meter: Meter, *, is_head: bool = False) -> None:
        self._file, self._size, self._meter, self._is_head = file, size, meter, is_head
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes.

        Raises:
            InflationAsked: If no size is given.
            HeaderTooLarge: If the allowance is used up.
            PastHead: If the beginning of the file has not as many bytes.
        """
        if size < 0:
            raise InflationAsked
        meter = self._meter
        if size > MAX_VALUE_BYTES:
            size = min(size, meter.bytes + 1, max(self._size - self.tell(), 0))
        data = self._file.read(size)
        if self._is_head and len(data) < size:
            raise PastHead
        meter.reads -= 1
        meter.bytes -= len(data)
        if meter.bytes < 0 or meter.reads < 0:
            raise HeaderTooLarge
        return data
