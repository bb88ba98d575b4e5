"""RTSTRUCT: contours drawn on slices, filled on the CT's grid.

Reference:
    DICOM PS3.3 sections C.8.8.5 (Structure Set) and C.8.8.6 (ROI Contour).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed, too_large
from kerasbalance.data.labels import SNOMED
from kerasbalance.data.masks.contours import Combined, combine
from kerasbalance.data.masks.dicom_files import read_dicom
from kerasbalance.data.masks.mask import Canvas, Mask, Request, check_frame_of_reference, finish
from kerasbalance.data.masks.names import Selection, Structure, select
from kerasbalance.data.masks.polygons import fill_even_odd
from kerasbalance.data.volume.geometry import Array, Grid

MAX_CONTOURS = 200_000
MAX_POINTS = 20_000_000
SAME_PLANE = 0.1
"""Contours of one slice lie on one plane if their depths differ by less than this share of the spacing."""
SINGLE_SLICE_MM = 1.0
"""How far from a lone slice, whose spacing is unknown, a contour may lie."""

_EXCLUSIVE = "CLOSEDPLANARXOR"
_CLOSED = ("", "CLOSEDPLANAR", "INTERPOLATEDPLANAR", _EXCLUSIVE)
"""Closed contours, in capitals and without underscores; writers differ in both, and some state no type."""
_OPEN = {"POINT": "single points", "OPENPLANAR": "open contours", "OPENNONPLANAR": "open contours"}
_DEGENERATE = ("contours of fewer than three points", "contours of an unknown type")


@dataclass(frozen=True, eq=False)
class _Contour:
    """One closed contour.

    Args:
        points: float64 `(points, 3)`, LPS mm.
        is_exclusive: Whether its type is CLOSEDPLANAR_XOR.
    """

    points: Array
    is_exclusive: bool


def read_rtstruct(path: Path, request: Request) -> Mask:
    """Fill the contours of the ROIs that the rules name, or of known organs, on the CT's grid.

    The points go through the grid's own steps without rounding, so oblique and flipped stacks come out right.
    Contours of one ROI on one slice combine as `contours.combine` describes (holes, crossings), or by the
    even-odd rule if one of them is CLOSEDPLANAR_XOR; several ROIs of one organ unite. A contour belongs to the
    nearest slice within half a spacing along the normal; where contours were drawn on finer planes than the
    CT's, the nearest plane of each slice is used.

    Raises:
        DataError: If the file is damaged or has coordinates that are not finite (`MALFORMED`), if it is too large
            (`TOO_LARGE`), not on this CT's slices (`GEOMETRY`, `FRAME_OF_REFERENCE`), or has no ROI for the rules
            (`LABEL_NAME`).
    """
    dataset = read_dicom(path)
    with malformed("the ROI list of an RTSTRUCT", path):
        structures = _structures(dataset)
    selection = select(structures, request.rules, word="ROI")
    with malformed("the frame of reference of an RTSTRUCT", path):
        frames = _frames_of_reference(dataset, selection)
    checked = [note for uid in sorted(frames) for note in check_frame_of_reference(uid, request)]
    notes = tuple(dict.fromkeys(checked))
    canvas = Canvas(request.volume.grid.shape, selection.organs)
    count: Counter[str] = Counter()
    for number, contours in _selected_contours(dataset, selection, count, path):
        _fill_roi(contours, request.volume.grid, canvas, selection.organ_of[number], count)
    _check_inside(count)
    notes += (*_remarks(count), *canvas.notes())
    return finish(canvas.labels, selection.organs, "rtstruct", notes, canvas.losers)


def _structures(dataset: pydicom.Dataset) -> list[Structure]:
    codes = {}
    for item in dataset.get("RTROIObservationsSequence") or []:
        for code in item.get("RTROIIdentificationCodeSequence") or []:
            codes[int(item.ReferencedROINumber)] = SNOMED.get(str(code.get("CodeValue", "")))
    return [
        Structure(int(item.ROINumber), str(item.get("ROIName", "")), codes.get(int(item.ROINumber)))
        for item in dataset.StructureSetROISequence
    ]


def _frames_of_reference(dataset: pydicom.Dataset, selection: Selection) -> set[str]:
    """Return the frames that the selected ROIs refer to; the list of references may be missing."""
    own = {
        str(item.get("ReferencedFrameOfReferenceUID") or "")
        for item in dataset.StructureSetROISequence
        if int(item.ROINumber) in selection.organ_of
    } - {""}
    listed = dataset.get("ReferencedFrameOfReferenceSequence") or []
    return own or {str(item.get("FrameOfReferenceUID") or "") for item in listed[:1]}


def _selected_contours(
    dataset: pydicom.Dataset, selection: Selection, count: Counter[str], path: Path
) -> Iterator[tuple[int, list[_Contour]]]:
    """Yield the number and the closed contours of each selected ROI."""
    for roi in dataset.get("ROIContourSequence") or []:
        with malformed("the contours of an RTSTRUCT", path):
            number = int(roi.ReferencedROINumber)
            contours = list(_closed(roi, count)) if number in selection.organ_of else []
        if contours:
            yield number, contours


def _closed(roi: pydicom.Dataset, count: Counter[str]) -> Iterator[_Contour]:
    for contour in roi.get("ContourSequence") or []:
        count["contours"] += 1
        if count["contours"] > MAX_CONTOURS:
            raise too_large(f"more than {MAX_CONTOURS:,} contours", "fewer", None)
        points = _points(contour)
        count["points"] += len(points)
        if count["points"] > MAX_POINTS:
            raise too_large(f"more than {MAX_POINTS:,} contour points", "fewer", None)
        kind = (
            str(contour.get("ContourGeometricType") or "").strip().upper().replace("_", "").replace(" ", "")
        )
        if kind not in _CLOSED:
            count[_OPEN.get(kind, _DEGENERATE[1])] += 1
        elif len(points) < 3:
            count[_DEGENERATE[0]] += 1
        else:
            yield _Contour(points, kind == _EXCLUSIVE)


def _points(contour: pydicom.Dataset) -> Array:
    """Read ContourData from its raw bytes: pydicom's own decimal strings take a hundred times as long."""
    element = contour.get_item("ContourData")
    raw = None if element is None else element.value
    if not raw:
        return np.empty((0, 3))
    texts = raw.rstrip(b" \0").split(b"\\") if isinstance(raw, bytes) else raw
    values = np.fromiter((float(text) for text in texts), float)
    if not np.isfinite(values).all():
        raise DataError(
            "MALFORMED",
            "contour coordinates that are NaN or infinite",
            "numbers in millimetres",
            "export the RTSTRUCT again",
        )
    return values.reshape(-1, 3)


