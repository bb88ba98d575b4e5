"""Masks stored as a DICOM image series, as 3D-IRCADb has them: 0 and 255, often with Modality CT.

Stored values count: RescaleSlope and MONOCHROME1 mean nothing for labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.files import malformed, too_large
from kerasbalance.data.masks.dicom_files import (
    check_decodable,
    numbers,
    plane_steps,
    read_dicom,
)
from kerasbalance.data.masks.label_map import LabelMap
from kerasbalance.data.masks.mask import Request, check_frame_of_reference
from kerasbalance.data.masks.values import as_labels
from kerasbalance.data.volume.geometry import SAME_POSITION_MM, Array, Grid
from kerasbalance.data.volume.volume import MAX_VOXELS


@dataclass(frozen=True, eq=False)
class _Slice:
    values: NDArray[np.uint16]
    position_mm: Array
    row_step_mm: Array
    column_step_mm: Array
    normal: Array
    series: str
    frame_of_reference: str


def load_series(paths: Sequence[Path], request: Request) -> LabelMap:
    """Read single-frame DICOM images of one series, sorted by position along their normal.

    Args:
        paths: The files, any order.
        request: The CT, whose frame of reference is compared.

    Raises:
        DataError: If there are several series (`AMBIGUOUS`), slices of different size, orientation or spacing, two at
            one position, or no position (`NO_GEOMETRY`), values that are no labels (`LABEL_VALUE`), too large
            (`TOO_LARGE`), another frame of reference, or damaged (`MALFORMED`).
    """
    slices: list[_Slice] = []
    for number, path in enumerate(paths, 1):
        slices.append(_read_slice(path, f"file {number} of {len(paths)}"))
        if len(paths) * slices[0].values.size > MAX_VOXELS:
            raise too_large(f"{len(paths)} images of {slices[0].values.size:,} pixels", "a mask series", path)
    _check_alike(slices)
    normal = slices[0].normal
    slices.sort(key=lambda item: float(item.position_mm @ normal))
    positions = np.array([item.position_mm for item in slices])
    if (np.diff(positions @ normal) < SAME_POSITION_MM).any():
        raise _no_geometry("two mask slices at one position", "one mask in each folder", None)
    notes = check_frame_of_reference(slices[0].frame_of_reference, request)
    shape = (len(slices), *slices[0].values.shape)
    grid = Grid(shape, positions, slices[0].row_step_mm, slices[0].column_step_mm)

    def planes() -> Iterator[NDArray[Any]]:
        return (item.values for item in slices)

    return LabelMap(planes, grid, "dicom-series", notes)


def _read_slice(path: Path, where: str) -> _Slice:
    dataset = read_dicom(path)
    check_decodable(dataset, path)
    if int(dataset.get("NumberOfFrames") or 1) != 1 or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise DataError(
            "MASK_KIND",
            "a multi-frame or colour DICOM image",
            "single-frame grey images, a DICOM SEG or an RTSTRUCT",
            "convert the mask to NIfTI",
            path=path,
            where=where,
        )
    with malformed("the pixels of a DICOM mask", path):
        values = as_labels(pydicom.pixels.pixel_array(dataset, raw=True)).astype(np.uint16)
        uids = str(dataset.get("SeriesInstanceUID") or ""), str(dataset.get("FrameOfReferenceUID") or "")
    try:
        position = numbers(dataset.ImagePositionPatient, 3)
        steps = plane_steps(dataset.ImageOrientationPatient, dataset.PixelSpacing)
    except Exception:
        received = "a DICOM mask without usable position, orientation or spacing"
        raise _no_geometry(
            received, "ImagePositionPatient, ImageOrientationPatient and PixelSpacing", path
        ) from None
    return _Slice(values, position, *steps, *uids)


def _check_alike(slices: Sequence[_Slice]) -> None:
    series = {item.series for item in slices}
    if len(series) > 1:
        raise DataError(
            "AMBIGUOUS",
            f"{len(series)} DICOM series in one mask folder",
            "one",
            "put each mask in a folder of its own, named after its organ",
        )
    first = slices[0]
    for item in slices:
        steps = np.stack([item.row_step_mm, item.column_step_mm])
        same = np.allclose(steps, [first.row_step_mm, first.column_step_mm], atol=1e-5)
        if item.values.shape != first.values.shape or not same:
            raise _no_geometry("mask slices of different size, orientation or spacing", "one grid", None)


def _no_geometry(received: str, expected: str, path: Path | None) -> DataError:
    return DataError("NO_GEOMETRY", received, expected, "convert the mask to NIfTI or DICOM SEG", path=path)
