"""One synthetic case: Hounsfield units with the masks of liver, spleen and kidneys."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerasbalance.data.phantom import bowel, liver, organs, vessels
from kerasbalance.data.phantom.body import (
    Body,
    make_body,
    paint_back,
    paint_chest,
    paint_ribs,
    paint_spine,
    paint_wall,
)
from kerasbalance.data.phantom.patient import HARD_KINDS, Patient, draw_patient
from kerasbalance.data.phantom.scanner import MAX_HU, acquire
from kerasbalance.data.phantom.scene import AIR_HU, Array, Scene, axis_of, both, smooth_field

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
        kinds: hard kinds; () for an easy case.
        phase: contrast phase, `"none"`, `"portal"` or `"arterial"`.
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
        seed: a number, or several such as `(seed, case)`.
        size: rows and columns, at least 16.
        hard: kinds from `HARD_KINDS` that make the case hard; None or empty for an easy case.

    Returns:
        The case: 25 to 60 slices, each organ in one piece.

    Raises:
        ValueError: `size` is too small or a kind is unknown.

    Example:
        >>> case = make_case(seed=(0, 7), size=64, hard=("lesions",))
        >>> case.hu.shape[1:], case.hu.dtype
        ((64, 64), dtype('int16'))
    """
    kinds = tuple(hard or ())
    _check(size, kinds)
    patient = case_patient(seed, kinds)
    streams = [_stream(seed, number) for number in range(5)]
    scene, body, plane = _set_up(patient, size, streams[_FIELDS])
    _paint(scene, patient, body, plane, streams[_PARTS])
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


def _set_up(patient: Patient, size: int, rng: np.random.Generator) -> tuple[Scene, Body, Array]:
    """Lay out the voxels, bend the space so that no patient is symmetric, and place the body in it."""
    half = patient.field_of_view / 2
    bounds = ((patient.bottom, patient.top + patient.slice_step), (-half, half), (-half, half))
    flat = axis_of(patient.field_of_view, size)
    heights = (patient.bottom + (np.arange(patient.slices) + 0.5) * patient.slice_step).astype(np.float32)
    axes = (heights, flat, flat)

    def field(knot_mm: float) -> Array:
        return smooth_field(rng, axes, bounds, knot_mm)

    cos, sin = np.float32(np.cos(patient.roll)), np.float32(np.sin(patient.roll))
    x, y = flat[None, :] - np.float32(patient.offset[0]), flat[:, None] - np.float32(patient.offset[1])
    warped_x = 5.0 * field(110) + (cos * x + sin * y)[None]
    warped_y = 4.0 * field(110) + (cos * y - sin * x)[None]
    warped_z = 5.0 * field(110) + heights[:, None, None]
    hu = np.full(warped_x.shape, AIR_HU, np.float32)
    scene = Scene(
        heights,
        flat,
        flat,
        warped_x,
        warped_y,
        warped_z,
        hu,
        np.zeros(hu.shape, np.uint8),
        patient.field_of_view / size,
    )
    plane = smooth_field(rng, axes[1:], bounds[1:], 60)
    return scene, make_body(scene, patient, field(65), field(24), plane), plane


def _paint(scene: Scene, patient: Patient, body: Body, plane: Array, rng: np.random.Generator) -> None:
    """Paint from the wall inwards and from the back to the front; later tissue covers earlier tissue."""
    build, kidneys = liver.draw_build(rng, patient), organs.draw_kidneys(rng, patient)
    kidney_shapes = [kidney.shape(scene, body) for kidney in kidneys]
    liver_shape = liver.liver_shape(scene, patient, body, build, plane)
    liver_shape = both(liver_shape, -np.maximum(*kidney_shapes) - 2.5 - 6 * patient.visceral, 3)
    gallbladder = liver.gallbladder_shape(scene, patient, build)
    if gallbladder is not None:
        liver_shape = both(liver_shape, -gallbladder - 0.5, 2)
    touch = 0.0 if "lowcontrast" in patient.kinds else 1.5 + 3 * patient.visceral
    stomach = both(organs.stomach_shape(scene, patient, body, rng), -liver_shape - touch)
    spleen = organs.spleen_shape(scene, patient, body, rng)
    spleen = both(spleen, -np.maximum(np.maximum(liver_shape, stomach), kidney_shapes[0]) - 2)
    solid = [liver_shape, stomach, spleen, *kidney_shapes] + ([] if gallbladder is None else [gallbladder])
    around = patient.spine_radius + 18 - np.hypot(scene.x, scene.y - patient.spine_y)
    free = both(-np.maximum.reduce([*solid, around]) - 1.5, body.below_diaphragm - 3)

    paint_wall(scene, patient, body)
    paint_chest(scene, patient, body)
    paint_back(scene, patient, body)
    paint_ribs(scene, patient, body)
    bowel.paint_bowel(scene, patient, body, free, rng)
    vessels.paint_vessels(scene, patient, rng)
    organs.paint_pancreas(scene, patient, body, free)
    paint_spine(scene, patient, body)
    organs.paint_stomach(scene, patient, body, stomach, rng)
    scene.paint(
        spleen,
        patient.tissue.spleen * (1 + (0.14 if patient.phase == "arterial" else 0.02) * body.fine),
        organs.SPLEEN,
    )
    for kidney, shape in zip(kidneys, kidney_shapes, strict=True):
        organs.paint_kidney(scene, patient, body, kidney, shape)
    liver.paint_liver(scene, patient, body, liver_shape, rng)
    if gallbladder is not None:
        scene.paint(gallbladder, patient.tissue.muscle)
        scene.paint(gallbladder - 1.8, rng.uniform(2, 16))


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
