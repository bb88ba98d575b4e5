"""The frame of the body: wall, cavity, diaphragm, lungs, heart, spine and ribs."""

from dataclasses import dataclass

import numpy as np

from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Scene, both

RIB_PERIOD_MM = 29.0
VERTEBRA_MM = 33.0


@dataclass(frozen=True, eq=False)
class Body:
    """Signed distances that every organ needs, and the random fields that bend them.

    Args:
        depth: To the skin, positive inside the body.
        cavity: To the inside of the muscular wall.
        below_diaphragm: Positive under the diaphragm.
        coarse: Unit-variance field with detail of about 70 mm.
        fine: Unit-variance field with detail of about 25 mm.
        plane: Such a field in two dimensions `(rows, columns)`, for surfaces that are height maps.
    """

    depth: Array
    cavity: Array
    below_diaphragm: Array
    coarse: Array
    fine: Array
    plane: Array


def make_body(scene: Scene, patient: Patient, coarse: Array, fine: Array, plane: Array) -> Body:
    """Work out where skin, wall, cavity and diaphragm lie; nothing is painted.

    Args:
        scene: The empty scene.
        patient: Build and pose.
        coarse: Field `(slices, rows, columns)`, detail of 70 mm.
        fine: Field `(slices, rows, columns)`, detail of 25 mm.
        plane: Field `(rows, columns)`, bends the diaphragm.
    """
    depth = _skin_distance(scene, patient, coarse)
    under_fat = depth - _fat_thickness(scene, patient)
    cavity = under_fat - _wall_thickness(scene, patient)
    dome = _dome_height(scene, patient) + 4 * plane
    steepness = np.hypot(*np.gradient(dome, scene.pixel_mm))
    below = (dome[None] - scene.z) / np.sqrt(1 + steepness * steepness)[None]
    return Body(depth, cavity, below.astype(np.float32), coarse, fine, plane)


def _skin_distance(scene: Scene, patient: Patient, coarse: Array) -> Array:
    """A rounded box: flat behind with a furrow over the spine, rounder in front, narrower at the waist."""
    a, b = patient.half_width, patient.half_depth
    low = np.clip(-scene.z / patient.trunk_height, 0, 1.6)
    width = a * (1 - 0.05 * np.sin(2 * low))
    front = np.minimum(scene.y, 0) / b
    back = np.maximum(scene.y, 0) / (0.97 * b)
    side = np.abs(scene.x) / width
    radius = (side**2.3 + np.abs(front) ** 2.2 + back**2.6) ** (1 / 2.35)
    squares = side * side + front * front + back * back + 1e-3
    scale = (a * side * side + b * (squares - side * side)) / squares
    furrow = 7 * np.exp(-((scene.x / 16) ** 2)) * (scene.y > 0)
    return np.asarray((1 - radius) * scale - furrow + 1.5 * coarse, np.float32)


def _fat_thickness(scene: Scene, patient: Patient) -> Array:
    flank = np.abs(scene.x) / patient.half_width
    behind = scene.y / patient.half_depth
    return np.asarray(
        patient.fat * (0.8 + 0.25 * behind + 0.45 * flank * np.clip(behind + 0.5, 0, 1)), np.float32
    )


def _wall_thickness(scene: Scene, patient: Patient) -> Array:
    """Muscle is thin in front, thick beside the spine, and leaves the lungs their recesses behind."""
    a, b = patient.half_width, patient.half_depth
    chest = 1 / (1 + np.exp(-(scene.z + 70) / 20))
    spread = a * (0.55 - 0.22 * chest)
    behind = np.clip((scene.y / b - 0.05) * 1.8, 0, 1)
    back = (2.1 - 0.7 * chest) * behind * np.exp(-((scene.x / spread) ** 2))
    front = np.clip(-scene.y / b, 0, 1) * 0.35
    return np.asarray(patient.muscle * (1 - front + back), np.float32)


