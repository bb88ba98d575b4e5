"""What is drawn before anything is painted: the patient, the contrast phase and the scan."""

from dataclasses import dataclass

import numpy as np

HARD_KINDS = ("lesions", "fatty", "atypical", "lowdose", "streak", "lowcontrast")
"""What makes a case hard: focal lesions, a fatty liver, an unusual liver shape, noise, metal streaks, and a
lean patient whose stomach touches the liver at the same brightness."""

PHASES = ("none", "portal", "arterial")

# Hounsfield units by phase (low, high): liver, spleen, kidney, artery, vein, muscle.
_TISSUE_HU = {
    "none": ((52, 66), (42, 54), (28, 38), (36, 46), (36, 46), (46, 58)),
    "portal": ((92, 125), (98, 130), (118, 152), (125, 160), (130, 165), (52, 66)),
    "arterial": ((62, 85), (85, 120), (108, 150), (220, 310), (70, 100), (48, 62)),
}


@dataclass(frozen=True)
class Tissue:
    """Mean Hounsfield units of one patient's tissues."""

    liver: float
    spleen: float
    kidney: float
    artery: float
    vein: float
    muscle: float
    fat: float


@dataclass(frozen=True)
class Patient:
    """One patient and one scan; lengths in millimetres.

    Args:
        kinds: Hard kinds, () for an easy case.
        phase: One of `PHASES`.
        tissue: Mean Hounsfield units.
        half_width: Of the body, skin to midline.
        half_depth: Of the body, front to back.
        fat: Thickness of the subcutaneous fat.
        muscle: Thickness of the lateral abdominal wall.
        visceral: 0 (lean) to 1: how much fat lies between the organs.
        liver_height: From the dome to the lowest tip of the liver.
        trunk_height: The same for a usual liver; what places the other organs.
        spine_y: Centre of the vertebral bodies.
        spine_radius: Of the vertebral bodies.
        roll: How far the patient is turned about the long axis, radians.
        offset: `(x, y)` of the patient in the field of view.
        field_of_view: Side of the square image.
        bottom: Lowest height scanned (z = 0 is the dome).
        top: Highest height scanned.
        slice_step: Distance of the slices.
    """

    kinds: tuple[str, ...]
    phase: str
    tissue: Tissue
    half_width: float
    half_depth: float
    fat: float
    muscle: float
    visceral: float
    liver_height: float
    trunk_height: float
    spine_y: float
    spine_radius: float
    roll: float
    offset: tuple[float, float]
    field_of_view: float
    bottom: float
    top: float
    slice_step: float

    @property
    def slices(self) -> int:
        """Number of slices that cover the scan."""
        return max(1, round((self.top - self.bottom) / self.slice_step))


def draw_patient(rng: np.random.Generator, kinds: tuple[str, ...]) -> Patient:
    """Draw build, contrast phase and scan range; the liver is always scanned whole."""
    half_width = rng.uniform(135, 182)
    half_depth = half_width * rng.uniform(0.66, 0.78)
    fat, visceral = _draw_fat(rng, half_width, "lowcontrast" in kinds)
    phase = str(rng.choice(PHASES, p=(0.2, 0.6, 0.2)))
    trunk = rng.uniform(138, 178) * (half_width / 160) ** 0.3
    height = trunk
    if "atypical" in kinds:
        height *= rng.uniform(0.74, 0.86) if rng.random() < 0.5 else rng.uniform(1.12, 1.25)
    top, bottom = rng.uniform(20, 90), -max(height, trunk) - rng.uniform(12, 130)
    offset_x, offset_y = rng.uniform(-8, 8), rng.uniform(-8, 8)
    room = max(half_width + abs(offset_x), 1.1 * half_depth + abs(offset_y) + 12)
    return Patient(
        kinds=kinds,
        phase=phase,
        tissue=_draw_tissue(rng, phase, "fatty" in kinds),
        half_width=half_width,
        half_depth=half_depth,
        fat=fat,
        muscle=rng.uniform(10, 17),
        visceral=visceral,
        liver_height=height,
        trunk_height=trunk,
        spine_y=half_depth - fat - rng.uniform(52, 60),
        spine_radius=rng.uniform(18, 22),
        roll=rng.normal(0, 0.045),
        offset=(offset_x, offset_y),
        field_of_view=float(np.ceil(2 * room * rng.uniform(1.04, 1.2))),
        bottom=bottom,
        top=top,
        slice_step=round(max(rng.uniform(4.5, 8.0), (top - bottom) / 60), 1),
    )


def _draw_fat(rng: np.random.Generator, half_width: float, lean: bool) -> tuple[float, float]:
    """Draw the subcutaneous fat in millimetres and the visceral fat from 0 to 1."""
    if lean:
        return rng.uniform(4, 7), 0.0
    fat = float(np.clip(rng.gamma(3, 0.007) * half_width + 5, 6, 0.17 * half_width))
    return fat, float(np.clip(rng.normal(0.25 + fat / 60, 0.15), 0.02, 1))


def _draw_tissue(rng: np.random.Generator, phase: str, fatty: bool) -> Tissue:
    liver, spleen, kidney, artery, vein, muscle = (rng.uniform(*limits) for limits in _TISSUE_HU[phase])
    if fatty:
        liver = rng.uniform(12, 38) if phase == "none" else muscle - rng.uniform(0, 28)
    return Tissue(liver, spleen, kidney, artery, vein, muscle, fat=rng.uniform(-106, -92))
