"""DICOM SEG: binary, fractional and label-map segmentations.

Frames are placed by their own PlanePosition, never by their order or by the images that they refer to; a
slice without a frame is empty. Frames are decoded one by one, so that a SEG of a hundred segments does not
take a hundred volumes of memory, and files that declare less than the standard asks for can still be read.

Reference:
    DICOM PS3.3 section A.51 (Segmentation IOD) and C.8.20 (Segmentation Series and Image modules).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed, too_large
from kerasbalance.data.labels import SNOMED, known_organ
from kerasbalance.data.masks.dicom_files import (
    check_decodable,
    numbers,
    plane_steps,
    read_dicom,
)
from kerasbalance.data.masks.frame_stack import fill_gaps
from kerasbalance.data.masks.mask import Canvas, Mask, Request, check_frame_of_reference, finish
from kerasbalance.data.masks.names import Selection, Structure, select
from kerasbalance.data.masks.placing import place
from kerasbalance.data.volume.geometry import SAME_POSITION_MM, Array, Grid
from kerasbalance.data.volume.matching import SAME_PLACE
from kerasbalance.data.volume.volume import MAX_VOXELS

SAME_COSINE = 1.5e-4
"""Direction cosines that differ by less are one orientation: less than a tenth of a pixel across 512."""


@dataclass(frozen=True, eq=False)
class _Frames:
    """Where the frames of a SEG lie.

    Args:
        numbers: int64 `(frames,)`: which of the frames of the file they are, from 0.
        positions_mm: float64 `(frames, 3)`.
        segments: int64 `(frames,)`: segment number, -1 in a label map, which holds all of them.
        row_step_mm: float64 `(3,)`.
        column_step_mm: float64 `(3,)`.
        normal: float64 `(3,)`, unit.
    """

    numbers: NDArray[np.int64]
    positions_mm: Array
    segments: NDArray[np.int64]
    row_step_mm: Array
    column_step_mm: Array
    normal: Array


def read_segmentation(path: Path, request: Request) -> Mask:
    """Read the segments that the rules name, or those of known organs, onto the CT's grid.

    Fractional segmentations are cut at half of MaximumFractionalValue. Voxels in several segments go to the
    first-named organ. A file in which a segment has no frame at all marks nothing for it.

    Raises:
        DataError: If the file is damaged (`MALFORMED`), too large (`TOO_LARGE`), without positions (`NO_GEOMETRY`), or
            on another grid (`GEOMETRY`) or frame of reference (`FRAME_OF_REFERENCE`), or if no segment fits the rules
            (`LABEL_NAME`).
    """
    dataset = read_dicom(path)
    check_decodable(dataset, path)
    with malformed("the segment list of a DICOM SEG", path):
        notes = check_frame_of_reference(dataset.get("FrameOfReferenceUID"), request)
        structures = [_structure(item) for item in dataset.SegmentSequence]
    selection = select(structures, request.rules, word="segment")
    frames = _frames(dataset, path, frozenset(selection.organ_of))
    grid, slice_of = _stack(frames, (int(dataset.Rows), int(dataset.Columns)), request.volume.grid)
    canvas = Canvas(grid.shape, selection.organs)
    with malformed("the pixels of a DICOM SEG", path):
        notes += _paint(dataset, frames, slice_of, selection, canvas)
    labels, remarks = place(canvas.labels, grid, request, sparse=True)
    notes += (*canvas.notes(), *remarks)
    return finish(labels, selection.organs, "dicom-seg", notes, canvas.losers)


def own_grid(paths: Sequence[Path]) -> tuple[Grid, str]:
    """Return the grid on which SEGs of one series lie, without their CT, and its FrameOfReferenceUID.

    A SEG need not hold empty slices: those missing between evenly spaced frames are filled in, and one is
    added at either end, so that nothing looks cut off.

    Args:
        paths: One SEG or several.

    Raises:
        DataError: As `read_segmentation`; also if the SEGs, or what one says of its slice spacing, do not
            agree (code `NO_GEOMETRY`): the CT is needed then.
    """
    datasets = [read_dicom(path) for path in paths]
    parts = [_frames(dataset, path) for dataset, path in zip(datasets, paths, strict=True)]
    first, plane = parts[0], (int(datasets[0].Rows), int(datasets[0].Columns))
    for dataset, part in zip(datasets, parts, strict=True):
        ours = np.stack([first.row_step_mm, first.column_step_mm])
        theirs = np.stack([part.row_step_mm, part.column_step_mm])
        if plane != (int(dataset.Rows), int(dataset.Columns)) or not np.allclose(ours, theirs, atol=1e-5):
            raise _needs_ct("SEGs of different size, orientation or spacing")
    positions = np.concatenate([part.positions_mm for part in parts])
    segments, numbers = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("segments", "numbers")
    )
    whole = replace(first, positions_mm=positions, segments=segments, numbers=numbers)
    grid, _ = _stack(whole, plane, Grid((len(positions), *plane), positions, *ours))
    _check_step(datasets, grid)
    return _widen(grid), str(datasets[0].get("FrameOfReferenceUID") or "")


def _check_step(datasets: Sequence[pydicom.Dataset], grid: Grid) -> None:
    if not grid.is_regular:
        raise _needs_ct("SEG frames that are not evenly spaced")
    for dataset in datasets:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        measures = (shared.get("PixelMeasuresSequence") or [pydicom.Dataset()])[0]
        stated = measures.get("SpacingBetweenSlices")
        if stated and grid.shape[0] > 1 and abs(abs(float(stated)) - grid.spacing_mm[0]) > SAME_POSITION_MM:
            raise _needs_ct(f"SEG frames {grid.spacing_mm[0]:.4g} mm apart on slices {stated:.4g} mm apart")


def _needs_ct(received: str) -> DataError:
    return DataError("NO_GEOMETRY", received, "evenly spaced frames of one series", "name the CT with --ct")


def _widen(grid: Grid) -> Grid:
    if grid.shape[0] < 2:
        return grid
    matrix = grid.affine()
    matrix[:3, 3] -= matrix[:3, 2]
    return Grid.from_affine((grid.shape[0] + 2, *grid.shape[1:]), matrix)


def _structure(item: pydicom.Dataset) -> Structure:
    codes = item.get("SegmentedPropertyTypeCodeSequence") or [pydicom.Dataset()]
    value = str(codes[0].get("CodeValue", ""))
    organ = SNOMED.get(value) or known_organ(str(codes[0].get("CodeMeaning", "")))
    return Structure(int(item.SegmentNumber), str(item.get("SegmentLabel", "")), organ)


def _frames(dataset: pydicom.Dataset, path: Path, wanted: frozenset[int] = frozenset()) -> _Frames:
    """Read the position of each frame of the wanted segments, which are few among thousands in large archives.

    Args:
        dataset: The SEG.
        path: Its file, for errors.
        wanted: Numbers of segments; all frames are read if none of them has a frame.

    Raises:
        DataError: If there is not one item for each declared frame (`MALFORMED`), or a frame has no position
            (`NO_GEOMETRY`).
    """
    with malformed("the frame list of a DICOM SEG", path):
        items = dataset.get("PerFrameFunctionalGroupsSequence") or []
        if len(items) != int(dataset.get("NumberOfFrames") or 1):
            raise ValueError("frames and functional groups differ in number")
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        is_map = dataset.SegmentationType == "LABELMAP"
        segments = np.array([-1 if is_map else _segment_of(item, shared) for item in items], np.int64)
    chosen = np.flatnonzero(is_map | np.isin(segments, list(wanted)))
    chosen = chosen if len(chosen) else np.arange(len(items))
    items = [items[n] for n in chosen]
    try:
        measures = _group(items[0], shared, "PixelMeasuresSequence").PixelSpacing
        cosines = [_group(i, shared, "PlaneOrientationSequence").ImageOrientationPatient for i in items]
        places = [_group(i, shared, "PlanePositionSequence").ImagePositionPatient for i in items]
        if np.ptp([numbers(cosine, 6) for cosine in cosines], axis=0).max() > SAME_COSINE:
            raise ValueError("several orientations")
        steps = plane_steps(cosines[0], measures)
        positions = np.array([numbers(place, 3) for place in places])
    except Exception:
        raise DataError(
            "NO_GEOMETRY",
            "a DICOM SEG whose frames have no usable position, orientation or spacing",
            "PlanePosition, one PlaneOrientation and PixelMeasures",
            "export the segmentation with its geometry",
            path=path,
        ) from None
    return _Frames(chosen, positions, segments[chosen], *steps)


def _group(item: pydicom.Dataset, shared: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    found: pydicom.Dataset = (item if keyword in item else shared)[keyword].value[0]
    return found


def _segment_of(item: pydicom.Dataset, shared: pydicom.Dataset) -> int:
    return int(_group(item, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _stack(frames: _Frames, plane: tuple[int, int], target: Grid) -> tuple[Grid, NDArray[np.int64]]:
    """Arrange the frames' positions as slices, with empty slices where evenly spaced frames are missing.

    Returns:
        The grid, and the slice number of each frame.
    """
    depth = frames.positions_mm @ frames.normal
    order = np.argsort(depth, kind="stable")
    near_mm = SAME_PLACE * min(target.spacing_mm[1:])
    starts = np.concatenate([[True], np.diff(depth[order]) > near_mm])
    slice_of = np.empty(len(depth), np.int64)
    slice_of[order] = np.cumsum(starts) - 1
    positions = frames.positions_mm[order][starts]
    apart = np.linalg.norm(positions[slice_of] - frames.positions_mm, axis=1).max()
    if apart > 2 * near_mm:
        raise DataError(
            "NO_GEOMETRY",
            f"frames of one slice that lie {apart:.3g} mm apart",
            "one position for each slice",
            "export the segmentation on the CT's grid",
        )
    positions, new_number = fill_gaps(positions, frames.normal, target)
    if len(positions) * plane[0] * plane[1] > MAX_VOXELS:
        raise too_large(
            f"a segmentation of {len(positions)} x {plane[0]} x {plane[1]}", f"{MAX_VOXELS:,} voxels", None
        )
    grid = Grid((len(positions), *plane), positions, frames.row_step_mm, frames.column_step_mm)
    return grid, new_number[slice_of]


def _paint(
    dataset: pydicom.Dataset,
    frames: _Frames,
    slice_of: NDArray[np.int64],
    selection: Selection,
    canvas: Canvas,
) -> tuple[Note, ...]:
    wanted = [n for n, s in enumerate(frames.segments) if s < 0 or int(s) in selection.organ_of]
    if not wanted:
        return ()
    fractional = dataset.SegmentationType == "FRACTIONAL"
    cut = int(dataset.MaximumFractionalValue) / 2 if fractional else 0.5
    pixels = _pixels(dataset, [int(frames.numbers[n]) for n in wanted])
    for number, frame in zip(wanted, pixels, strict=True):
        _paint_frame(frame, int(frames.segments[number]), int(slice_of[number]), cut, selection, canvas)
    if not fractional:
        return ()
    return (Note("FRACTIONAL", "a fractional segmentation was cut at half of its maximum"),)


def _pixels(dataset: pydicom.Dataset, wanted: list[int]) -> Iterator[NDArray[Any]]:
    """Yield the wanted frames `(rows, columns)`.

    Frames of single bits follow each other without padding; pydicom 3.0.2 fails on some of those that do not
    begin at a byte.
    """
    shape = int(dataset.Rows), int(dataset.Columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    if int(dataset.BitsAllocated) != 1 or syntax.is_encapsulated:
        yield from pydicom.pixels.iter_pixels(dataset, raw=True, indices=wanted)
        return
    if syntax == ExplicitVRBigEndian:
        raise ValueError("the bit order of big-endian bits is not settled")
    packed, size = np.frombuffer(dataset.PixelData, np.uint8), shape[0] * shape[1]
    for number in wanted:
        first, begin = divmod(number * size, 8)
        bits = np.unpackbits(packed[first : first + size // 8 + 2], bitorder="little")
        yield bits[begin : begin + size].reshape(shape)


def _paint_frame(
    frame: NDArray[Any], segment: int, slice_number: int, cut: float, selection: Selection, canvas: Canvas
) -> None:
    if segment >= 0:
        canvas.paint(slice_number, selection.organ_of[segment], frame >= cut)
        return
    for value in np.unique(frame):
        if int(value) in selection.organ_of:
            canvas.paint(slice_number, selection.organ_of[int(value)], frame == value)