def _dome_height(scene: Scene, patient: Patient) -> Array:
    """Height of the diaphragm `(rows, columns)`: right dome at 0, left one lower, the heart between."""
    a, b = patient.half_width, patient.half_depth
    x, y = scene.x[0], scene.y[0]

    def bowl(centre_x: float, centre_y: float, width: float, length: float) -> Array:
        # The recess behind the ribs reaches far lower at the back than in front.
        along = np.where(y < centre_y, 1.3, 1.0) * length
        return np.asarray(((x - centre_x) / width) ** 2 + ((y - centre_y) / along) ** 2)

    right = -125 * bowl(-0.44 * a, -0.05 * b, 0.60 * a, 0.80 * b)
    left = -20 - 125 * bowl(0.44 * a, 0.0, 0.58 * a, 0.80 * b)
    middle = -42 - 95 * bowl(0.0, -0.15 * b, 0.7 * a, 0.85 * b)
    return np.asarray(np.maximum(np.maximum(right, left), middle))


def paint_wall(scene: Scene, patient: Patient, body: Body) -> None:
    """Paint skin, fat, the muscles in their layers, and the fat of the cavity."""
    tissue = patient.tissue
    scene.paint(body.depth, tissue.fat + 5 * body.fine)
    scene.paint(both(body.depth, 1.8 - body.depth), 30.0, opacity=0.8)
    under_fat = body.depth - _fat_thickness(scene, patient)
    thickness = under_fat - body.cavity
    scene.paint(under_fat, tissue.muscle + 4 * body.fine)
    for share in (0.36, 0.68):
        layer = under_fat - share * thickness + 0.8 * body.coarse
        sheet = 0.7 - np.abs(layer) + 0.5 * body.fine
        scene.paint(both(sheet, thickness - 6), -70.0, opacity=0.55)
    scene.paint(body.cavity, tissue.fat + 8 * body.fine + 5 * body.coarse)


def paint_back(scene: Scene, patient: Patient, body: Body) -> None:
    """Paint psoas and the crura, with fat between the long back muscles."""
    spine_y, radius, muscle = patient.spine_y, patient.spine_radius, patient.tissue.muscle
    for side in (-1.0, 1.0):
        z = np.clip(-scene.z / patient.trunk_height, 0.3, 2.2)
        x = scene.x - side * (radius + 8 + 5 * z)
        y = scene.y - spine_y - 4
        size = 5 + 9 * np.clip(z - 0.45, 0, 1)
        scene.paint(size - np.sqrt(x * x + 0.8 * y * y) + 0.8 * body.coarse, muscle)
        crus_x, crus_y = scene.x - side * 0.7 * radius, scene.y - spine_y + 0.95 * radius
        crus = 5.5 - np.sqrt(0.5 * crus_x**2 + crus_y**2)
        scene.paint(both(crus, (scene.z + 1.0 * patient.trunk_height) / 3), muscle)
        septum = np.abs(scene.x - side * (1.9 * radius + 0.25 * (scene.y - spine_y)))
        reach = both(scene.y - spine_y - 16, -1 - body.cavity)
        scene.paint(
            both(1.0 - septum + 0.6 * body.fine, both(reach, body.depth - patient.fat - 4)),
            -65.0,
            opacity=0.6,
        )


def paint_spine(scene: Scene, patient: Patient, body: Body) -> None:
    """Paint vertebral bodies with discs, the canal, the arch and its processes."""
    spine_y, radius = patient.spine_y, patient.spine_radius
    level = np.mod(scene.z, VERTEBRA_MM) / VERTEBRA_MM
    x, y = scene.x, scene.y - spine_y
    waist = radius * (0.94 + 0.12 * np.abs(level - 0.4))
    vertebra = waist - np.sqrt(x * x + (y / 0.8) ** 2) - 1.5 * np.clip(y / radius, 0, 1)
    disc = level > 0.8
    scene.paint(vertebra, np.where(disc, 85, 185 + 35 * body.fine))
    scene.paint(both(vertebra, 2.2 - vertebra), np.where(disc, 110, 420), opacity=0.9)
    canal_y = y - 1.28 * radius
    canal = 8.5 - np.sqrt((0.8 * x) ** 2 + canal_y**2)
    arch = both(both(canal + 6, -canal), canal_y + 9)
    spread = np.abs(x) - radius
    transverse = both(3.6 - np.abs(canal_y + 2 - 0.25 * spread), 17 - np.abs(spread))
    spinous = both(3.2 - np.abs(x), 10 - np.abs(canal_y - 15))
    bony = np.where(
        level < 0.62, np.maximum(np.maximum(arch, spinous), np.where(level < 0.35, transverse, -9)), -9
    )
    scene.paint(canal, 32.0)
    scene.paint(bony.astype(np.float32), 390.0 + 60 * body.fine)


