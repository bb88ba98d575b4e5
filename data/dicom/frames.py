"""Geometry and rescale of each image in a file: one in a classic file, many in an enhanced one.

Reference:
    DICOM PS3.3 C.7.6.2 (Image Plane), C.8.2.1 (CT Image), C.7.6.16 (Multi-frame Functional Groups).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from kerasbalance.data.dicom.attributes import items_of, number_of, numbers_of
from kerasbalance.data.dicom.limits import Meter

Span = tuple[int, int]

_MACROS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One image: a file of a classic series, or one frame of an enhanced one.

    Args:
        index: Frame number in its file, from 0.
        position_mm: ImagePositionPatient, or None.
        orientation: ImageOrientationPatient (six direction cosines), or None.
        spacing_mm: PixelSpacing (between rows, between columns), or None.
        slope: RescaleSlope, or None where it is missing.
        intercept: RescaleIntercept, or None where it is missing.
        spans: Where its stored bytes lie in the file: (offset, length) of each piece.
    """

    index: int
    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    spans: tuple[Span, ...] = ()


def classic_frame(dataset: Dataset) -> Frame:
    """Read the one image of a classic file."""
    return _frame(0, [dataset])


def multi_frames(dataset: Dataset, count: int, meter: Meter) -> tuple[Frame, ...]:
    """Read the functional groups of an enhanced file; what a frame does not say itself, the shared groups say.

    Raises:
        ValueError: If there are groups for another number of frames.
    """
    shared = _macros(items_of(dataset, "SharedFunctionalGroupsSequence", meter), meter)
    per_frame = items_of(dataset, "PerFrameFunctionalGroupsSequence", meter)
    if per_frame and len(per_frame) != count:
        raise ValueError("frames")
    own = [_macros([groups], meter) for groups in per_frame] or [[]] * count
    return tuple(_frame(index, [*macros, *shared]) for index, macros in enumerate(own))


def _macros(groups: Sequence[Dataset], meter: Meter) -> list[Dataset]:
    # Only the macros that define the geometry and the rescale: private and "unassigned" groups may hold stale copies.
    return [item for group in groups for macro in _MACROS for item in items_of(group, macro, meter)]


def _frame(index: int, places: Sequence[Dataset]) -> Frame:
    return Frame(
        index,
        numbers_of(places, "ImagePositionPatient", 3),
        numbers_of(places, "ImageOrientationPatient", 6),
        numbers_of(places, "PixelSpacing", 2),
        number_of(places, "RescaleSlope"),
        number_of(places, "RescaleIntercept"),
    )
