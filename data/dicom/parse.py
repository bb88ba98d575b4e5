"""One DICOM header, read with limits and reduced to the few facts that reading CT needs.

Nothing here decodes pixels. A file that is no DICOM raises `NotDicom` and is skipped; a DICOM file that
cannot be understood raises `DataError`. What pydicom says about invalid values is dropped, because it quotes
them.

Reference:
    DICOM PS3.10 (file format), PS3.3 C.7.6.3 (Image Pixel), C.8.2.1 (CT Image), C.11.1 (Modality LUT).
"""

import os
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from kerasbalance.data.dicom.attributes import check_lengths, integer, order_number, text, texts
from kerasbalance.data.dicom.frames import Span, classic_frame, multi_frames
from kerasbalance.data.dicom.guard import (
    DEFLATED,
    ENHANCED_CT,
    HEAD_BYTES,
    SYNTAX_OF,
    deflated,
    is_dicom,
    known_name,
    lenient_pydicom,
)
from kerasbalance.data.dicom.header import (
    MODALITIES,
    Header,
    malformed,
    refused,
    unreadable,
)
from kerasbalance.data.dicom.limits import (
    MAX_FRAMES,
    HeaderTooLarge,
    InflationAsked,
    Meter,
    Metered,
    PastHead,
)
from kerasbalance.data.dicom.modality_values import modality_lut, padding_range
from kerasbalance.data.dicom.pixel_layout import (
    BIG_ENDIAN,
    BadLayout,
    encapsulated_spans,
    native_spans,
    read_element,
)
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import SourceFile
from kerasbalance.data.volume.volume import MAX_SIDE, MAX_VOXELS

