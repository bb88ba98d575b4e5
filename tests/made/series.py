"""Makes small CT series as DICOM files, right or wrong in one chosen way, with known Hounsfield units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.volume import Volume

AXIAL = (1, 0, 0, 0, 1, 0)
PATIENT = "DOE^JANE-0734129"
STUDY, SERIES, FRAME = "1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3"
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

Edit = Callable[[Dataset, int], None]


@dataclass(frozen=True)
class Made:
    """A series on disk.

    Args:
        folder: where it lies.
        files: its files, in the order of their slices.
        stored: stored values `(slices, rows, columns)`, towards growing depth.
        hu: the right answer, int16, same shape.
    """

    folder: Path
    files: list[Path]
    stored: np.ndarray
    hu: np.ndarray


def make_series(
    folder: Path,
    *,
    slices: int = 12,
    size: int | tuple[int, int] = 32,
    stored: np.ndarray | None = None,
    step_mm: float = 2.5,
    spacing_mm: tuple[float, float] = (0.8, 0.8),
    origin_mm: Sequence[float] = (-100.0, -120.0, 50.0),
    cosines: Sequence[float] = AXIAL,
    aside_mm: Sequence[float] = (0.0, 0.0, 0.0),
    slope: float | Sequence[float] = 1,
    intercept: float | Sequence[float] = -1024,
    bits: int = 16,
    bits_stored: int | None = None,
    high_bit: int | None = None,
    signed: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    series: str = SERIES,
    name: str | Callable[[int], str] = "IM{:04d}.dcm",
    edit: Edit | None = None,
    edits: dict[int, Edit] | None = None,
    seed: int = 0,
) -> Made:
    """Write a classic series, one file a slice.

    Args:
        folder: where to; made if it is not there.
        slices: how many.
        size: rows and columns, or both the same.
        stored: stored values `(slices, rows, columns)`; random ones by default.
        step_mm: distance of slices along the normal.
        spacing_mm: PixelSpacing.
        origin_mm: ImagePositionPatient of the first slice.
        cosines: ImageOrientationPatient.
        aside_mm: what is added to each next position besides the step along the normal (tilt).
        slope: RescaleSlope, for all slices or for each.
        intercept: RescaleIntercept, likewise.
        bits: BitsAllocated.
        bits_stored: BitsStored, by default all.
        high_bit: HighBit, by default just above the stored bits; a higher one shifts the values up.
        signed: PixelRepresentation.
        syntax: TransferSyntaxUID; RLE, JPEG 2000 and JPEG-LS are encoded.
        series: SeriesInstanceUID; the SOPInstanceUIDs begin with it.
        name: file name of a slice, from its number.
        edit: called with every data set and its slice number just before writing.
        edits: the same for single slices, by number.
        seed: for the random values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = (size, size) if isinstance(size, int) else size
    kept = bits_stored or bits
    if stored is None:
        stored = random_values((slices, rows, columns), kept, signed=signed, seed=seed)
    normal = np.cross(cosines[:3], cosines[3:])
    slopes, intercepts = np.broadcast_to(slope, slices), np.broadcast_to(intercept, slices)
    files, names = [], name.format if isinstance(name, str) else name
    for n in range(slices):
        position = np.add(origin_mm, n * (step_mm * normal + aside_mm))
        dataset = ct_dataset(f"{series}.{n + 1}", series=series, number=n + 1)
        _add_geometry(dataset, position, cosines, spacing_mm)
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(slopes[n]), _decimal(intercepts[n])
        add_pixels(
            dataset, stored[n], bits=bits, bits_stored=kept, high_bit=high_bit, signed=signed, syntax=syntax
        )
        for change in (edit, (edits or {}).get(n)):
            if change is not None:
                with _careless():
                    change(dataset, n)
        files.append(folder / names(n))
        write(dataset, files[-1])
    scaled = stored * slopes[:, None, None] + intercepts[:, None, None]
    hu = np.clip(np.rint(scaled), -1024, 32767).astype(np.int16)
    return Made(folder, files, stored, hu)


