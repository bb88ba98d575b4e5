"""Metrics of one case against MONAI and DeepMind's surface-distance, with their values side by side."""

import warnings
from collections.abc import Callable

import numpy as np
from measure import Row, peer, take_turns

from kerasbalance.evaluation.cases import CaseMetrics, evaluate_case

SPACING = (2.0, 0.7, 0.7)
TOLERANCE = 2.0


def make_masks(slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a reference of the size of a liver that differ in shape and place."""
    z, y, x = np.ogrid[: float(slices), : float(size), : float(size)]

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        parts = [
            ((axis - c * n) / (r * n)) ** 2
            for axis, c, r, n in zip((z, y, x), centre, radii, (slices, size, size), strict=True)
        ]
        return sum(parts) < 1

    reference = ellipsoid((0.50, 0.45, 0.40), (0.26, 0.17, 0.23))
    return ellipsoid((0.51, 0.455, 0.41), (0.25, 0.172, 0.228)), reference


def scatter(mask: np.ndarray) -> np.ndarray:
    """Return the mask with false positives all over the volume, one in two thousand voxels."""
    return mask ^ (np.random.default_rng(0).random(mask.shape, np.float32) < 5e-4)


def run(slices: int = 200, size: int = 512, repeats: int = 3) -> list[Row]:
    """Return the figures; refuse to compare speeds where MONAI's values are others."""
    prediction, reference = make_masks(slices, size)
    rows = []
    for name, mask in (("smooth", prediction), ("scattered false positives", scatter(prediction))):
        rows += _compare(f"{slices} x {size} x {size}, {name}", mask, reference, repeats)
    return rows


def _compare(label: str, prediction: np.ndarray, reference: np.ndarray, repeats: int) -> list[Row]:
    def ours() -> CaseMetrics:
        return evaluate_case(prediction, reference, SPACING)

    peers = _peers(prediction, reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI deprecates an argument that it passes itself
        if "MONAI" in peers:
            found = ours()
            # MONAI ranks the percentile in float32, and its mean distance counts the volume's edge as surface.
            np.testing.assert_allclose(
                [found.dice, found.hd95_mm, found.nsd], peers["MONAI"]()[:3], rtol=1e-5
            )
        spent = take_turns({"ours": ours, **peers}, repeats)
    own = spent.pop("ours")
    unit = f"times as fast ({own:.2f} CPU s)"
    return [
        Row(cost / own, f"evaluate: {label}, against {name}", unit, ">= 5" if name == "MONAI" else "")
        for name, cost in spent.items()
    ]


def _peers(prediction: np.ndarray, reference: np.ndarray) -> dict[str, Callable[[], list[float]]]:
    peers: dict[str, Callable[[], list[float]]] = {}
    with peer("monai"):
        import monai.metrics
        import torch

        pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        peers["MONAI"] = lambda: _monai(monai.metrics, pair)
    with peer("surface-distance"):
        import surface_distance

        peers["surface-distance"] = lambda: _deepmind(surface_distance, prediction, reference)
    with peer("medpy"):
        from medpy.metric import binary

        peers["medpy (HD95 only)"] = lambda: [binary.hd95(prediction, reference, SPACING)]
    return peers


def _monai(metrics: object, pair: list[object]) -> list[float]:
    options = {"include_background": True, "spacing": SPACING}
    found = (
        metrics.compute_dice(*pair, include_background=True),
        metrics.compute_hausdorff_distance(*pair, percentile=95, **options),
        metrics.compute_surface_dice(*pair, class_thresholds=[TOLERANCE], **options),
        metrics.compute_average_surface_distance(*pair, symmetric=True, **options),
    )
    return [float(value) for value in found]


def _deepmind(package: object, prediction: np.ndarray, reference: np.ndarray) -> list[float]:
    # Its surfaces are weighted by area, so the values are others.
    distances = package.compute_surface_distances(reference, prediction, SPACING)
    return [
        package.compute_dice_coefficient(reference, prediction),
        package.compute_robust_hausdorff(distances, 95),
        package.compute_surface_dice_at_tolerance(distances, TOLERANCE),
        float(np.mean(package.compute_average_surface_distance(distances))),
    ]
