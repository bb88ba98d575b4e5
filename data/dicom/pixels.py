"""Pixels of a checked series, streamed one image at a time into an int16 volume."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID
from zlib_ng import zlib_ng

from kerasbalance.data.dicom.codestream import RLE, coded_plane, unpack_rle
from kerasbalance.data.dicom.guard import known_name, lenient_pydicom
from kerasbalance.data.dicom.header import Header
from kerasbalance.data.dicom.hounsfield import hounsfield, padding_of, possible_wraps
from kerasbalance.data.dicom.pixel_layout import BIG_ENDIAN
from kerasbalance.data.dicom.series import Series
from kerasbalance.data.dicom.stack import Slice, grid_of, normal_of, read_stored, stored_digest
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.plausibility import HuStack, judge, sample_numbers
from kerasbalance.data.volume.volume import Identity, Volume

_TISSUE_HU = -900
"""Padding that would lie above this value in HU is worth a loud note."""


@dataclass(frozen=True)
class Fingerprint:
    """What the stored pixels and the geometry of a series are known by.

    Args:
        digest: SHA-256 of both. Headers do not count: the same images under other UIDs or in another order of
            files give the same.
        checksums: CRC-32 of the stored bytes of each image.
    """

    digest: str
    checksums: tuple[int, ...]


def fingerprint(series: Series) -> Fingerprint:
    """Hash a series without decoding anything.

    Raises:
        DataError: If the series has a problem, or a file has become unreadable.
    """
    if series.problems:
        raise series.problems[0]
    total = hashlib.sha256(b"dicom-ct")
    origin = series.slices[0].position
    checksums = []
    for item in series.slices:
        stored = read_stored(item)
        offset = np.round(item.position - origin, 3) + 0.0
        total.update(stored_digest(item, stored).encode() + offset.tobytes())
        checksums.append(zlib_ng.crc32(stored))
    return Fingerprint(total.hexdigest(), tuple(checksums))


def read_volume(series: Series, known: Fingerprint | None = None) -> Volume:
    """Decode a series into HU in the canonical orientation.

    Args:
        series: What `scan_folder` found.
        known: What was hashed before; the same bytes must still be there.

    Raises:
        DataError: If the series has a problem, an image cannot be decoded, or a file has changed since it was
            hashed (the file is named).
    """
    if series.problems:
        raise series.problems[0]
    grid = grid_of(series.slices)
    samples = [_sample(series.slices[n]) for n in sample_numbers(grid.shape[0])]
    stack = HuStack(grid.shape, judge(samples, possible_wraps(series.slices[0])))
    for number, item in enumerate(series.slices):
        stored = read_stored(item)
        if known is not None and zlib_ng.crc32(stored) != known.checksums[number]:
            raise item.refused("CHANGING", "a file that changed while it was read", "files at rest",
                               "ingest the case when its files are complete")  # fmt: skip
        raw = decode(stored, item)
        stack.put(number, hounsfield(raw, item), padding_of(raw, item))
    hu, remarks = _finished(stack, series)
    canonical, turned = to_canonical(hu, grid)
    return Volume(
        hu=np.ascontiguousarray(canonical, np.int16),
        grid=turned,
        source_kind="dicom",
        identity=_identity(series, turned),
        tags=_tags(series),
        notes=(*series.notes, *_padding_notes(series), *remarks),
    )


def _sample(item: Slice) -> NDArray[Any]:
    """Return the HU of one image, NaN for declared padding."""
    raw = decode(read_stored(item), item)
    values, padding = hounsfield(raw, item), padding_of(raw, item)
    return values if padding is None else np.where(padding, np.nan, values)


def _finished(stack: HuStack, series: Series) -> tuple[NDArray[np.int16], tuple[Note, ...]]:
    try:
        return stack.finish(series.allow)
    except DataError as error:
        raise error.at(where="the CT series", path=series.folder) from None


def _identity(series: Series, grid: Grid) -> Identity:
    slices = series.slices
    header = slices[0].header
    along = float(normal_of(slices) @ np.cross(grid.column_step_mm, grid.row_step_mm))
    along /= float(np.linalg.norm(grid.column_step_mm) * np.linalg.norm(grid.row_step_mm))
    # Where rows or columns became the slices, no slice of the volume is one image any more.
    ordered = () if abs(along) < 0.5 else slices[:: 1 if along > 0 else -1]
    several = any(item.header is not header for item in ordered)
    return Identity(
        patient_id=header.patient_id,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        frame_of_reference_uid=header.frame_of_reference_uid,
        instance_uids=tuple(item.header.sop_uid for item in ordered) if header.sop_uid else (),
        file_names=tuple(item.header.file.path.name for item in ordered) if several else (),
    )


def _tags(series: Series) -> dict[str, str]:
    header = series.slices[0].header
    syntax = known_name(header.transfer_syntax)
    return {"Modality": header.modality, "SOPClassUID": header.sop_class, "TransferSyntax": syntax}


def _padding_notes(series: Series) -> list[Note]:
    for item in series.slices:
        if item.header.padding is None or item.frame.slope is None or item.frame.intercept is None:
            continue
        value = max(end * item.frame.slope + item.frame.intercept for end in item.header.padding)
        if value > _TISSUE_HU:
            text = f"padding at {value:g} HU was turned into air as the header says"
            return [Note("PADDING", text, loud=True)]
    return []


def decode(stored: bytes, item: Slice) -> NDArray[Any]:
    """Return the stored values of one image, `(rows, columns)`.

    Args:
        stored: Its bytes as they lie in the file.
        item: The image; it has passed `checks.check_values`.

    Raises:
        DataError: If the bytes cannot be decoded into an image of the size that the header states.
    """
    header = item.header
    if header.is_native:
        return _stored_bits(_native(stored, header), header)
    try:
        if len(stored) > 2 * header.frame_bytes + 2**16:
            raise ValueError("stored size")
        if header.transfer_syntax == RLE:
            return _stored_bits(_run_lengths(stored, header), header)
        return _decompressed(stored, header)
    except Exception as error:  # decoders raise anything on corrupt input, with values in their texts
        raise item.refused(
            "UNDECODABLE", f"compressed pixels that cannot be decoded ({type(error).__name__})",
            f"an image of {header.rows} x {header.columns} pixels", "export the file again",
        ) from None  # fmt: skip


def _native(stored: bytes, header: Header) -> NDArray[Any]:
    big = header.transfer_syntax == BIG_ENDIAN
    size = header.bit_shape[0] // 8
    values: NDArray[Any] = np.frombuffer(
        stored, np.dtype(f"{'>' if big else '<'}{'i' if header.signed else 'u'}{size}")
    )
    return values.reshape(header.plane)


def _stored_bits(raw: NDArray[Any], header: Header) -> NDArray[Any]:
    """Drop bits above HighBit and below the lowest stored one; extend the sign."""
    allocated, stored, high = header.bit_shape
    if stored == allocated:
        return raw
    shifted: NDArray[Any] = np.right_shift(np.left_shift(raw, allocated - 1 - high), allocated - stored)
    return shifted


def _run_lengths(stored: bytes, header: Header) -> NDArray[Any]:
    size = header.bit_shape[0] // 8
    values = unpack_rle(
        stored, pixels=header.rows * header.columns, pixel_bytes=size, slack=header.columns - 1
    )
    return values.view(f"{'i' if header.signed else 'u'}{size}").reshape(header.plane)


def _decompressed(stored: bytes, header: Header) -> NDArray[Any]:
    # A decoder allocates what the frame itself states, so that must agree with the header first.
    if coded_plane(stored) != header.plane:
        raise ValueError("coded size")
    allocated, bits, _ = header.bit_shape
    with lenient_pydicom():
        decoded: tuple[NDArray[Any], object] = get_decoder(UID(header.transfer_syntax)).as_array(
            encapsulate([stored], has_bot=False),
            index=0,
            raw=True,
            rows=header.rows,
            columns=header.columns,
            number_of_frames=1,
            samples_per_pixel=1,
            bits_allocated=allocated,
            bits_stored=bits,
            pixel_representation=int(header.signed is True),
            photometric_interpretation="MONOCHROME2",
            pixel_keyword="PixelData",
        )
    if decoded[0].shape != header.plane:
        raise ValueError("size")
    return decoded[0]
