"""Whether a DICOM SEG or RTSTRUCT can refer to the headers of a CT series, and the headers that it refers to.

What a series lacks is found before a model runs. Nothing is invented unless it was asked for: an archive
links them to their images by their UIDs, and minted ones link to nothing.

Reference:
    DICOM PS3.3 sections A.51 (Segmentation IOD), A.19 (RT Structure Set IOD) and C.7.6.16
    (Multi-frame Functional Groups).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from kerasbalance.data.dicom import Series, fingerprint
from kerasbalance.data.dicom.guard import CT_IMAGE, ENHANCED_CT
from kerasbalance.data.dicom.header import Header
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.export.attributes import LOSSY, PATIENT_AND_STUDY, read_attributes

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_FIELDS: dict[str, Callable[[Header], str]] = {
    "StudyInstanceUID": lambda header: header.study_uid,
    "SeriesInstanceUID": lambda header: header.series_uid,
    "FrameOfReferenceUID": lambda header: header.frame_of_reference_uid,
    "SOPInstanceUID": lambda header: header.sop_uid,
    "SOPClassUID": lambda header: header.sop_class,
}
_CLASSES = (CT_IMAGE, *ENHANCED_CT)


def check_exportable(series: Series, *, mend: bool = False) -> tuple[Note, ...]:
    """Check that a DICOM SEG or RTSTRUCT of a series can be written; reads one header, no pixels.

    Args:
        series: The CT, as `scan_folder` found it.
        mend: Mint UIDs that are missing or invalid, always the same for the same pixels, and leave invalid
            values out, instead of refusing.

    Returns:
        A loud note for what `mend` has to do; nothing for a sound series.

    Raises:
        DataError: If the series has a problem of its own; or its headers lack UIDs or hold invalid values (code
            `NOT_EXPORTABLE`, lists all of them by keyword, never by value); or it is spread over several
            studies or several multi-frame files, which one file cannot refer to.
    """
    return SourceHeaders(series, mend).notes


@dataclass(frozen=True)
class SourceHeaders:
    """The headers of a series, checked and, where that was asked for, mended.

    Args:
        series: The CT.
        mend: See `check_exportable`.

    Raises:
        DataError: As `check_exportable`.
    """

    series: Series
    mend: bool = False

    def __post_init__(self) -> None:
        if self.series.problems:
            raise self.series.problems[0]
        self._check_unity()
        if self._faults and not self.mend:
            raise self._refused(
                f"headers with {self._faults}",
                "valid UIDs and values",
                "export the series again, write NIfTI instead, or let the headers be mended (minted UIDs do not "
                "link the file to these images in an archive)",
            )

    @property
    def notes(self) -> tuple[Note, ...]:
        """A loud note on what was mended."""
        if not self._faults:
            return ()
        text = f"the file has minted UIDs or blanks in place of {self._faults}; its geometry is unaffected"
        return (Note("MENDED_HEADERS", text, loud=True),)

    @property
    def attributes(self) -> dict[str, str]:
        """Valid values by keyword, see `read_attributes`."""
        return self._read[0]

    @property
    def is_multi_frame(self) -> bool:
        """Whether the series is one enhanced file."""
        return self.series.slices[0].header.sop_class in ENHANCED_CT

    @cached_property
    def images(self) -> list[Dataset]:
        """Headers in the order of the series' slices; of an enhanced file a single one with all its frames.

        They hold what an export needs and nothing else. Orientation and spacing are those of the first slice,
        since the series was checked to have one of each.
        """
        if self.is_multi_frame:
            return [self._enhanced_image()]
        return [self._image(number) for number in range(len(self.series.slices))]

    def uid(self, keyword: str, number: int = 0) -> str:
        """Return a UID of one slice, minted where it is missing or invalid."""
        found = _FIELDS[keyword](self.series.slices[number].header)
        if _is_sound(keyword, found):
            return found
        if keyword == "SOPClassUID":
            return CT_IMAGE
        own = (str(number),) if keyword == "SOPInstanceUID" else ()
        return str(generate_uid(entropy_srcs=["kerasbalance", keyword, self._digest, *own]))

    @cached_property
    def _digest(self) -> str:
        return fingerprint(self.series).digest

    @cached_property
    def _read(self) -> tuple[dict[str, str], tuple[str, ...]]:
        return read_attributes(self.series.slices[0].header.file.path)

    @cached_property
    def _faults(self) -> str:
        headers = [item.header for item in self.series.slices]
        listed = []
        for keyword, field in _FIELDS.items():
            count = sum(not _is_sound(keyword, field(header)) for header in headers)
            if count:
                listed.append(f"a missing or invalid {keyword} ({count} of {len(headers)} images)")
        return ", ".join([*listed, *(f"an invalid {keyword}" for keyword in self._read[1])])

    def _check_unity(self) -> None:
        headers = {id(item.header): item.header for item in self.series.slices}.values()
        several = {
            "studies": len({header.study_uid for header in headers}),
            "series": len({header.series_uid for header in headers}),
            "multi-frame files": len([h for h in headers if h.sop_class in ENHANCED_CT or len(h.frames) > 1]),
        }
        for what, count in several.items():
            if count > 1:
                raise self._refused(
                    f"images of {count} {what}", "one for a DICOM file to refer to", "write NIfTI instead"
                )

    def _refused(self, received: str, expected: str, advice: str) -> DataError:
        folder = self.series.folder
        return DataError("NOT_EXPORTABLE", received, expected, advice, path=folder, where="the CT series")

    def _common(self, number: int) -> Dataset:
        header = self.series.slices[number].header
        image = Dataset()
        for keyword in _FIELDS:
            setattr(image, keyword, self.uid(keyword, number))
        for keyword in PATIENT_AND_STUDY:
            setattr(image, keyword, self.attributes[keyword])
        for keyword in LOSSY if header.lossy else ():
            setattr(image, keyword, self.attributes[keyword].split("\\"))
        image.Modality, image.SpecificCharacterSet = "CT", "ISO_IR 192"
        image.Rows, image.Columns = header.plane
        return image

    def _image(self, number: int) -> Dataset:
        image = self._common(number)
        first, own = self.series.slices[0].frame, self.series.slices[number].frame
        image.ImagePositionPatient = _decimals(own.position_mm)
        image.ImageOrientationPatient = _decimals(first.orientation)
        image.PixelSpacing = _decimals(first.spacing_mm)
        image.SliceThickness = self._thickness()
        return image

    def _enhanced_image(self) -> Dataset:
        image = self._common(0)
        first, frames = self.series.slices[0].frame, self.series.slices[0].header.frames
        image.NumberOfFrames = len(frames)
        shared, orientation, measures = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient = _decimals(first.orientation)
        measures.PixelSpacing, measures.SliceThickness = _decimals(first.spacing_mm), self._thickness()
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        image.SharedFunctionalGroupsSequence = [shared]
        image.PerFrameFunctionalGroupsSequence = [_plane_position(f.position_mm) for f in frames]
        return image

    def _thickness(self) -> DSfloat:
        """Return the distance of slices, which many viewers take SliceThickness for; a lone slice's own."""
        if len(self.series.slices) > 1:
            return DSfloat(grid_of(self.series.slices).spacing_mm[0], auto_format=True)
        stated = self.attributes["SliceThickness"]
        return DSfloat(float(stated) if stated and float(stated) > 0 else 1.0, auto_format=True)


def _is_sound(keyword: str, value: str) -> bool:
    if keyword == "SOPClassUID":
        return value in _CLASSES
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def _plane_position(position_mm: tuple[float, ...] | None) -> Dataset:
    group, plane = Dataset(), Dataset()
    plane.ImagePositionPatient = _decimals(position_mm)
    group.PlanePositionSequence = [plane]
    return group


def _decimals(values: tuple[float, ...] | None) -> list[DSfloat]:
    return [DSfloat(value, auto_format=True) for value in values or ()]