def make_enhanced(
    folder: Path,
    *,
    order: Sequence[int] = (0, 1, 2, 3, 4),
    size: int = 32,
    slopes: Sequence[float] | None = None,
    sop_class: str = EnhancedCTImageStorage,
    syntax: str = ExplicitVRLittleEndian,
    name: str = "enhanced.dcm",
    edit: Callable[[Dataset], None] | None = None,
    seed: int = 0,
) -> Made:
    """Write one multi-frame file with shared and per-frame functional groups.

    Args:
        folder: where to.
        order: for each frame, which slice it is.
        size: rows and columns.
        slopes: RescaleSlope of each slice; by default 1, in the shared groups.
        sop_class: Enhanced CT, or Legacy Converted Enhanced CT.
        syntax: TransferSyntaxUID, native or RLE.
        name: file name.
        edit: called with the data set just before writing.
        seed: for the random values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(order)
    stored = random_values((count, size, size), 16, signed=False, seed=seed)
    dataset = ct_dataset(f"{SERIES}.1", number=1)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.NumberOfFrames = count
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.8], 3
    orientation.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    if slopes is None:
        shared.PixelValueTransformationSequence = [_transformation(1)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place in order:
        position, own = Dataset(), Dataset()
        position.ImagePositionPatient = [-100, -120, 50 + 2.5 * place]
        own.PlanePositionSequence = [position]
        if slopes is not None:
            own.PixelValueTransformationSequence = [_transformation(slopes[place])]
        groups.append(own)
    dataset.PerFrameFunctionalGroupsSequence = groups
    add_pixels(dataset, stored[list(order)], bits=16, bits_stored=16, syntax=syntax)
    if edit is not None:
        with _careless():
            edit(dataset)
    path = folder / name
    write(dataset, path)
    factor = np.ones(count) if slopes is None else np.asarray(slopes, float)
    hu = np.clip(np.rint(stored * factor[:, None, None] - 1024), -1024, 32767).astype(np.int16)
    return Made(folder, [path], stored, hu)


def random_values(shape: tuple[int, ...], bits: int, *, signed: bool, seed: int) -> np.ndarray:
    """Draw stored values that fit the bits and look like CT after an intercept of -1024 (or 0 if signed)."""
    low, high = (
        (-min(1000, 2 ** (bits - 1)), min(2000, 2 ** (bits - 1))) if signed else (0, min(3000, 2**bits))
    )
    kind = np.dtype(f"{'i' if signed else 'u'}{8 if bits > 32 else 4 if bits > 16 else 2 if bits > 8 else 1}")
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def ct_dataset(instance: str, *, series: str = SERIES, number: int = 1, patient: str = PATIENT) -> Dataset:
    """Make the header of a CT image without geometry and pixels."""
    dataset = Dataset()
    dataset.preamble, dataset.file_meta = b"\0" * 128, FileMetaDataset()
    dataset.file_meta.FileMetaInformationGroupLength = 0
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = instance
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality, dataset.PatientID, dataset.ConvolutionKernel = "CT", patient, "B30f"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, series, FRAME
    dataset.InstanceNumber, dataset.SliceThickness = number, 5
    dataset.RescaleType = "HU"
    return dataset


def add_pixels(
    dataset: Dataset,
    stored: np.ndarray,
    *,
    bits: int = 16,
    bits_stored: int = 16,
    high_bit: int | None = None,
    signed: bool = False,
    syntax: str = ExplicitVRLittleEndian,
) -> None:
    """Put stored values `(rows, columns)` or `(frames, rows, columns)` into a data set."""
    high = bits_stored - 1 if high_bit is None else high_bit
    dataset.file_meta.TransferSyntaxUID = syntax if syntax in NATIVE else ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits_stored, high
    dataset.PixelRepresentation = int(signed)
    words = (stored.astype(np.int64) << (high + 1 - bits_stored)) & (2 ** (high + 1) - 1)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = words.astype(f"{order}u{bits // 8}").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"
    if syntax not in NATIVE:
        dataset.compress(syntax, generate_instance_uid=False)


def write(dataset: Dataset, path: Path) -> None:
    """Write a data set, however invalid, in its transfer syntax."""
    syntax = dataset.file_meta.TransferSyntaxUID
    with _careless():
        dataset.save_as(
            path,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            enforce_file_format=False,
        )


def rewrite(path: Path, change: Callable[[Dataset], None]) -> None:
    """Read a file, change it and write it back."""
    dataset = pydicom.dcmread(path)
    with _careless():
        change(dataset)
    write(dataset, path)


def set_text(dataset: Dataset, keyword: str, value: str) -> None:
    """Give an attribute a text that its VR forbids."""
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value.encode(), 0, False, True)


def lut_item(first: int, values: Sequence[int], *, bits: int = 16, signed: bool = False) -> Dataset:
    """Make the item of a ModalityLUTSequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(values), first, bits])
    item.ModalityLUTType = "HU"
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    return item


def rle_frame(segments: Sequence[bytes]) -> bytes:
    """Put run-length encoded segments behind their header."""
    offsets = np.zeros(16, "<u4")
    offsets[0] = len(segments)
    offsets[1 : len(segments) + 1] = 64 + np.cumsum([0, *(len(s) for s in segments[:-1])])
    return offsets.tobytes() + b"".join(segments)


def set_rle(dataset: Dataset, *frames: bytes) -> None:
    """Give a data set run-length encoded frames."""
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = pydicom.encaps.encapsulate(list(frames))
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


def _add_geometry(
    dataset: Dataset, position: np.ndarray, cosines: Sequence[float], spacing: tuple[float, float]
) -> None:
    dataset.ImagePositionPatient = [_decimal(value) for value in position]
    dataset.ImageOrientationPatient = [_decimal(value) for value in cosines]
    dataset.PixelSpacing = [_decimal(value) for value in spacing]


def _transformation(slope: float) -> Dataset:
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, -1024, "HU"
    return item


def _decimal(value: float) -> str:
    return f"{float(value):.10g}"


def read(source: Path, *allow: str, number: int | None = None) -> Volume:
    """Read the one series of a folder, whose made values need not include those of air."""
    return read_volume(choose_series(scan_folder(source, frozenset({*allow, "no-air"})), number))


def refusal(source: Path, *allow: str) -> DataError:
    """Return the error that reading a folder ends in, having checked that it tells no secrets."""
    with pytest.raises(DataError) as caught:
        read(source, *allow)
    error = caught.value
    message = str(error)
    names = [path.name for path in (source, *source.rglob("*")) if path.is_file() and len(path.name) > 3]
    for secret in (str(source), PATIENT, "DOE", "1.2.826", "2.25.", *names):
        assert secret not in message
    assert error.expected
    assert error.advice
    assert message.startswith(error.code + ": ")
    return error


class _careless:
    """Let pydicom write what it would rather refuse."""

    def __enter__(self) -> None:
        settings = pydicom.config.settings
        self._modes = settings.reading_validation_mode, settings.writing_validation_mode
        settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE

    def __exit__(self, *_: object) -> None:
        settings = pydicom.config.settings
        settings.reading_validation_mode, settings.writing_validation_mode = self._modes
