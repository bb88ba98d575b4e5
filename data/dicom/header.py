"""One DICOM header, read with limits and reduced to the few facts that reading CT needs.

Nothing here decodes pixels. A file that is no DICOM raises `NotDicom` and is skipped; a DICOM file that cannot
be understood raises `DataError`. What pydicom says about invalid values is dropped, because it quotes them.

Reference:
    DICOM PS3.10 (file format), PS3.3 C.7.6.2, C.7.6.3, C.8.2.1 (CT Image), C.7.6.16 (multi-frame).
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from kerasbalance.data.dicom.files import SourceFile
from kerasbalance.data.errors import DataError

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")

MAX_SIDE = 8192
MAX_FRAMES = 20_000
MAX_PIXELS = 2**31
MAX_HEADER_BYTES = 64 * 2**20
MAX_HEADER_READS = 400_000

_SYNTAX_OF = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""Transfer syntax by (implicit VR, little endian), for files that do not state it."""

_TAGS = [
    "BitsAllocated", "BitsStored", "BurnedInAnnotation", "Columns", "ConvolutionKernel",
    "FrameOfReferenceUID", "HighBit", "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "InstanceNumber",
    "LossyImageCompression", "Modality", "ModalityLUTSequence", "NumberOfFrames", "PatientID",
    "PerFrameFunctionalGroupsSequence", "PhotometricInterpretation", "PixelPaddingRangeLimit",
    "PixelPaddingValue", "PixelRepresentation", "PixelSpacing", "RescaleIntercept", "RescaleSlope", "Rows",
    "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence", "StudyInstanceUID",
]  # fmt: skip


class NotDicom(Exception):
    """The file is not DICOM; it is skipped and counted."""


@dataclass(frozen=True)
class Frame:
    """Geometry and rescale of one image: a file of a classic series, or one frame of an enhanced one.

    Args:
        index: frame number in its file, from 0.
        position_mm: ImagePositionPatient, or None.
        orientation: ImageOrientationPatient (six direction cosines), or None.
        spacing_mm: PixelSpacing (between rows, between columns), or None.
        slope: RescaleSlope, or None where it is missing.
        intercept: RescaleIntercept, or None where it is missing.
    """

    index: int
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None