def paint_ribs(scene: Scene, patient: Patient, body: Body) -> None:
    """Paint ribs that run down and forward inside the wall, with cartilage in front."""
    b, height = patient.half_depth, patient.trunk_height
    course = scene.z + 0.5 * np.abs(scene.x) - 0.55 * (scene.y - b)
    across = np.mod(course, RIB_PERIOD_MM) - RIB_PERIOD_MM / 2
    middle = 5.0 - body.cavity - patient.muscle * 0.62
    rib = 3.6 - np.hypot(0.85 * middle, 0.62 * across)
    margin = (
        scene.z
        + height * (0.80 + 0.25 * np.clip(scene.y / b, -1, 1))
        - 0.55 * np.clip(60 - np.abs(scene.x), 0, 60)
    )
    beside = np.abs(scene.x) - np.where(scene.y > 0, patient.spine_radius + 13, 12)
    shape = both(both(rib, 0.4 * margin), beside)
    bone = np.clip(1.5 + 1.6 * scene.y / b, 0, 1)
    scene.paint(shape, 130 + 320 * bone)
    scene.paint(both(shape - 1.8, shape), 130 + 90 * bone, opacity=0.8)


def paint_chest(scene: Scene, patient: Patient, body: Body) -> None:
    """Paint lungs with their vessels, the mediastinum with the oesophagus, and the heart."""
    above = -body.below_diaphragm
    chest = both(above, body.cavity + 1)
    scene.paint(chest, -860 + 25 * body.fine + 15 * body.coarse)
    branches = np.clip(1.4 - np.hypot(body.fine, body.coarse - 0.3) / 0.22, 0, 1)
    scene.paint(chest - 6, 30.0, opacity=branches)
    behind = scene.y - patient.spine_y
    middle = 26 + 3 * body.coarse - np.sqrt(scene.x**2 + (0.09 * behind) ** 2)
    mediastinum = both(middle, scene.y + 0.2 * patient.half_depth)
    scene.paint(both(chest, mediastinum), -60 + 15 * body.fine)
    oesophagus = scene.tube((9, patient.spine_y - 36, 200), (14, patient.spine_y - 38, -45), 7, 7)
    scene.paint(both(oesophagus, above + 6), patient.tissue.muscle)
    _paint_heart(scene, patient, body, above)


def _paint_heart(scene: Scene, patient: Patient, body: Body, above: Array) -> None:
    """Paint the heart in its fat: muscle with two blood-filled chambers."""
    a, b, tissue = patient.half_width, patient.half_depth, patient.tissue
    blood = 0.55 * tissue.artery + 0.3 * tissue.vein + 12
    outline = scene.ellipsoid((0.14 * a, -0.30 * b, 24.0), (0.40 * a, 0.44 * b, 62.0)) + 3 * body.coarse
    heart = both(both(outline, body.cavity - 3), above + 2, 2)
    scene.paint(heart + 4, -75 + 12 * body.fine)
    scene.paint(heart, 0.3 * tissue.muscle + 0.7 * blood)
    septum = np.abs(scene.x - 0.10 * a + 0.7 * scene.y + 0.2 * b + 14 * body.coarse)
    scene.paint(both(heart - 7, septum - 3), blood + 4 * body.fine)
