"""What the scanner adds: blur, noise along the thick paths, streaks, and the table."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import AIR_HU, Array, Point, Scene

MAX_HU = 1600
RAYS = (2, 4, 6, 10, 14)
"""How many bright rays each harmonic of a streak pattern has."""


def acquire(
    scene: Scene, depth_mm: Array, patient: Patient, anatomy: np.random.Generator, noise: np.random.Generator
) -> Array:
    """Turn a painted scene into what a scanner would give.

    Args:
        scene: The painted scene; its `hu` is used up.
        depth_mm: Signed distance to the skin.
        patient: The patient who was scanned.
        anatomy: Draws what belongs to the scan (dose, where metal lies), alike at every size.
        noise: Draws the noise, which depends on the sampling.

    Returns:
        float32 `(slices, rows, columns)` Hounsfield units.
    """
    _table(scene, depth_mm, patient)
    low_dose = "lowdose" in patient.kinds
    level = anatomy.uniform(20, 34) if low_dose else anatomy.uniform(4, 10)
    metal = [_draw_metal(anatomy, patient) for _ in range(2)] if "streak" in patient.kinds else []
    blur = float(np.hypot(0.32, 0.7 / scene.pixel_mm))
    along = 0.35 * min(1.0, 4 / patient.slice_step)
    hu = gaussian_filter(np.clip(scene.hu, AIR_HU, MAX_HU), (along, blur, blur))
    strength = _noise_strength(hu, depth_mm, patient.half_depth)
    hu += level * strength * _grain(noise, hu.shape, 0.5 if scene.pixel_mm > 2 else 1.0 / scene.pixel_mm)
    if low_dose:
        lines = gaussian_filter(noise.standard_normal(hu.shape, np.float32), (0, 0.4, 6))
        hu += lines / lines.std() * (0.4 * level) * (depth_mm > 0)
    for place in metal:
        _streaks(hu, scene, depth_mm, place)
    return np.asarray(hu)


def _table(scene: Scene, depth_mm: Array, patient: Patient) -> None:
    back = patient.half_depth + 7 - 0.0004 * scene.x**2
    outside = -depth_mm - 2
    shell = max(2.2, 0.7 * scene.pixel_mm) - np.abs(scene.y - back)
    scene.paint(np.minimum(shell, outside), 120.0, label=None)
    scene.paint(
        np.minimum(np.minimum(scene.y - back - 1.5, back + 26 - scene.y), outside), -940.0, label=None
    )


def _noise_strength(hu: Array, depth_mm: Array, half_depth: float) -> Array:
    """More noise in the middle and in rows where the rays cross much tissue."""
    path = np.clip((hu > -300).mean(2, keepdims=True, dtype=np.float32), 0.2, 1)
    centre = np.clip(depth_mm / half_depth, 0, 1)
    return np.asarray((0.35 + centre) * (0.6 + 0.9 * path), np.float32)


def _grain(noise: np.random.Generator, shape: tuple[int, ...], blur: float) -> Array:
    grain = gaussian_filter(noise.standard_normal(shape, np.float32), (0, blur, blur))
    return np.asarray(grain / grain.std())


@dataclass(frozen=True, eq=False)
class Metal:
    """A piece of metal (a clip, a lead, a stent) and the rays that leave it.

    Args:
        centre: `(x, y, z)`.
        height: How far along z its rays are seen, millimetres.
        strength: Hounsfield units beside it.
        weights: One for each of `RAYS`.
        angles: Likewise, radians.
    """

    centre: Point
    height: float
    strength: float
    weights: Array
    angles: Array


def _draw_metal(rng: np.random.Generator, patient: Patient) -> Metal:
    """Place one piece near the liver."""
    x = rng.uniform(-0.55, 0.3) * patient.half_width
    y = rng.uniform(-0.4, 0.5) * patient.half_depth
    z = -rng.uniform(0.15, 0.85) * patient.liver_height
    height, strength = rng.uniform(12, 30), rng.uniform(60, 125)
    weights, angles = rng.normal(0, 1, len(RAYS)), rng.uniform(0, 2 * np.pi, len(RAYS))
    return Metal((x, y, z), height, strength, weights.astype(np.float32), angles.astype(np.float32))


def _streaks(hu: Array, scene: Scene, depth_mm: Array, metal: Metal) -> None:
    """Add rays that fade with the distance from the metal, bright and dark in turn."""
    fade = np.exp(-(((scene.z_mm - metal.centre[2]) / metal.height) ** 2))
    touched = np.flatnonzero(fade > 0.02)
    if not len(touched):
        return
    slices = slice(touched[0], touched[-1] + 1)
    x, y = scene.x_mm[None, :] - metal.centre[0], scene.y_mm[:, None] - metal.centre[1]
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    rays = sum(
        weight * np.cos(order * angle + shift)
        for order, weight, shift in zip(RAYS, metal.weights, metal.angles, strict=True)
    )
    rays = rays * metal.strength / (1 + distance / 45)
    hu[slices] += fade[slices, None, None] * rays * (depth_mm[slices] > 0)
    core = max(4.0, 0.75 * scene.pixel_mm)
    hu[slices][(distance < core)[None] & (fade[slices, None, None] > 0.3)] = 1500
