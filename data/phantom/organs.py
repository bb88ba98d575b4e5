"""Kidneys, spleen, stomach and pancreas."""

from dataclasses import dataclass

import numpy as np

from kerasbalance.data.phantom.body import Body
from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Point, Scene, both

SPLEEN = 2
KIDNEY_LEFT = 3
KIDNEY_RIGHT = 4


@dataclass(frozen=True)
class Kidney:
    """One kidney: where, how large, and how it leans (upper pole to the spine and back)."""

    label: int
    side: float
    centre: Point
    radii: Point

    @property
    def lean(self) -> tuple[float, float]:
        """Shift of x and y per millimetre of height."""
        return -0.22 * self.side, 0.14

    def shape(self, scene: Scene, body: Body) -> Array:
        """Signed distance to the kidney, its sinus included."""
        outline = scene.ellipsoid(self.centre, self.radii, self.lean) + 0.8 * body.coarse + 0.5 * body.fine
        return both(outline, body.cavity - 5, 2)

    def sinus(self, scene: Scene, body: Body) -> Array:
        """Signed distance to the fat of the sinus, which opens to the midline in front."""
        x, y, z = self.centre
        inner = (x - self.side * 0.72 * self.radii[0], y - 6, z)
        radii = (0.64 * self.radii[0], 0.28 * self.radii[1], 0.40 * self.radii[2])
        return scene.ellipsoid(inner, radii, self.lean) + 1.8 * body.fine


def draw_kidneys(rng: np.random.Generator, patient: Patient) -> tuple[Kidney, Kidney]:
    """Draw the left and the right kidney; the right one lies lower, under the liver."""
    kidneys, scale = [], (patient.half_width / 160) ** 0.5
    for label, side, level in ((KIDNEY_LEFT, 1.0, 0.70), (KIDNEY_RIGHT, -1.0, 0.80)):
        out = scale * (patient.spine_radius + rng.uniform(30, 37)) + 6 * patient.visceral
        centre = (
            side * out,
            patient.spine_y + rng.uniform(-6, 6),
            -(level + rng.uniform(0, 0.12)) * patient.trunk_height,
        )
        radii = (scale * rng.uniform(27, 32), scale * rng.uniform(26, 31), rng.uniform(50, 60))
        kidneys.append(Kidney(label, side, centre, radii))
    return kidneys[0], kidneys[1]


def paint_kidney(scene: Scene, patient: Patient, body: Body, kidney: Kidney, shape: Array) -> None:
    """Paint cortex, pyramids (darker in the arterial phase), the sinus and the renal pelvis."""
    hu = patient.tissue.kidney
    scene.paint(shape, hu + 3 * body.fine, kidney.label)
    if patient.phase == "arterial":
        pyramids = both(shape - 6.5, 0.6 + body.fine)
        scene.paint(pyramids, 0.74 * hu, None)
    sinus = kidney.sinus(scene, body)
    scene.paint(sinus, patient.tissue.fat + 25)
    scene.paint(sinus - 5, 12.0 if patient.phase == "none" else 0.55 * patient.tissue.vein)


def spleen_shape(scene: Scene, patient: Patient, body: Body, rng: np.random.Generator) -> Array:
    """Signed distance to the spleen: a shell on the left wall, hollow towards stomach and kidney."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    centre = (0.68 * a, 0.24 * b, -(0.38 + rng.uniform(0, 0.12)) * height)
    radii = (rng.uniform(40, 48), rng.uniform(46, 58), rng.uniform(46, 58))
    outer = scene.ellipsoid(centre, radii, (0.1, -0.25)) + 2 * body.coarse + 0.8 * body.fine
    hollow = scene.ellipsoid((0.26 * a, -0.08 * b, centre[2] - 8), (0.26 * a, 0.44 * b, 80)) + 2 * body.coarse
    shape = both(both(outer, body.cavity - 4, 2), -hollow, 4)
    return both(shape, body.below_diaphragm - 3, 3)


def paint_spleen(scene: Scene, patient: Patient, body: Body, shape: Array) -> None:
    """Paint the spleen, uneven in the arterial phase."""
    uneven = 0.14 if patient.phase == "arterial" else 0.02
    scene.paint(shape, patient.tissue.spleen * (1 + uneven * body.fine), SPLEEN)


def stomach_shape(scene: Scene, patient: Patient, body: Body, rng: np.random.Generator) -> Array:
    """Signed distance to the stomach: a bag under the left dome, a tube that crosses in front."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    swell = 1.3 if "lowcontrast" in patient.kinds else rng.uniform(0.75, 1.15)
    inwards = 0.08 * a if "lowcontrast" in patient.kinds else 0.0
    fundus = (0.38 * a - inwards, 0.02 * b, -0.30 * height)
    body_end = (0.30 * a - inwards, -0.42 * b, -0.62 * height)
    antrum = (-0.06 * a, -0.38 * b, -0.76 * height)
    bag = scene.tube(fundus, body_end, 36 * swell, 25 * swell)
    tail = scene.tube(body_end, antrum, 23 * swell, 13)
    shape = np.maximum(bag, tail) + 3 * body.coarse + 1.2 * body.fine
    return both(both(shape, body.cavity - 5, 2), body.below_diaphragm - 3, 2)


def paint_stomach(scene: Scene, patient: Patient, body: Body, shape: Array, rng: np.random.Generator) -> None:
    """Paint the wall with folds, the content, and gas that has risen to the front."""
    alike = "lowcontrast" in patient.kinds
    content = patient.tissue.liver + rng.uniform(-8, 8) if alike else rng.choice([25.0, 40.0, 220.0])
    level = rng.uniform(-0.55, -0.15) * patient.half_depth
    wall = patient.tissue.liver if alike else patient.tissue.muscle + 18
    scene.paint(shape, wall)
    lumen = shape - 4 - 1.5 * np.abs(body.fine)
    scene.paint(lumen, content + (4 if alike else 10) * body.fine)
    gas = both(lumen, level - scene.y)
    if rng.random() < (0.25 if alike else 0.8):
        scene.paint(gas, -920.0)


def paint_pancreas(scene: Scene, patient: Patient, body: Body, free: Array) -> None:
    """Paint the pancreas: a lobed band from the duodenum to the spleen, and its vein."""
    a, height, back = patient.half_width, patient.trunk_height, patient.spine_y - patient.spine_radius
    head, neck = (-0.20 * a, back - 20, -0.80 * height), (0.05 * a, back - 38, -0.68 * height)
    tail = (0.48 * a, back - 6, -0.56 * height)
    band = np.maximum(scene.tube(head, neck, 15, 9), scene.tube(neck, tail, 9.5, 9))
    lobes = 2.5 * body.fine - 2 * patient.visceral
    scene.paint(
        both(band + lobes, free), patient.tissue.muscle + 0.3 * (patient.tissue.vein - 40) + 8 * body.fine
    )
    behind = 9.0
    splenic = scene.tube(
        (neck[0], neck[1] + behind, neck[2]), (tail[0] + 10, tail[1] + behind, tail[2]), 4.5, 3.2
    )
    scene.paint(both(splenic, free), patient.tissue.vein)
