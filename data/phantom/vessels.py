"""The great vessels: aorta and its branches, the inferior vena cava, the mesenteric vessels."""

import numpy as np

from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Point, Scene


def aorta_at(patient: Patient, z: float) -> Point:
    """Centre of the aorta at a height."""
    shift = float(np.clip(z / 80, 0, 1))
    return 6.0 + 10 * shift, patient.spine_y - patient.spine_radius - 8 + 8 * shift, z


def cava_at(patient: Patient, z: float) -> Point:
    """Centre of the inferior vena cava at a height: it leaves the spine and runs forward to the heart."""
    shift = float(np.clip(1 + (z + 20) / 90, 0, 1))
    return -17.0 - 4 * shift, patient.spine_y - patient.spine_radius - 6 - 16 * shift, z


def cava_shape(scene: Scene, patient: Patient, radius_mm: float) -> Array:
    """Signed distance to the inferior vena cava."""
    upper, middle = cava_at(patient, 8), cava_at(patient, -110)
    lower = cava_at(patient, -400)
    return np.maximum(
        scene.tube(upper, middle, radius_mm + 1, radius_mm),
        scene.tube(middle, lower, radius_mm, radius_mm - 1),
    )


def paint_vessels(scene: Scene, patient: Patient, rng: np.random.Generator) -> None:
    """Paint the aorta, the cava, the renal, coeliac and mesenteric vessels."""
    artery, vein = patient.tissue.artery, patient.tissue.vein
    radius = rng.uniform(8.5, 11.5)
    top, crossing, end = aorta_at(patient, 200), aorta_at(patient, 0), aorta_at(patient, -400)
    aorta = np.maximum(
        scene.tube(top, crossing, radius + 1.5, radius), scene.tube(crossing, end, radius, radius - 2)
    )
    scene.paint(cava_shape(scene, patient, rng.uniform(9, 11)), vein)
    scene.paint(aorta, artery)
    if rng.random() < 0.4:
        scene.paint(np.minimum(aorta + 0.5, 1.0 - aorta), 450.0, opacity=0.5 * (scene.x > 8))
    height = patient.trunk_height
    root = aorta_at(patient, -0.62 * height)
    tip = (root[0] - 2, root[1] - 32, -1.25 * height)
    _paint_tube(scene, root, (root[0], root[1] - 18, root[2] - 16), 4.0, artery)
    _paint_tube(scene, (root[0], root[1] - 18, root[2] - 16), tip, 3.6, artery)
    _paint_tube(
        scene, (root[0] - 13, root[1] - 19, root[2] - 20), (tip[0] - 13, tip[1] + 4, tip[2]), 5.2, vein
    )
    for side in (-1.0, 1.0):
        level = -0.82 * height
        start, hilum = (
            aorta_at(patient, level),
            (side * 0.28 * patient.half_width, patient.spine_y - 12, level - 6),
        )
        _paint_tube(scene, start, hilum, 2.8, artery)
        _paint_tube(scene, cava_at(patient, level - 4), (hilum[0], hilum[1] - 6, hilum[2]), 4.2, vein)


def _paint_tube(scene: Scene, start: Point, end: Point, radius_mm: float, hu: float) -> None:
    middle = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]), 0.5 * (start[2] + end[2]))
    part, _ = scene.near(middle, 0.5 * float(np.linalg.norm(np.subtract(start, end))) + radius_mm)
    part.paint(part.tube(start, end, radius_mm, 0.8 * radius_mm), hu)
