"""The liver: its shape, gall bladder, vessels and lesions."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from kerasbalance.data.phantom.body import Body
from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import Array, Point, Scene, both
from kerasbalance.data.phantom.vessels import cava_at, cava_shape

LIVER = 1

_VEIN_CONTRAST = {"portal": (30, 50), "arterial": (8, 25), "none": (-16, -8)}
"""Hounsfield units of the veins above those of the tissue (low, high)."""

# Trees: root, radius, and where branches end, in half widths, half depths and liver heights (downwards).
_VEINS = (
    ("portal", 5.8, ((-0.75, 0.1, 0.45), (-0.72, 0.15, 0.75), (-0.6, -0.45, 0.6), (-0.55, 0.4, 0.55))),
    ("portal", 5.2, ((0.1, -0.45, 0.4), (0.0, -0.6, 0.5), (-0.3, -0.6, 0.35), (-0.7, -0.2, 0.85))),
    ("hepatic", 5.4, ((-0.75, -0.05, 0.35), (-0.45, -0.5, 0.45), (0.12, -0.5, 0.3), (-0.7, 0.3, 0.3))),
)
LESION_TRIES = 40


@dataclass(frozen=True)
class Build:
    """How one liver deviates from the mean.

    Args:
        reach: Where the left lobe ends, in half widths from the midline.
        left_depth: How far down the left lobe hangs, as a share of the liver's height.
        nodular: Millimetres of surface roughness.
        gallbladder: Radii in millimetres, or None where it was removed.
    """

    reach: float
    left_depth: float
    nodular: float
    gallbladder: Point | None


def draw_build(rng: np.random.Generator, patient: Patient) -> Build:
    """Draw one liver; an atypical one has a very large or a missing left lobe and a rough surface."""
    reach, left_depth, nodular = rng.uniform(0.18, 0.42), rng.uniform(0.52, 0.66), 0.8
    if "atypical" in patient.kinds:
        large = rng.random() < 0.5
        reach = rng.uniform(0.55, 0.72) if large else rng.uniform(-0.02, 0.08)
        left_depth = rng.uniform(0.75, 0.9) if large else rng.uniform(0.4, 0.5)
        nodular = rng.uniform(1.5, 3.0)
    radii = (rng.uniform(11, 17), rng.uniform(13, 22), rng.uniform(20, 32))
    return Build(reach, left_depth, nodular, radii if rng.random() < 0.85 else None)


def hilum_of(patient: Patient) -> Point:
    """Where the portal vein enters."""
    return -0.16 * patient.half_width, -0.02 * patient.half_depth, -0.55 * patient.liver_height


def liver_shape(scene: Scene, patient: Patient, body: Body, build: Build) -> Array:
    """Signed distance to the liver: under the diaphragm, inside the wall, above its visceral surface.

    Args:
        scene: Where to work it out.
        patient: Build and pose.
        body: Cavity and diaphragm.
        build: This liver's shape.
    """
    visceral = _visceral_height(scene, patient, build) + 9 * body.plane
    steepness = np.hypot(*np.gradient(visceral, scene.pixel_mm))
    above = (scene.z - visceral[None]) / np.sqrt(1 + steepness * steepness)[None]
    above = above + 2.2 * body.coarse + build.nodular * body.fine
    gap = 2.5 + 5 * patient.visceral
    shape = both(body.cavity - gap, body.below_diaphragm - 3, 3)
    shape = both(shape, above.astype(np.float32), 4)
    retro_y = scene.y - patient.spine_y
    shape = both(shape, np.sqrt((0.85 * scene.x) ** 2 + retro_y**2) - patient.spine_radius - 15, 3)
    shape = both(shape, -cava_shape(scene, patient, 10.0) - 0.5)
    return both(shape, _fissures(scene, patient, body), 2)


def _visceral_height(scene: Scene, patient: Patient, build: Build) -> Array:
    """Height `(rows, columns)` of the lower surface: lowest at the right flank, rising left and behind."""
    side = np.clip(scene.x[0] / patient.half_width, -1.1, 1.1)
    behind = scene.y[0] / patient.half_depth
    reach = build.reach
    knots = [-1.1, -0.85, -0.55, -0.30, min(-0.08, reach - 0.2), reach - 0.1, reach, reach + 0.14, 1.2]
    depth = [
        1.0,
        1.0,
        0.93,
        0.80,
        build.left_depth,
        0.8 * build.left_depth,
        0.6 * build.left_depth,
        0.0,
        -0.2,
    ]
    profile = PchipInterpolator(knots, depth)(side)
    limit = PchipInterpolator([-1.1, -0.5, -0.25, 0.0, 0.35, 1.2], [0.9, 0.75, 0.38, 0.08, -0.12, -0.2])(side)
    front = 1 / (1 + np.exp(-(limit - behind) / 0.08))
    renal = 1 - 0.22 / (1 + np.exp(-(behind - 0.30) / 0.10))
    return np.asarray(-patient.liver_height * profile * front * renal, np.float32)


def _fissures(scene: Scene, patient: Patient, body: Body) -> Array:
    """What is cut out: the fissure of the round ligament, that of the venous ligament, and the hilum."""
    a, b, height = patient.half_width, patient.half_depth, patient.liver_height
    x, y, z = hilum_of(patient)
    level = (scene.z + 0.46 * height) / 3
    sheet = np.abs(scene.x - 0.02 * a - 0.12 * (scene.y + 0.3 * b) + 3 * body.coarse) - 1.8 - body.fine
    round_ligament = np.maximum(np.maximum(sheet, level), np.abs(scene.y + 0.36 * b) - 0.26 * b)
    venous = np.abs(scene.y + 0.12 * b + 0.25 * (scene.x - x) + 5 * body.coarse) - 1.0 - body.fine
    venous = np.maximum(
        np.maximum(venous, np.abs(scene.x - x - 0.14 * a) - 0.17 * a), np.abs(scene.z - 0.8 * z) - 16
    )
    hilum = -scene.ellipsoid((x + 6, y + 4, z), (0.12 * a, 14, 17))
    return np.asarray(np.minimum(np.minimum(round_ligament, venous), hilum))


def gallbladder_shape(scene: Scene, patient: Patient, build: Build) -> Array | None:
    """Signed distance to the gall bladder, None where there is none."""
    if build.gallbladder is None:
        return None
    centre = (-0.27 * patient.half_width, -0.26 * patient.half_depth, -0.74 * patient.liver_height)
    return scene.ellipsoid(centre, build.gallbladder, (0.0, 0.35))


def paint_gallbladder(scene: Scene, patient: Patient, shape: Array, rng: np.random.Generator) -> None:
    """Paint the wall and the bile."""
    scene.paint(shape, patient.tissue.muscle)
    scene.paint(shape - 1.8, rng.uniform(2, 16))


def paint_liver(scene: Scene, patient: Patient, body: Body, shape: Array, rng: np.random.Generator) -> None:
    """Paint the tissue, the portal and hepatic veins, patches of fat, and lesions where the case has them."""
    liver = patient.tissue.liver
    scene.paint(shape, liver + 3 * body.fine, LIVER)
    if "fatty" in patient.kinds:
        patches = np.clip(body.coarse - 0.3, 0, 1) * 0.6
        scene.paint(shape, liver - rng.uniform(5, 16), None, patches)
    _paint_veins(scene, patient, shape, rng)
    _paint_lesions(scene, patient, body, shape, rng)


def _paint_veins(scene: Scene, patient: Patient, shape: Array, rng: np.random.Generator) -> None:
    """Paint trees of tapering tubes: each forks once, so that three twigs end near each target."""
    change = rng.uniform(*_VEIN_CONTRAST[patient.phase])
    if "fatty" in patient.kinds:
        change = max(change, patient.tissue.vein - patient.tissue.liver - 25)
    hu = patient.tissue.liver + change
    roots = {"portal": hilum_of(patient), "hepatic": cava_at(patient, -0.16 * patient.liver_height)}
    extent = np.array((patient.half_width, patient.half_depth, -patient.liver_height))
    for root, radius, targets in _VEINS:
        for target in targets:
            jitter = rng.normal(0, 9, (4, 3))
            stem = _between(roots[root], extent * target, 0.45, jitter[0])
            _paint_branch(scene, shape, (roots[root], stem), (radius, 0.7 * radius), hu)
            for share, shift in zip((1.0, 0.95, 0.8), 2 * jitter[1:], strict=True):
                tip = _between(roots[root], extent * target, share, shift)
                _paint_branch(scene, shape, (stem, tip), (0.65 * radius, 1.3), hu)


def _between(start: Point, end: Point | tuple[float, ...] | Array, share: float, shift: Array) -> Point:
    x, y, z = np.asarray(start) + share * np.subtract(end, start) + shift
    return float(x), float(y), float(z)


def _paint_branch(
    scene: Scene, shape: Array, ends: tuple[Point, Point], radii_mm: tuple[float, float], hu: float
) -> None:
    start, end = ends
    middle = _between(start, end, 0.5, np.zeros(3))
    part, box = scene.near(middle, 0.5 * float(np.linalg.norm(np.subtract(start, end))) + 5)
    tube = both(part.tube(start, end, *radii_mm), shape[box] - 3)
    # A vessel thinner than a pixel still changes it, in proportion.
    part.paint(tube, hu, None, min(1.0, 2 * radii_mm[1] / part.pixel_mm + 0.3))


def _paint_lesions(
    scene: Scene, patient: Patient, body: Body, shape: Array, rng: np.random.Generator
) -> None:
    """Paint tilted, lobed lesions: many, the first one large, where the case is of that kind."""
    many = "lesions" in patient.kinds
    count = int(rng.integers(3, 11)) if many else int(rng.integers(1, 3)) * (rng.random() < 0.12)
    a, b, height = patient.half_width, patient.half_depth, patient.liver_height
    places = rng.uniform(
        (-0.85 * a, -0.7 * b, -0.95 * height), (0.2 * a, 0.6 * b, -0.08 * height), (LESION_TRIES, 3)
    )
    draws = rng.uniform(0, 1, (LESION_TRIES, 8))
    painted = 0
    for place, draw in zip(places, draws, strict=True):
        if painted == count:
            break
        low, spread = (4, 5) if not many else (26, 22) if painted == 0 else (6, 15)
        size = low + spread * draw[0]
        painted += _paint_lesion(scene, patient, body, shape, (place, size, draw))


def _paint_lesion(
    scene: Scene, patient: Patient, body: Body, shape: Array, lesion: tuple[Array, float, Array]
) -> bool:
    """Paint one lesion if its centre lies well inside the liver; return whether it did."""
    place, size, draw = lesion
    voxel = tuple(
        int(np.abs(axis - at).argmin())
        for axis, at in zip((scene.z_mm, scene.y_mm, scene.x_mm), place[::-1], strict=True)
    )
    if shape[voxel] < 3:
        return False
    centre = (float(scene.x[voxel]), float(scene.y[voxel]), float(scene.z[voxel]))
    part, box = scene.near(centre, 1.7 * size)
    radii = (size * (0.75 + 0.6 * draw[1]), size * (0.75 + 0.6 * draw[2]), size * (0.7 + 0.5 * draw[3]))
    lobes = 0.20 * size * body.fine[box] + 0.12 * size * body.coarse[box]
    inside = both(part.ellipsoid(centre, radii, (draw[4] - 0.5, draw[5] - 0.5)) + lobes, shape[box] + 1.0)
    hu = patient.tissue.liver - 18 - 45 * draw[6] if draw[7] < 0.8 else 6 + 10 * draw[6]
    part.paint(inside, hu + 3 * body.fine[box], LIVER)
    if size > 18:
        part.paint(inside - 0.4 * size, hu - 22, None)
    return True