def _fill_roi(contours: list[_Contour], grid: Grid, canvas: Canvas, organ: int, count: Counter[str]) -> None:
    on_slice = _by_slice(contours, grid, count)
    steps = np.stack([grid.row_step_mm, grid.column_step_mm])
    to_pixel = np.linalg.pinv(steps)
    limits = np.array(grid.shape[1:]) - 0.5
    for number, drawn in on_slice.items():
        polygons = [(contour.points - grid.positions_mm[number]) @ to_pixel for contour in drawn]
        count["clipped"] += sum(bool((p < -0.5).any() or (p > limits).any()) for p in polygons)
        is_exclusive = any(contour.is_exclusive for contour in drawn)
        shape = grid.shape[1:]
        found = Combined(fill_even_odd(polygons, shape)) if is_exclusive else combine(polygons, shape)
        count["crossing"] += found.crossing
        count["repeated"] += found.repeated
        canvas.paint(number, organ, found.inside)
    if on_slice:
        count["gaps"] += max(on_slice) - min(on_slice) + 1 - len(on_slice)


def _by_slice(contours: list[_Contour], grid: Grid, count: Counter[str]) -> dict[int, list[_Contour]]:
    """Assign contours to slices; of several planes near one slice only the nearest counts."""
    between = grid.spacing_mm[0] if grid.shape[0] > 1 else 2 * SINGLE_SLICE_MM
    found: dict[int, list[tuple[float, _Contour]]] = {}
    for contour in contours:
        depth = (contour.points - grid.positions_mm[0]) @ grid.normal
        if np.ptp(depth) > between:
            raise _not_parallel(float(np.ptp(depth)))
        number, offset = _nearest(float(depth.mean()), grid.depth_mm)
        if abs(offset) > 0.5 * between * (1 + 1e-6):
            count["outside"] += 1
        else:
            found.setdefault(number, []).append((offset, contour))
    chosen = {}
    for number, planes in found.items():
        best = min((offset for offset, _ in planes), key=abs)
        chosen[number] = [own for offset, own in planes if abs(offset - best) <= SAME_PLANE * between]
        count["planes"] += len(planes) - len(chosen[number])
        count["used"] += len(chosen[number])
    return chosen


def _nearest(depth: float, slices: Array) -> tuple[int, float]:
    number = int(np.abs(slices - depth).argmin())
    return number, depth - float(slices[number])


def _not_parallel(drift: float) -> DataError:
    return DataError(
        "GEOMETRY",
        f"a contour that leaves its slice by {drift:.3g} mm",
        "contours drawn on the CT's slices",
        "check that the RTSTRUCT belongs to this CT",
    )


def _check_inside(count: Counter[str]) -> None:
    if count["outside"] and not count["used"]:
        raise DataError(
            "GEOMETRY",
            f"{count['outside']} contours, none of them on a slice of the CT",
            "contours within half a spacing of the slices",
            "check that the RTSTRUCT belongs to this CT",
        )


def _remarks(count: Counter[str]) -> Iterator[Note]:
    said = {
        "outside": ("OUTSIDE", "contours lie on no slice of the CT and were left out", True),
        "clipped": ("CLIPPED", "contours reach beyond the CT's edge and were cut there", False),
        "crossing": (
            "CROSSING",
            "contours cross another one of their ROI and slice; they were united, so check them",
            True,
        ),
        "repeated": ("REPEATED", "contours repeat another one of their ROI and slice and count once", False),
        "planes": ("PLANES", "contours lie between slices whose own contours are nearer; left out", False),
        "gaps": ("CONTOUR_GAP", "slices inside a ROI have no contour and count as background", True),
    }
    for key, (code, text, loud) in said.items():
        if count[key]:
            yield Note(code, f"{count[key]} {text}", loud)
    for cause in dict.fromkeys([*_OPEN.values(), *_DEGENERATE]):
        if count[cause]:
            yield Note("OPEN_CONTOUR", f"{count[cause]} {cause} enclose nothing and were left out", loud=True)
