"""What the scanner adds: blur, noise along the thick paths, streaks, and the table."""

import numpy as np
from scipy.ndimage import gaussian_filter

from kerasbalance.data.phantom.patient import Patient
from kerasbalance.data.phantom.scene import AIR_HU, Array, Scene

MAX_HU = 1600


def acquire(
    scene: Scene, depth_mm: Array, patient: Patient, anatomy: np.random.Generator, noise: np.random.Generator
) -> Array:
    """Turn a painted scene into what a scanner would give.

    Args:
        scene: the painted scene; its `hu` is used up.
        depth_mm: signed distance to the skin.
        patient: who was scanned.
        anatomy: draws what belongs to the scan (dose, where metal lies), alike at every size.
        noise: draws the noise, which depends on the sampling.

    Returns:
        float32 `(slices, rows, columns)` Hounsfield units.
    """
    _table(scene, depth_mm, patient)
    low_dose = "lowdose" in patient.kinds
    level = anatomy.uniform(20, 34) if low_dose else anatomy.uniform(4, 10)
    metal = [_draw_metal(anatomy, patient) for _ in range(2)] if "streak" in patient.kinds else []
    blur = float(np.hypot(0.38, 0.7 / scene.pixel_mm))
    along = 0.35 * min(1.0, 4 / patient.slice_step)
    hu = gaussian_filter(np.clip(scene.hu, AIR_HU, MAX_HU), (along, blur, blur))
    strength = _noise_strength(hu, depth_mm, patient.half_depth)
    hu += level * strength * _grain(noise, hu.shape, 0.5 if scene.pixel_mm > 2 else 1.0 / scene.pixel_mm)
    if low_dose:
        lines = gaussian_filter(noise.standard_normal(hu.shape, np.float32), (0, 0.4, 6))
        hu += lines / lines.std() * (0.4 * level) * (depth_mm > 0)
    for place in metal:
        _streaks(hu, scene, depth_mm, place)
    return hu


def _table(scene: Scene, depth_mm: Array, patient: Patient) -> None:
    back = patient.half_depth + 7 - 0.0004 * scene.x**2
    outside = -depth_mm - 2
    shell = 2.2 - np.abs(scene.y - back)
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


def _draw_metal(rng: np.random.Generator, patient: Patient) -> dict[str, Array | float]:
    """Place one piece of metal (a clip, a lead, a stent) near the liver."""
    return {
        "x": rng.uniform(-0.55, 0.3) * patient.half_width,
        "y": rng.uniform(-0.4, 0.5) * patient.half_depth,
        "z": -rng.uniform(0.15, 0.85) * patient.liver_height,
        "height": rng.uniform(12, 30),
        "strength": rng.uniform(70, 150),
        "weights": rng.normal(0, 1, 5).astype(np.float32),
        "angles": rng.uniform(0, 2 * np.pi, 5).astype(np.float32),
    }


def _streaks(hu: Array, scene: Scene, depth_mm: Array, metal: dict[str, Array | float]) -> None:
    """Add rays that fade with the distance from the metal, bright and dark in turn."""
    fade = np.exp(-(((scene.z_mm - metal["z"]) / metal["height"]) ** 2))
    touched = np.flatnonzero(fade > 0.02)
    if not len(touched):
        return
    rows = slice(touched[0], touched[-1] + 1)
    x, y = scene.x_mm[None, :] - metal["x"], scene.y_mm[:, None] - metal["y"]
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    rays = np.zeros_like(angle)
    for order, weight, shift in zip((2, 4, 6, 10, 14), metal["weights"], metal["angles"], strict=True):  # type: ignore[arg-type]
        rays += weight * np.cos(order * angle + shift)
    rays *= metal["strength"] / (1 + distance / 45)
    hu[rows] += fade[rows, None, None] * rays * (depth_mm[rows] > 0)
    core = np.maximum(4.0, 0.75 * scene.pixel_mm)
    hu[rows][(distance < core)[None] & (fade[rows, None, None] > 0.3)] = 1500
