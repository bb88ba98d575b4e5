"""Pixels of a checked series, streamed one image at a time into int16 Hounsfield units.

Every image has its own rescale; the arithmetic is exact (float64, or integers where slope and intercept are
whole numbers). Padding becomes air. MONOCHROME1 is not inverted: photometric interpretation concerns display,
not the modality values (DICOM PS3.3 C.7.6.3.1.2, C.11.1; padding: C.7.5.1.1.2).
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, iter_pixels

from kerasbalance.data.dicom.checks import is_native, known_name
from kerasbalance.data.dicom.header import Header, lenient_pydicom, malformed
from kerasbalance.data.dicom.scan import Series
from kerasbalance.data.dicom.stack import Slice, grid_of, stored_digest
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.geometry import to_canonical
from kerasbalance.data.volume import AIR_HU, Identity, Volume

_TISSUE_HU = -900
"""Padding that would lie above this value in HU is worth a loud note."""


def source_digest(series: Series) -> str:
    """Return the SHA-256 of a series' stored pixels and geometry, without decoding anything.

    Headers do not count: the same images under other UIDs or in another order of files give the same digest.
    """
    digest = hashlib.sha256(b"dicom-ct")
    origin = series.slices[0].position
    for item in series.slices:
        offset = np.round(item.position - origin, 3) + 0.0
        digest.update(stored_digest(item).encode() + offset.tobytes())
    return digest.hexdigest()


def read_volume(series: Series) -> Volume:
    """Decode a series into HU in the canonical orientation.

    Raises:
        DataError: the series has a problem, or an image cannot be decoded (the file is named).
    """
    if series.problems:
        raise series.problems[0]
    grid = grid_of(series.slices)
    hu = np.empty(grid.shape, np.int16)
    for row, raw in zip(hu, _decoded(series.slices), strict=True):
        row[:] = raw
    canonical, grid = to_canonical(hu, grid)
    return Volume(
        hu=np.ascontiguousarray(canonical, np.int16),
        grid=grid,
        source_kind="dicom",
        identity=_identity(series, grid.positions_mm[0]),
        source_digest=source_digest(series),
        tags=_tags(series),
        notes=(*series.notes, *_padding_notes(series)),
    )


def _identity(series: Series, first_position: NDArray[np.float64]) -> Identity:
    slices = series.slices
    if np.linalg.norm(slices[-1].position - first_position) < np.linalg.norm(
        slices[0].position - first_position
    ):
        slices = slices[::-1]
    header = slices[0].header
    return Identity(
        patient_id=header.patient_id,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        frame_of_reference_uid=header.frame_of_reference_uid,
        instance_uids=tuple(item.header.sop_uid for item in slices),
        file_names=tuple(item.header.file.path.name for item in slices),
    )


def _tags(series: Series) -> dict[str, str]:
    header = series.slices[0].header
    syntax = known_name(pydicom.uid.UID(header.transfer_syntax))
    return {"Modality": header.modality, "SOPClassUID": header.sop_class, "TransferSyntax": syntax}


def _padding_notes(series: Series) -> list[Note]:
    for item in series.slices:
        if item.header.padding is None or item.frame.slope is None or item.frame.intercept is None:
            continue
        value = max(item.header.padding) * item.frame.slope + item.frame.intercept
        if value > _TISSUE_HU:
            return [
                Note("PADDING", f"padding at {value:g} HU was turned into air as the header says", loud=True)
            ]
    return []


def _decoded(slices: tuple[Slice, ...]) -> Iterator[NDArray[np.int16]]:
    stack: Iterator[NDArray[Any]] | None = None
    source: Header | None = None
    for number, item in enumerate(slices):
        if item.header is not source or stack is None:
            source = item.header
            run = [other.frame.index for other in slices[number:] if other.header is source]
            stack = _frames(source, run)
        try:
            raw = next(stack)
        except DataError:
            raise
        except Exception as error:  # decoders raise anything on corrupt input
            raise malformed(source.file, type(error).__name__) from None
        yield hounsfield(raw, item)


def _frames(header: Header, indices: list[int]) -> Iterator[NDArray[Any]]:
    """Yield the stored values of the given frames, one at a time."""
    if is_native(header) and header.bits_allocated == 16 and header.transfer_syntax != "1.2.840.10008.1.2.2":
        yield from _native_frames(header, indices)
        return
    with lenient_pydicom():
        dataset = pydicom.dcmread(header.file.path, force=True)
        if getattr(dataset, "file_meta", None) is None or "TransferSyntaxUID" not in dataset.file_meta:
            dataset.ensure_file_meta()
            dataset.file_meta.TransferSyntaxUID = header.transfer_syntax
        for frame in iter_pixels(dataset, raw=True, indices=indices):
            if frame.shape != header.plane:
                raise ValueError("size")
            yield frame


def _native_frames(header: Header, indices: list[int]) -> Iterator[NDArray[Any]]:
    # Uncompressed little endian needs no decoder: the header pass already found the element and its length.
    implicit = header.transfer_syntax == "1.2.840.10008.1.2"
    start = header.pixel_offset + (8 if implicit else 12)
    with header.file.path.open("rb") as file:
        for index in indices:
            file.seek(start + index * header.frame_bytes)
            raw = np.frombuffer(file.read(header.frame_bytes), "<u2")
            if raw.size != header.rows * header.columns:
                raise malformed(header.file, "TruncatedPixelData")
            yield _stored_bits(raw.reshape(header.plane), header)


def _stored_bits(raw: NDArray[np.uint16], header: Header) -> NDArray[Any]:
    """Drop bits above HighBit and below the lowest stored one; extend the sign."""
    values = raw.view(np.int16) if header.signed else raw
    unused = 15 - header.high_bit
    shift = 16 - header.bits_stored
    if shift == 0:
        return values
    return np.right_shift(np.left_shift(values, unused), shift)


def hounsfield(raw: NDArray[Any], item: Slice) -> NDArray[np.int16]:
    """Turn the stored values of one image into int16 HU: rescale, padding to air, nothing below `AIR_HU`.

    Args:
        raw: stored values, `(rows, columns)`.
        item: the image they belong to.
    """
    slope, intercept = item.frame.slope, item.frame.intercept
    if item.header.has_modality_lut:
        with lenient_pydicom():
            dataset = pydicom.dcmread(item.header.file.path, stop_before_pixels=True, force=True)
        values = np.rint(apply_modality_lut(raw, dataset))
    elif slope is None or intercept is None:
        raise ValueError("rescale")
    elif float(slope).is_integer() and float(intercept).is_integer() and abs(slope) < 2**14:
        values = np.multiply(raw, int(slope), dtype=np.int64 if abs(slope) > 1 else np.int32)
        values += int(intercept)
    else:
        values = np.rint(raw * slope + intercept)
    hu: NDArray[np.int16] = np.clip(values, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
    if item.header.padding is not None:
        low, high = item.header.padding
        hu[(raw >= low) & (raw <= high)] = AIR_HU
    return hu
