"""DICOM as untrusted input: which files are DICOM, of which class, and how pydicom reads them in silence.

Reference:
    DICOM PS3.4 B.5 (SOP classes), PS3.5 A.5 (deflated transfer syntax), PS3.10 (file format).
"""

import logging
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import UID

from kerasbalance.data.dicom.limits import InflationAsked, Meter, Metered
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import malformed, open_regular

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
DICOMDIR = "1.2.840.10008.1.3.10"

DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax whose whole data set pydicom inflates, without any limit."""

SYNTAX_OF = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""Transfer syntax by (implicit VR, little endian), for files that do not state it."""

MAX_FILE_BYTES = 2**31
HEAD_BYTES = 2**16
"""The number of bytes that are read at first; nearly every header lies in them."""


def is_dicom(head: bytes) -> bool:
    """Return whether the first bytes of a file are DICOM.

    Args:
        head: At least the first 132 bytes, or all of the file.

    Returns:
        True for the prefix of a DICOM file, and for a data set without one whose first element is of group 2
        or 8 and has a plausible length.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 12:
        return False
    for order in "<>":
        group, element = struct.unpack(order + "HH", head[:4])
        length: int = struct.unpack(order + "I", head[4:8])[0]
        explicit = head[4:6].isalpha() and head[4:6].isupper()
        implicit = group == 8 and order == "<" and length <= 1024
        if group in (2, 8) and element <= 0x18 and (explicit or implicit):
            return True
    return False


@contextmanager
def lenient_pydicom() -> Iterator[None]:
    """Let pydicom read invalid values in silence, because its warnings and its log quote them.

    The settings belong to the process: they hold for other threads as well while the context is open.
    """
    settings, logger = pydicom.config.settings, logging.getLogger("pydicom")
    mode, level = settings.reading_validation_mode, logger.level
    settings.reading_validation_mode = pydicom.config.IGNORE
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode = mode
        logger.setLevel(level)


def known_name(uid: str) -> str:
    """Return the standard's name of a UID, "" where the standard does not know it."""
    name = UID(uid, validation_mode=pydicom.config.IGNORE).name
    return "" if name == uid else str(name)


def read_tags(path: Path, tags: Sequence[str] | None = None) -> FileDataset:
    """Read attributes of a DICOM file by keyword, or all of them; the pixels are left out.

    Raises:
        DataError: If the file is not regular, too large, deflated (`DEFLATED`) or damaged (`MALFORMED`).
    """
    with open_regular(path, max_bytes=MAX_FILE_BYTES) as file:
        return parse(file, path, tags)


def read_up_to(path: Path, last: str) -> FileDataset:
    """Read a DICOM file up to and including one attribute; what follows is not even parsed.

    A segmentation of 17,000 frames has as many nested sequences behind its own attributes, and parsing them
    takes half a minute.

    Args:
        path: The file.
        last: Keyword of the attribute.

    Raises:
        DataError: As `read_tags`.
    """
    with open_regular(path, max_bytes=MAX_FILE_BYTES) as file:
        return parse(file, path, last=last)


def parse(
    file: BinaryIO,
    path: Path,
    tags: Sequence[str] | None = None,
    *,
    pixels: bool = False,
    last: str | None = None,
) -> FileDataset:
    """Let pydicom read an open file, in silence and without inflating it.

    Args:
        file: The file, at its beginning.
        path: Where it lies, for errors.
        tags: The attributes that are wanted, by keyword; None for all of them.
        pixels: Whether the pixels are read too.
        last: Keyword of the last attribute that is read; None for the end of the file.

    Raises:
        DataError: If the file is deflated (`DEFLATED`) or damaged (`MALFORMED`).
    """
    wanted = None if tags is None else list(tags)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with malformed("a DICOM file", path), lenient_pydicom():
        try:
            source = cast(BinaryIO, Metered(file, size, Meter.unlimited()))
            if last is not None:
                end = Tag(last)
                dataset: FileDataset = read_partial(source, lambda tag, *_: tag > end, force=True)
                return dataset
            return pydicom.dcmread(source, stop_before_pixels=not pixels, specific_tags=wanted, force=True)
        except InflationAsked:
            raise deflated(path) from None


def deflated(path: Path, where: str | None = None) -> DataError:
    """Make the error for a file that is deflated as a whole."""
    return DataError(
        "DEFLATED",
        "a DICOM file that is deflated as a whole",
        "any other transfer syntax",
        "convert it first, e.g. with dcmconv +te",
        path=path,
        where=where,
    )
