"""How good predicted masks are: case by case, slice by slice, and over all cases.

One policy for what is empty. A slice: both empty scores a Dice of 1, a false positive on an empty slice 0, as
in loss and mining. A case: an organ that is absent from both masks has no metric (NaN), is counted, and is
excluded from the averages. An organ that is only in one of them has a Dice, an IoU, an NSD and a volume similarity of
0 and infinite distances. Its sensitivity is 0 and its precision NaN where it was missed; where it was invented, the
precision is 0 and the sensitivity NaN.

References:
    Zhang et al., Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825 (case Dice; mean and SD, minimum,
    maximum). Kavur et al., Medical Image Analysis 69:101950, 2021, doi 10.1016/j.media.2020.101950 (relative
    absolute volume difference, average and maximum symmetric surface distance). Taha and Hanbury, BMC Medical
    Imaging 15:29, 2015, doi 10.1186/s12880-015-0068-x (sensitivity, precision, Jaccard index, volumetric similarity).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.surface import TOLERANCE_MM, Mask, surface_metrics, union_box
from kerasbalance.mining.counts import dice_from_counts

Labels = NDArray[np.uint8]

METRICS = {
    "dice": False,
    "iou": False,
    "sensitivity": False,
    "precision": False,
    "hd95_mm": True,
    "nsd": False,
    "assd_mm": True,
    "mssd_mm": True,
    "ravd_percent": True,
    "volume_similarity": False,
}
"""The metrics that are summarised, in the order of tables, and whether a large value is a bad one."""


@dataclass(frozen=True)
class CaseMetrics:
    """One organ of one case.

    Beside the values that it holds, it derives `iou`, `sensitivity`, `precision` and `volume_similarity` from them;
    `as_row` returns them all.

    Args:
        case: The case's name, as the caller gave it.
        organ: The organ's name.
        dice: `2 * shared / (prediction + reference)` of the voxels of the whole case; NaN where `absent`.
        hd95_mm: See `surface.surface_metrics`; as the other three, NaN where `absent`.
        nsd: Normalised surface Dice, by default at 2 mm.
        assd_mm: Average symmetric surface distance.
        mssd_mm: Maximum symmetric surface distance; NaN also where version 0.1 evaluated the case.
        ravd_percent: `100 * |prediction - reference| / reference`, from the volumes; infinite where only the
            reference is empty, NaN where `absent`.
        reference_ml: Volume of the reference; NaN where the slice spacing is unknown.
        prediction_ml: Volume of the prediction, likewise.
        reference_voxels: Voxels of the reference.
        prediction_voxels: Voxels of the prediction.
        shared_voxels: Voxels of both.
        slices: Slices of the case.
        empty_slices: Slices without a voxel of the reference.
        false_positive_slices: Of these, the slices with a voxel of the prediction.
        missed_slices: Slices with a voxel of the reference and none of the prediction.
    """

    case: str
    organ: str
    dice: float
    hd95_mm: float
    nsd: float
    assd_mm: float
    mssd_mm: float
    ravd_percent: float
    reference_ml: float
    prediction_ml: float
    reference_voxels: int
    prediction_voxels: int
    shared_voxels: int
    slices: int
    empty_slices: int
    false_positive_slices: int
    missed_slices: int

    @property
    def absent(self) -> bool:
        """Whether the organ is in neither mask."""
        return not self.reference_voxels and not self.prediction_voxels

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index), `shared / (prediction + reference - shared)`."""
        return _share(self.shared_voxels, self.prediction_voxels + self.reference_voxels - self.shared_voxels)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found (recall), `shared / reference`; NaN where the reference is empty."""
        return _share(self.shared_voxels, self.reference_voxels)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right, `shared / prediction`; NaN where the prediction is empty."""
        return _share(self.shared_voxels, self.prediction_voxels)

    @property
    def volume_similarity(self) -> float:
        """Volumetric similarity, `1 - |prediction - reference| / (prediction + reference)`, from the volumes.

        It is 1 for equal volumes, wherever they lie, and 0 where one mask is empty. SimpleITK's `GetVolumeSimilarity`
        is another figure, twice the signed quotient.
        """
        volumes = self.prediction_ml, self.reference_ml
        if math.isnan(sum(volumes)):  # a lone slice without a spacing
            volumes = float(self.prediction_voxels), float(self.reference_voxels)
        return 1 - _share(abs(volumes[0] - volumes[1]), sum(volumes))

    def as_row(self) -> dict[str, Any]:
        """Return all values by name, in the order of tables, the derived ones included."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        names = ["case", "organ", *METRICS]
        return {name: getattr(self, name) for name in names} | held


@dataclass(frozen=True)
class SliceMetrics:
    """One organ on one slice.

    Args:
        case: The case's name.
        organ: The organ's name.
        slice: Number of the slice in the case, from 0.
        dice: 1 where both masks are empty, 0 for a false positive on an empty slice.
        reference_pixels: Pixels of the reference.
        prediction_pixels: Pixels of the prediction.
        shared_pixels: Pixels of both.
    """

    case: str
    organ: str
    slice: int
    dice: float
    reference_pixels: int
    prediction_pixels: int
    shared_pixels: int


def evaluate_case(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    *,
    case: str = "",
    organ: str = "",
    tolerance_mm: float = TOLERANCE_MM,
    depth_mm: NDArray[Any] | None = None,
) -> CaseMetrics:
    """Compare the masks of one organ of one case.

    Args:
        prediction: Bool `(slices, rows, columns)`.
        reference: Bool of the same shape.
        spacing_mm: Between slices, rows and columns. A lone slice may have NaN for the first: its volume is
            then NaN and its surface is the outline in the plane.
        case: Name that the result bears.
        organ: Name that the result bears.
        tolerance_mm: What NSD forgives.
        depth_mm: `(slices,)` position of each slice where they are not evenly spaced; a slice then stands for
            the half of the way to either neighbour. See `surface.surface_metrics` for the distances.

    Returns:
        The metrics, exact: Dice and volumes from counts, distances as `surface.surface_metrics` has them.

    Raises:
        ValueError: as `surface.surface_metrics`.

    Example:
        >>> reference = np.zeros((4, 8, 8), bool)
        >>> reference[1:3, 2:6, 2:6] = True
        >>> found = evaluate_case(np.roll(reference, 1, axis=2), reference, (2.0, 1.0, 1.0))
        >>> found.dice, found.hd95_mm, found.ravd_percent
        (0.75, 1.0, 0.0)
    """
    box, slices = union_box(prediction, reference), len(reference)
    thickness = _thickness(slices, spacing_mm, depth_mm)[box[0]]
    prediction, reference = prediction[box], reference[box]
    counts = _count(prediction, reference)
    shared, predicted, marked = (int(count) for count in counts.sum(axis=0))
    prediction_ml, reference_ml = (
        counts[:, 1:].T @ thickness * (spacing_mm[1] * spacing_mm[2] / 1000)
    ).tolist()
    empty, unmarked = counts[:, 2] == 0, counts[:, 1] == 0
    depth = None if depth_mm is None else np.asarray(depth_mm)[box[0]]
    if slices == 1 and math.isnan(spacing_mm[0]):
        prediction, reference, spacing_mm, depth = *_planes(prediction, reference), spacing_mm[1:], None
    surfaces = surface_metrics(prediction, reference, spacing_mm, tolerance_mm=tolerance_mm, depth_mm=depth)
    return CaseMetrics(
        case=case,
        organ=organ,
        dice=_share(2 * shared, predicted + marked),
        hd95_mm=surfaces.hd95_mm,
        nsd=surfaces.nsd,
        assd_mm=surfaces.assd_mm,
        mssd_mm=surfaces.mssd_mm,
        ravd_percent=_volume_difference(counts, thickness),
        reference_ml=reference_ml,
        prediction_ml=prediction_ml,
        reference_voxels=marked,
        prediction_voxels=predicted,
        shared_voxels=shared,
        slices=slices,
        empty_slices=slices - int(np.count_nonzero(~empty)),
        false_positive_slices=int(np.count_nonzero(empty & ~unmarked)),
        missed_slices=int(np.count_nonzero(~empty & unmarked)),
    )


def evaluate_slices(
    prediction: Mask, reference: Mask, *, case: str = "", organ: str = ""
) -> tuple[SliceMetrics, ...]:
    """Compare the masks of one organ slice by slice.

    Args:
        prediction: Bool `(slices, rows, columns)`.
        reference: Bool of the same shape.
        case: Name that the rows bear.
        organ: Name that the rows bear.

    Returns:
        One row for each slice, in order; those of empty slices too.

    Raises:
        ValueError: the masks differ in shape or are not bool.
    """
    box = union_box(prediction, reference)
    counts = np.zeros((len(reference), 3), np.int64)
    counts[box[0]] = _count(prediction[box], reference[box])
    rows = zip(dice_from_counts(counts).tolist(), counts.tolist(), strict=True)
    return tuple(
        SliceMetrics(case, organ, number, dice, marked, predicted, shared)
        for number, (dice, (shared, predicted, marked)) in enumerate(rows)
    )


def keep_largest_component(mask: Mask) -> Mask:
    """Return the largest connected part of a mask; voxels that touch by face, edge or corner are connected.

    A clean-up that must be asked for: it removes false positives far from the organ, and the second kidney as
    well. Of several parts of the same size the first in array order stays. An empty mask stays empty.

    Args:
        mask: Bool, any shape.

    Returns:
        A new bool array of that shape.
    """
    from scipy import ndimage

    box = union_box(mask, mask)  # numbering the parts takes four bytes a voxel, and sizes eight
    parts, count = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim, bool))
    if count < 2:
        return mask.copy()
    sizes = np.bincount(parts.ravel())
    kept = np.zeros_like(mask)
    kept[box] = parts == 1 + int(sizes[1:].argmax())
    return kept


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _count(prediction: Mask, reference: Mask) -> NDArray[np.int64]:
    """Return int64 `(slices, 3)`: pixels of both, of the prediction, of the reference."""
    masks = (prediction & reference, prediction, reference)
    return np.stack([np.count_nonzero(mask, axis=(1, 2)) for mask in masks], axis=1).astype(np.int64)


def _thickness(
    slices: int, spacing_mm: Sequence[float], depth_mm: NDArray[Any] | None
) -> NDArray[np.float64]:
    if depth_mm is not None and np.shape(depth_mm) != (slices,):
        raise ValueError(
            f"depth_mm of shape {np.shape(depth_mm)} for {slices} slices; expected one position a slice; take it "
            "from the source of the slices"
        )
    if depth_mm is None or slices < 2:
        return np.full(slices, float(spacing_mm[0]))
    steps = np.abs(np.diff(np.asarray(depth_mm, float)))
    thickness: NDArray[np.float64] = np.convolve(np.pad(steps, 1, mode="edge"), (0.5, 0.5), mode="valid")
    return thickness


def _volume_difference(counts: NDArray[np.int64], thickness: NDArray[np.float64]) -> float:
    if np.isnan(thickness).any():  # a lone slice without a spacing: it cancels
        thickness = np.ones_like(thickness)
    predicted, marked = float(counts[:, 1] @ thickness), float(counts[:, 2] @ thickness)
    if marked == 0:
        return math.inf if predicted else math.nan
    return 100 * abs(predicted - marked) / marked


def _planes(*masks: Mask) -> tuple[Mask, ...]:
    """Return lone slices without their axis; a box without any slice gives an empty plane."""
    return tuple(np.asarray(mask.any(axis=0)) for mask in masks)
