"""DICOM files as untrusted input: bounded, silent, and with no exception but `DataError`."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import UID

from kerasbalance.data.dicom.guard import MAX_FILE_BYTES, SYNTAX_OF, parse
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import malformed, read_regular, too_large
from kerasbalance.data.volume.geometry import Array

MAX_FRAME_PIXELS = 2**26


def read_dicom(path: Path) -> pydicom.Dataset:
    """Read a whole DICOM file, with or without preamble.

    Raises:
        DataError: If it is not regular, too large, deflated as a whole (`DEFLATED`), or damaged (`MALFORMED`).
    """
    dataset = parse(BytesIO(read_regular(path, max_bytes=MAX_FILE_BYTES)), path, pixels=True)
    with malformed("a DICOM file", path):
        if not len(dataset):
            raise ValueError("empty")
        if not dataset.file_meta.get("TransferSyntaxUID"):  # a data set alone, without the header of a file
            dataset.file_meta.TransferSyntaxUID = UID(SYNTAX_OF[dataset.original_encoding])
    return dataset


def check_decodable(dataset: pydicom.Dataset, path: Path) -> None:
    """Refuse, before any pixel is decoded, absurd sizes and transfer syntaxes without a decoder.

    Raises:
        DataError: If the image is too large (`TOO_LARGE`), if there is no decoder (`NO_DECODER`), or if there are no
            pixels (`MALFORMED`).
    """
    with malformed("a DICOM image header", path):
        pixels = int(dataset.Rows) * int(dataset.Columns)
        if pixels < 1 or "PixelData" not in dataset:
            raise ValueError("no pixels")
        syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
        available = not syntax.is_encapsulated or pydicom.pixels.get_decoder(syntax).is_available
    if pixels > MAX_FRAME_PIXELS:
        raise too_large(
            f"a frame of {dataset.Rows} x {dataset.Columns}", f"at most {MAX_FRAME_PIXELS:,} pixels", path
        )
    if not available:
        raise DataError(
            "NO_DECODER",
            f"pixels in transfer syntax {syntax.name}",
            "one that an installed decoder reads",
            "pip install python-gdcm pylibjpeg pylibjpeg-openjpeg",
            path=path,
        )


def numbers(value: Any, count: int) -> Array:
    """Return a multi-valued decimal string as finite float64 `(count,)`.

    Raises:
        ValueError: If there is another count of numbers, or one is NaN or infinite.
    """
    result = np.array([float(v) for v in value], float)
    if result.shape != (count,) or not np.isfinite(result).all():
        raise ValueError("not that many finite numbers")
    return result


def plane_steps(orientation: Any, spacing: Any) -> tuple[Array, Array, Array]:
    """Return `(row step, column step, unit normal)` from ImageOrientationPatient and PixelSpacing.

    Raises:
        ValueError: If they are not finite or not two perpendicular unit vectors, or a spacing is not positive.

    Reference:
        DICOM PS3.3 section C.7.6.2.1.1.
    """
    cosines, (between_rows, between_columns) = numbers(orientation, 6), numbers(spacing, 2)
    along_row, along_column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if not np.allclose(lengths, 1, atol=1e-2) or abs(along_row @ along_column) > 1e-2:
        raise ValueError("no orientation")
    if not (1e-3 < between_rows < 1e3 and 1e-3 < between_columns < 1e3):
        raise ValueError("no spacing")
    normal = np.cross(along_row, along_column)
    return along_column * between_rows, along_row * between_columns, normal / np.linalg.norm(normal)