DEFLATING = (DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")

_TAGS = [Tag(keyword) for keyword in (
    "AcquisitionNumber", "BitsAllocated", "BitsStored", "BurnedInAnnotation", "Columns", "ConvolutionKernel",
    "FrameOfReferenceUID", "HighBit", "ImageOrientationPatient", "ImagePositionPatient", "ImageType",
    "InstanceNumber", "LossyImageCompression", "Modality", "ModalityLUTSequence", "NumberOfFrames", "PatientID",
    "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation", "PixelPaddingRangeLimit",
    "PixelPaddingValue", "PixelRepresentation", "PixelSpacing", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "Rows", "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence", "StudyInstanceUID",
)]  # fmt: skip


class NotDicom(Exception):
    """The file is not DICOM; it is skipped and counted."""


def read_header(source: SourceFile) -> Header:
    """Read one file's header.

    Raises:
        NotDicom: If the file has neither the DICOM prefix nor a data set at its very beginning.
        DataError: If it is DICOM but malformed, deflated, or declares an absurd size.
    """
    try:
        with source.path.open("rb") as file, lenient_pydicom():
            head = file.read(HEAD_BYTES)
            if not is_dicom(head):
                raise NotDicom
            return _read(source, file, head)
    except (NotDicom, DataError):
        raise
    except InflationAsked:
        raise deflated(source.path, source.where) from None
    except HeaderTooLarge:
        raise refused(
            source, "TOO_LARGE", "a header with too many elements or too long values", "a CT image's header",
            "leave the file out",
        ) from None  # fmt: skip
    except OSError as error:
        if error.errno is None:  # pydicom raises bare OSErrors about malformed sequences
            raise malformed(source, type(error).__name__) from None
        raise unreadable(source, error) from None
    except Exception as error:  # pydicom raises many kinds on malformed input, with values in their texts
        raise malformed(source, type(error).__name__) from None


def _read(source: SourceFile, file: BinaryIO, head: bytes) -> Header:
    size = os.fstat(file.fileno()).st_size
    try:
        # Memory answers pydicom's many small reads and questions for the place without the system.
        dataset, offset, meter = _parse(BytesIO(head), size, is_head=len(head) < size)
    except PastHead:
        file.seek(0)
        dataset, offset, meter = _parse(file, size)
    check_lengths(dataset)
    header = _facts(source, dataset)
    if header.transfer_syntax in DEFLATING:
        raise deflated(source.path, source.where)
    if header.modality not in MODALITIES and not known_name(header.sop_class):
        raise malformed(source, "neither a known Modality nor a known SOPClassUID")
    if not header.is_ct:
        return header
    header = _with_values(header, dataset, meter)
    return _with_pixels(header, file, offset, size)


def _parse(file: BinaryIO, size: int, *, is_head: bool = False) -> tuple[FileDataset, int, Meter]:
    meter = Meter(size)
    metered = cast(BinaryIO, Metered(file, size, meter, is_head=is_head))
    dataset = pydicom.dcmread(metered, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
    return dataset, file.tell(), meter


def _facts(source: SourceFile, dataset: Dataset) -> Header:
    meta = dataset.file_meta
    stored = integer(dataset, "BitsStored") or 0
    high = integer(dataset, "HighBit")
    sign = integer(dataset, "PixelRepresentation")
    syntax = text(meta, "TransferSyntaxUID")
    return Header(
        file=source,
        sop_class=text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID"),
        modality=text(dataset, "Modality"),
        image_type=texts(dataset, "ImageType"),
        transfer_syntax=syntax or SYNTAX_OF[dataset.original_encoding],
        patient_id=text(dataset, "PatientID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        sop_uid=text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        kernel=text(dataset, "ConvolutionKernel"),
        rescale_type=text(dataset, "RescaleType").upper(),
        instance_number=order_number(dataset, "InstanceNumber"),
        acquisition_number=order_number(dataset, "AcquisitionNumber"),
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        samples_per_pixel=integer(dataset, "SamplesPerPixel") or 1,
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        bit_shape=(integer(dataset, "BitsAllocated") or 0, stored, stored - 1 if high is None else high),
        signed=None if sign not in (0, 1) else sign == 1,
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        lossy=text(dataset, "LossyImageCompression") == "01" or syntax in ALWAYS_LOSSY,
    )


def _with_values(header: Header, dataset: Dataset, meter: Meter) -> Header:
    """Add the frames and what turns stored values into HU."""
    stated = integer(dataset, "NumberOfFrames")
    count = 1 if stated is None else stated
    if (
        max(header.plane) > MAX_SIDE
        or count > MAX_FRAMES
        or header.rows * header.columns * count > MAX_VOXELS
    ):
        raise refused(
            header.file, "TOO_LARGE", f"an image of {header.rows} x {header.columns} pixels in {count} frames",
            f"at most {MAX_SIDE} x {MAX_SIDE} pixels and {MAX_VOXELS} in all", "leave the file out",
        )  # fmt: skip
    if count < 1:
        raise malformed(header.file, "NumberOfFrames")
    enhanced = header.sop_class in ENHANCED_CT or "PerFrameFunctionalGroupsSequence" in dataset
    frames = multi_frames(dataset, count, meter) if enhanced else (classic_frame(dataset),)
    signed, bits = header.signed is True, header.bit_shape[0]
    header = replace(
        header,
        frames=frames,
        padding=padding_range(dataset, signed=signed, bits=bits),
        modality_lut=modality_lut(dataset, meter, signed=signed),
    )
    if count == len(frames):
        return header
    return _with_fault(
        header, "FRAMES", f"{count} frames without a position each", "one image in a classic file"
    )


def _with_fault(header: Header, code: str, received: str, expected: str) -> Header:
    fault = refused(header.file, code, received, expected, "export or copy the file again")
    return replace(header, faults=(*header.faults, fault))


def _with_pixels(header: Header, file: BinaryIO, offset: int, size: int) -> Header:
    """Add where the stored bytes of each frame lie, or what is wrong with them."""
    count = len(header.frames)
    try:
        element = read_element(file, offset, big_endian=header.transfer_syntax == BIG_ENDIAN)
        if header.is_native:
            row_bytes = header.frame_bytes // max(header.rows, 1)
            plain = native_spans(
                element, size=size, frame_bytes=header.frame_bytes, row_bytes=row_bytes, count=count
            )
            spans: list[list[Span]] = [[span] for span in plain]
        else:
            spans = encapsulated_spans(file, element, size=size, count=count)
    except BadLayout as bad:
        if bad.code == "NO_PIXELS":
            # The header may be cut anywhere, so it is unknown which series lacks this slice.
            raise refused(
                header.file, bad.code, bad.received, bad.expected, "export or copy the file again"
            ) from None
        return _with_fault(header, bad.code, bad.received, bad.expected)
    frames = tuple(replace(frame, spans=tuple(own)) for frame, own in zip(header.frames, spans, strict=True))
    return replace(header, frames=frames)