@dataclass(frozen=True)
class Header:
    """What reading CT needs to know of one file. Identifiers stay in memory and never reach a store.

    Args:
        file: the file.
        frames: geometry and rescale of each frame.
        pixel_offset: where the PixelData element begins in the file.
        has_modality_lut: whether a ModalityLUTSequence replaces the rescale.
        padding: smallest and largest stored value that means "no pixel", or None.

    The other fields bear the names of their DICOM attributes.
    """

    file: SourceFile
    frames: tuple[Frame, ...]
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    transfer_syntax: str
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    frame_of_reference_uid: str
    kernel: str
    instance_number: int
    rows: int
    columns: int
    samples_per_pixel: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    has_modality_lut: bool
    burned_in: bool
    lossy: bool
    pixel_offset: int

    @property
    def plane(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return self.rows, self.columns

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame where pixels are stored uncompressed."""
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated // 8


@contextmanager
def lenient_pydicom() -> Iterator[None]:
    """Let pydicom read invalid values without a word: its warnings quote them, and they may be names."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode = before


class _Metered:
    """A file that stops answering when a header asks for more than any honest header needs."""

    def __init__(self, file: BinaryIO, source: SourceFile) -> None:
        self._file, self._source = file, source
        self._bytes, self._reads = MAX_HEADER_BYTES, MAX_HEADER_READS
        self.seek, self.tell = file.seek, file.tell
        self.name = ""

    def read(self, size: int = -1) -> bytes:
        self._reads -= 1
        data = self._file.read(min(size, self._bytes + 1) if size >= 0 else self._bytes + 1)
        self._bytes -= len(data)
        if self._bytes < 0 or self._reads < 0:
            raise DataError(
                "TOO_LARGE",
                "a header of more than 64 MiB or 100,000 elements",
                "a CT image's header",
                "leave the file out",
                path=self._source.path,
                where=self._source.where,
            )
        return data


def read_header(source: SourceFile) -> Header:
    """Read one file's header.

    Raises:
        NotDicom: the file has neither the DICOM prefix nor a data set at its very beginning.
        DataError: it is DICOM but malformed, deflated, or declares an absurd size.
    """
    try:
        with source.path.open("rb") as file, lenient_pydicom():
            start = file.read(4096)
            prefixed = start[128:132] == b"DICM"
            if not prefixed and start[:4] not in (
                b"\x08\x00\x00\x00",
                b"\x08\x00\x05\x00",
                b"\x08\x00\x08\x00",
            ):
                raise NotDicom
            syntax = _transfer_syntax(start)
            if syntax in DEFLATED:
                raise _refused(
                    source, "DEFLATED", "a deflated file", "an undeflated transfer syntax",
                    "convert it first, e.g. with dcmconv +te",
                )  # fmt: skip
            file.seek(0)
            metered = cast(BinaryIO, _Metered(file, source))
            dataset = pydicom.dcmread(metered, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
            return _header(source, dataset, file.tell())
    except (NotDicom, DataError):
        raise
    except Exception as error:  # pydicom raises many kinds on malformed input, with values in their texts
        raise malformed(source, type(error).__name__) from None


def _transfer_syntax(start: bytes) -> str:
    # Group 0002 is always Explicit VR Little Endian, so the element can be found before anything is inflated.
    at = start.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return ""
    length = int.from_bytes(start[at + 6 : at + 8], "little")
    return start[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 ")


def _refused(source: SourceFile, code: str, received: str, expected: str, advice: str) -> DataError:
    return DataError(code, received, expected, advice, path=source.path, where=source.where)


def malformed(source: SourceFile, kind: str) -> DataError:
    """Make the error for a DICOM file that cannot be parsed; `kind` is a class name, never a value."""
    return _refused(
        source, "MALFORMED", f"DICOM that cannot be parsed ({kind})", "a complete DICOM file",
        "export the file again or leave it out",
    )  # fmt: skip


def _header(source: SourceFile, dataset: Dataset, pixel_offset: int) -> Header:
    meta = getattr(dataset, "file_meta", None)
    sop_class = _text(dataset, "SOPClassUID") or (_text(meta, "MediaStorageSOPClassUID") if meta else "")
    syntax = _text(meta, "TransferSyntaxUID") if meta else ""
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames = _frames(source, dataset, sop_class) if _text(dataset, "Modality") == "CT" else ()
    signed = _integer(dataset, "PixelRepresentation") == 1
    bits = _integer(dataset, "BitsAllocated")
    return Header(
        file=source,
        frames=frames,
        sop_class=sop_class,
        modality=_text(dataset, "Modality"),
        image_type=tuple(str(v).strip().upper() for v in _values(dataset, "ImageType")),
        transfer_syntax=syntax or _SYNTAX_OF[dataset.original_encoding],
        patient_id=_text(dataset, "PatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID"),
        kernel=_text(dataset, "ConvolutionKernel"),
        instance_number=_integer(dataset, "InstanceNumber"),
        rows=rows,
        columns=columns,
        samples_per_pixel=_integer(dataset, "SamplesPerPixel", 1),
        photometric=_text(dataset, "PhotometricInterpretation"),
        bits_allocated=bits,
        bits_stored=_integer(dataset, "BitsStored", bits),
        high_bit=_integer(dataset, "HighBit", _integer(dataset, "BitsStored", bits) - 1),
        signed=signed,
        padding=_padding(dataset, signed, bits),
        has_modality_lut="ModalityLUTSequence" in dataset,
        burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        lossy=_text(dataset, "LossyImageCompression") == "01",
        pixel_offset=pixel_offset,
    )


def _frames(source: SourceFile, dataset: Dataset, sop_class: str) -> tuple[Frame, ...]:
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    count = _frame_count(source, dataset)
    if max(rows, columns) > MAX_SIDE or count > MAX_FRAMES or rows * columns * count > MAX_PIXELS:
        raise _refused(
            source, "TOO_LARGE", f"an image of {rows} x {columns} pixels in {count} frames",
            f"at most {MAX_SIDE} x {MAX_SIDE} pixels and {MAX_PIXELS} in all", "leave the file out",
        )  # fmt: skip
    enhanced = sop_class in ENHANCED_CT or "PerFrameFunctionalGroupsSequence" in dataset
    return _multi_frames(dataset, count) if enhanced else (_frame(0, [dataset]),)


def _frame_count(source: SourceFile, dataset: Dataset) -> int:
    count = _integer(dataset, "NumberOfFrames", 1)
    groups = len(_values(dataset, "PerFrameFunctionalGroupsSequence"))
    if count < 0 or (groups and groups != count):
        raise malformed(source, "NumberOfFrames")
    return max(count, 1)


def _multi_frames(dataset: Dataset, count: int) -> tuple[Frame, ...]:
    shared = list(_values(dataset, "SharedFunctionalGroupsSequence"))
    per_frame = list(_values(dataset, "PerFrameFunctionalGroupsSequence")) or [Dataset()] * count
    return tuple(_frame(n, [*_groups(own), *_groups(*shared)]) for n, own in enumerate(per_frame))


def _groups(*items: Dataset) -> list[Dataset]:
    """Flatten functional groups: each macro is a sequence of one item that bears the attributes."""
    return [inner for item in items for element in item if element.VR == "SQ" for inner in element.value]


def _frame(index: int, places: Sequence[Dataset]) -> Frame:
    return Frame(
        index,
        _numbers(places, "ImagePositionPatient", 3),
        _numbers(places, "ImageOrientationPatient", 6),
        _numbers(places, "PixelSpacing", 2),
        _number(places, "RescaleSlope"),
        _number(places, "RescaleIntercept"),
    )


def _find(places: Sequence[Dataset], name: str) -> Any:
    return next((value for place in places if (value := place.get(name)) not in (None, "")), None)


def _numbers(places: Sequence[Dataset], name: str, count: int) -> tuple[float, ...] | None:
    value = _find(places, name)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        return None
    return tuple(float(item) for item in value)


def _number(places: Sequence[Dataset], name: str) -> float | None:
    value = _find(places, name)
    if value is None:
        return None
    return float(value) if not hasattr(value, "__len__") or isinstance(value, str) else math.nan


def _text(dataset: Dataset, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip(" \0")


def _values(dataset: Dataset, name: str) -> Sequence[Any]:
    value = dataset.get(name)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else cast(Sequence[Any], value)


def _integer(dataset: Dataset, name: str, default: int = 0) -> int:
    value = dataset.get(name)
    return default if value in (None, "") else int(cast(Any, value))


def _padding(dataset: Dataset, signed: bool, bits: int) -> tuple[int, int] | None:
    value = dataset.get("PixelPaddingValue")
    if value in (None, "") or bits not in (8, 16, 32):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    pair = [int(value), int(value if limit in (None, "") else limit)]
    # The value's VR follows PixelRepresentation; writers that get it wrong store the same bits.
    kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    low, high = sorted(int(np.asarray(v % 2**bits, f"u{bits // 8}").view(kind)) for v in pair)
    return low, high
