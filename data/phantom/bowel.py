"""Bowel and mesentery: what fills the rest of the abdomen."""

import itertools

import numpy as np

from kerasbalance.data.phantom.body import Body
from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Point, Scene, both

CONTENTS = ("fluid", "gas", "contrast", "stool", "collapsed")
ATTEMPTS_PER_LITRE = 110


def paint_bowel(scene: Scene, patient: Patient, body: Body, free: Array, rng: np.random.Generator) -> None:
    """Paint mesenteric vessels, loops of small bowel and the colon's frame.

    Args:
        scene: what to paint into.
        patient: build.
        body: cavity and fields.
        free: signed distance, positive where no other organ lies.
        rng: draws places, sizes and contents.
    """
    _paint_mesentery(scene, patient, free, rng)
    contrast = rng.random() < 0.35
    weights = np.array([0.42, 0.14, 0.0, 0.0, 0.44]) if not contrast else np.array([0.2, 0.1, 0.4, 0.0, 0.3])
    for centre, size in _draw_loops(patient, rng):
        content = str(rng.choice(CONTENTS, p=weights))
        _paint_loop(scene, patient, body, free, (centre, size, content), rng)
    for centre, size in _colon_course(patient, rng):
        content = str(rng.choice(CONTENTS, p=(0.08, 0.37, 0.0, 0.5, 0.05)))
        _paint_loop(scene, patient, body, free, (centre, size, content), rng)


def _draw_loops(patient: Patient, rng: np.random.Generator) -> list[tuple[Point, float]]:
    """Throw loops into the abdomen, keeping those that do not overlap: the leaner the patient, the closer."""
    a, b, height = patient.half_width, patient.half_depth, patient.trunk_height
    low = (-0.72 * a, -0.72 * b, patient.bottom - 15)
    high = (0.72 * a, 0.30 * b, -0.62 * height)
    attempts = int(ATTEMPTS_PER_LITRE * np.prod(np.subtract(high, low)) / 1e6)
    places = rng.uniform(low, high, (attempts, 3))
    sizes = rng.uniform(11, 18, attempts)
    spread = 0.62 + 0.40 * patient.visceral
    kept: list[int] = []
    for number in range(attempts):
        gaps = np.linalg.norm((places[kept] - places[number]) * (1, 1, 0.8), axis=1)
        if np.all(gaps > spread * (sizes[kept] + sizes[number])):
            kept.append(number)
    return [((float(x), float(y), float(z)), float(sizes[n])) for n in kept for x, y, z in [places[n]]]


def _colon_course(patient: Patient, rng: np.random.Generator) -> list[tuple[Point, float]]:
    """Pouches of the colon along the right flank, across the front and down the left flank."""
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
    pouches = []
    for start, end in itertools.pairwise(corners):
        count = int(np.linalg.norm(end - start) / 26) + 1
        for step in range(count):
            x, y, z = start + (end - start) * step / count + rng.normal(0, 4, 3)
            pouches.append(((float(x), float(y), float(z)), float(rng.uniform(16, 23))))
    return pouches


def _paint_loop(
    scene: Scene,
    patient: Patient,
    body: Body,
    free: Array,
    loop: tuple[Point, float, str],
    rng: np.random.Generator,
) -> None:
    """Paint one loop: an irregular bag with a wall, its content and a fluid level where it holds gas."""
    (x, y, z), size, content = loop
    stretch = rng.uniform(0.75, 1.45, 3)
    lean = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.4, 0.4)))
    tone, level = rng.uniform(0, 1), y + rng.uniform(-0.5, 0.4) * size
    part, box = scene.near((x, y, z), 1.5 * size)
    if part.hu.size == 0:
        return
    fine, coarse = body.fine[box], body.coarse[box]
    radii = (size * stretch[0], size * stretch[1], size * stretch[2])
    bag = part.ellipsoid((x, y, z), radii, lean) + 0.16 * size * fine + 0.10 * size * coarse
    bag = both(bag, both(free[box], body.cavity[box] - 3))
    if not (bag > -part.pixel_mm).any():
        return
    part.paint(bag, patient.tissue.muscle + 8 * (patient.phase != "none") + 9 * fine)
    lumen = bag - (2.2 if content != "collapsed" else 0.45 * size) - 1.2 * np.abs(fine)
    if content == "stool":
        part.paint(lumen, 10 + 40 * fine)
        part.paint(both(lumen - 1, 4 * (fine * coarse - 0.6)), -700.0)
        return
    part.paint(lumen, (180 + 100 * tone if content == "contrast" else 18 + 30 * tone) + 10 * fine)
    if content == "gas":
        part.paint(both(lumen, level - part.y), -900.0)


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
