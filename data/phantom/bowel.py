"""Bowel and mesentery: what fills the rest of the abdomen."""

import itertools
from dataclasses import dataclass

import numpy as np

from kerasbalance.data.phantom.body import Body
from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Point, Scene, both

ATTEMPTS_PER_LITRE = 110
CONTENTS = ("fluid", "gas", "contrast", "stool", "collapsed")
SMALL_BOWEL = (0.42, 0.14, 0.0, 0.0, 0.44)
SMALL_BOWEL_CONTRAST = (0.2, 0.1, 0.4, 0.0, 0.3)
COLON = (0.08, 0.37, 0.0, 0.5, 0.05)


@dataclass(frozen=True)
class Loop:
    """One loop or pouch: an irregular bag.

    Args:
        centre: Where.
        size: Mean radius, millimetres.
        radii: Along x, y and z.
        lean: Shift of x and y per millimetre of height.
        content: One of `CONTENTS`.
        level: Fluid level, y in millimetres.
        tone: 0 to 1, how bright the content is among its kind.
    """

    centre: Point
    size: float
    radii: Point
    lean: tuple[float, float]
    content: str
    level: float
    tone: float


def paint_bowel(scene: Scene, patient: Patient, body: Body, free: Array, rng: np.random.Generator) -> None:
    """Paint mesenteric vessels, loops of small bowel and the colon's frame.

    Args:
        scene: What to paint into.
        patient: Build.
        body: Cavity and fields.
        free: Signed distance, positive where no other organ lies.
        rng: Draws places, sizes and contents.
    """
    _paint_mesentery(scene, patient, free, rng)
    small_bowel = SMALL_BOWEL_CONTRAST if rng.random() < 0.35 else SMALL_BOWEL
    loops = [_draw_loop(place, small_bowel, rng) for place in _scatter(patient, rng)]
    loops += [_draw_loop(place, COLON, rng) for place in _colon_course(patient, rng)]
    for loop in loops:
        _paint_loop(scene, patient, body, free, loop)


def _draw_loop(place: Array, weights: tuple[float, ...], rng: np.random.Generator) -> Loop:
    x, y, z, size = (float(value) for value in place)
    stretch = rng.uniform(0.75, 1.45, 3)
    return Loop(
        centre=(x, y, z),
        size=size,
        radii=(size * stretch[0], size * stretch[1], size * stretch[2]),
        lean=(rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4)),
        content=str(rng.choice(CONTENTS, p=weights)),
        level=y + rng.uniform(-0.5, 0.4) * size,
        tone=rng.uniform(0, 1),
    )


def _scatter(patient: Patient, rng: np.random.Generator) -> list[Array]:
    """Throw loops `(x, y, z, size)` into the abdomen; the leaner the patient, the closer they may lie."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    low = (-0.72 * a, -0.72 * b, patient.bottom - 15, 11)
    high = (0.72 * a, 0.30 * b, -0.62 * height, 18)
    attempts = int(ATTEMPTS_PER_LITRE * np.prod(np.subtract(high, low)[:3]) / 1e6)
    thrown = rng.uniform(low, high, (attempts, 4))
    closest = 0.62 + 0.40 * patient.visceral
    kept: list[Array] = []
    for place in thrown:
        others = np.array(kept).reshape(-1, 4)
        gaps = np.linalg.norm((others - place)[:, :3] * (1, 1, 0.8), axis=1)
        if np.all(gaps > closest * (others[:, 3] + place[3])):
            kept.append(place)
    return kept


def _colon_course(patient: Patient, rng: np.random.Generator) -> list[Array]:
    """Pouches `(x, y, z, size)` of the colon: up the right flank, across the front, down the left flank."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    corners = np.array(
        [
            (-0.62 * a, 0.15 * b, -2.1 * height),
            (-0.60 * a, 0.10 * b, -0.98 * height),
            (-0.25 * a, -0.52 * b, -(1.0 + rng.uniform(0, 0.15)) * height),
            (0.25 * a, -0.55 * b, -(0.95 + rng.uniform(0, 0.2)) * height),
            (0.62 * a, -0.05 * b, -0.66 * height),
            (0.68 * a, 0.22 * b, -0.95 * height),
            (0.66 * a, 0.25 * b, -2.1 * height),
        ]
    )
    pouches: list[Array] = []
    for start, end in itertools.pairwise(corners):
        count = int(np.linalg.norm(end - start) / 26) + 1
        for step in range(count):
            centre = start + (end - start) * step / count + rng.normal(0, 4, 3)
            pouches.append(np.append(centre, rng.uniform(16, 23)))
    return pouches


def _paint_loop(scene: Scene, patient: Patient, body: Body, free: Array, loop: Loop) -> None:
    """Paint the wall, the content, and a fluid level where there is gas."""
    part, box = scene.near(loop.centre, 1.5 * loop.size)
    if part.hu.size == 0:
        return
    fine, coarse = body.fine[box], body.coarse[box]
    outline = part.ellipsoid(loop.centre, loop.radii, loop.lean) + loop.size * (0.16 * fine + 0.10 * coarse)
    bag = both(outline, both(free[box], body.cavity[box] - 3))
    if not (bag > -part.pixel_mm).any():
        return
    part.paint(bag, patient.tissue.muscle + 8 * (patient.phase != "none") + 9 * fine)
    wall = 0.45 * loop.size if loop.content == "collapsed" else 2.2
    lumen = bag - wall - 1.2 * np.abs(fine)
    if loop.content == "stool":
        part.paint(lumen, 10 + 40 * fine)
        part.paint(both(lumen - 1, 4 * (fine * coarse - 0.6)), -700.0)
        return
    fluid = 180 + 100 * loop.tone if loop.content == "contrast" else 18 + 30 * loop.tone
    part.paint(lumen, fluid + 10 * fine)
    if loop.content == "gas":
        part.paint(both(lumen, loop.level - part.y), -900.0)


def _paint_mesentery(scene: Scene, patient: Patient, free: Array, rng: np.random.Generator) -> None:
    """Paint small vessels that fan out through the fat."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    root = np.array((-2.0, patient.spine_y - patient.spine_radius - 36, -0.95 * height))
    for _ in range(36):
        end = rng.uniform((-0.6 * a, -0.6 * b, -1.9 * height), (0.6 * a, 0.1 * b, -0.75 * height))
        start = root + (end - root) * rng.uniform(0.25, 0.6) + rng.normal(0, 8, 3)
        radius = rng.uniform(1.2, 2.4)
        reach = 0.5 * float(np.linalg.norm(end - start))
        middle = 0.5 * (start + end)
        part, box = scene.near((float(middle[0]), float(middle[1]), float(middle[2])), reach + 4)
        if part.hu.size == 0:
            continue
        tube = both(part.tube(tuple(start), tuple(end), radius, 0.7 * radius), free[box])
        part.paint(tube, 0.5 * (patient.tissue.vein + patient.tissue.muscle), opacity=0.8)
