"""One synthetic case: Hounsfield units with the masks of liver, spleen and kidneys."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerasbalance.data.phantom import liver, organs
from kerasbalance.data.phantom.anatomy import lay_out, paint_patient
from kerasbalance.data.phantom.patient import HARD_KINDS, Patient, draw_patient
from kerasbalance.data.phantom.scanner import MAX_HU, acquire

LABELS = {
    "liver": liver.LIVER,
    "spleen": organs.SPLEEN,
    "kidney_left": organs.KIDNEY_LEFT,
    "kidney_right": organs.KIDNEY_RIGHT,
}
"""Label values of the four structures."""

MIN_SIZE = 16
LOWEST_HU = -1024
# Numbers of the independent random streams of one case.
_ANATOMY, _FIELDS, _PARTS, _SCAN, _NOISE = range(5)


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A synthetic abdominal CT with its masks.

    Axial slices in the canonical orientation: slices ascend to the head, rows run to the back, columns to the
    patient's left, so that the liver lies on the left of the image.

    Args:
        hu: int16 `(slices, rows, columns)`.
        labels: uint8, same shape; values as in `LABELS`, 0 elsewhere.
        spacing_mm: `(slice, row, column)`.
        origin_mm: `(x, y, z)` of the centre of voxel `[0, 0, 0]`, LPS.
        kinds: Hard kinds; () for an easy case.
        phase: Contrast phase, `"none"`, `"portal"` or `"arterial"`.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    kinds: tuple[str, ...]
    phase: str

    def mask(self, organ: str) -> NDArray[np.bool_]:
        """Return the mask of one of `LABELS`, or of `"kidney"` (both kidneys)."""
        values = [value for name, value in LABELS.items() if name == organ or name.startswith(f"{organ}_")]
        if not values:
            raise ValueError(f"organ {organ!r}; expected one of {[*LABELS, 'kidney']}; correct the name")
        return np.isin(self.labels, values)


def make_case(seed: int | Sequence[int], size: int = 128, hard: Sequence[str] | None = None) -> PhantomCase:
    """Make one synthetic abdominal CT.

    The same seed gives the same patient at every size; noise alone differs.

    Args:
        seed: A number, or several such as `(seed, case)`.
        size: Rows and columns, at least 16.
        hard: Kinds from `HARD_KINDS` that make the case hard; None or empty for an easy case.

    Returns:
        The case: 25 to 60 slices, each organ in one piece.

    Raises:
        ValueError: If `size` is too small or a kind is unknown.

    Example:
        >>> case = make_case(seed=(0, 7), size=64, hard=("lesions",))
        >>> case.hu.shape[1:], case.hu.dtype
        ((64, 64), dtype('int16'))
    """
    kinds = tuple(hard or ())
    _check(size, kinds)
    patient = case_patient(seed, kinds)
    streams = [_stream(seed, number) for number in range(5)]
    scene, body = lay_out(patient, size, streams[_FIELDS])
    paint_patient(scene, patient, body, streams[_PARTS])
    hu = acquire(scene, body.depth, patient, streams[_SCAN], streams[_NOISE])
    spacing = (patient.slice_step, patient.field_of_view / size, patient.field_of_view / size)
    return PhantomCase(
        hu=np.rint(np.clip(hu, LOWEST_HU, MAX_HU)).astype(np.int16),
        labels=_largest_components(scene.labels),
        spacing_mm=(spacing[0], round(spacing[1], 8), round(spacing[2], 8)),
        origin_mm=(
            round(float(scene.x_mm[0]), 6),
            round(float(scene.y_mm[0]), 6),
            round(float(scene.z_mm[0]), 3),
        ),
        kinds=kinds,
        phase=patient.phase,
    )


def case_patient(seed: int | Sequence[int], kinds: tuple[str, ...]) -> Patient:
    """Draw the patient of a case without painting anything (microseconds)."""
    return draw_patient(_stream(seed, _ANATOMY), kinds)


def _stream(seed: int | Sequence[int], number: int) -> np.random.Generator:
    key = (seed,) if isinstance(seed, int) else tuple(seed)
    return np.random.default_rng((*key, number))


def _check(size: int, kinds: tuple[str, ...]) -> None:
    if size < MIN_SIZE:
        raise ValueError(f"size {size}; expected at least {MIN_SIZE} pixels; choose a larger size")
    unknown = sorted(set(kinds) - set(HARD_KINDS))
    if unknown:
        raise ValueError(f"hard kinds {unknown}; expected some of {list(HARD_KINDS)}; correct the names")


def _largest_components(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest face-connected piece of each label; smaller specks become background."""
    kept = np.zeros_like(labels)
    for value in LABELS.values():
        pieces, count = ndimage.label(labels == value)
        if count:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            kept[pieces == sizes.argmax()] = value
    return kept
