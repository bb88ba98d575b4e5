"""How strongly a run changes its slices at random: one entry a strength, with its words. A new one is one entry."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import kerasbalance as kb
from kerasbalance.data.errors import DataError


@dataclass(frozen=True)
class Strength:
    """One strength of augmentation.

    Args:
        name: The word for it in options and files.
        make: Makes the augmentation for an HU window; None for slices as they are.
        help: A sentence for `--help`.
        arm: The name of the arm of a study that uses it; empty where there is none.
        meaning: What that arm trains on.
    """

    name: str
    make: "Callable[[tuple[float, float]], kb.Augmentation] | None"
    help: str
    arm: str = ""
    meaning: str = ""


def _light(window_hu: tuple[float, float]) -> "kb.Augmentation":
    return kb.Augmentation(window=window_hu)


def _nnunet(window_hu: tuple[float, float]) -> "kb.Augmentation":
    """Return nnU-Net's kinds, shares and ranges for 2D, without its mirroring; noise and brightness are in HU here."""
    return kb.Augmentation(
        geometry_share=0.36, rotate_deg=180.0, scale=(0.7, 1.4), shift=0.0,
        contrast_share=0.3, contrast=(0.75, 1.25), brightness=20.0,
        noise_share=0.1, noise=20.0, blur_share=0.2, blur_px=(0.5, 1.0),
        low_resolution_share=0.25, low_resolution=(0.5, 1.0),
        gamma_share=0.4, gamma=(0.7, 1.5), window=window_hu,
    )  # fmt: skip


STRENGTHS = {
    strength.name: strength
    for strength in (
        Strength("none", None, "Slices as they are."),
        Strength(
            "light", _light, "A fifth of the slices is turned by up to 15 degrees, scaled and shifted; fewer get other "
            "contrast, noise, blur, low resolution or a gamma curve.",
            arm="augment", meaning="all cases, slices changed at random (light)",
        ),
        Strength(
            "nnunet", _nnunet, "The kinds and ranges of nnU-Net's 2D training: turned by any angle, scaled by 0.7 to "
            "1.4, and stronger changes of the values; not mirrored.",
        ),
    )
}  # fmt: skip


def check_strength(name: str) -> None:
    """Refuse what cannot be done here, before anything is written.

    Args:
        name: One of `STRENGTHS`.

    Raises:
        DataError: If OpenCV is needed and not installed (code `USAGE`).
    """
    if STRENGTHS[name].make is not None and importlib.util.find_spec("cv2") is None:
        raise DataError("USAGE", f"--augment {name} without the package opencv-python-headless", "it to be installed",
                        "pip install 'kerasbalance[augment]', or leave out --augment")  # fmt: skip


def make_augmentation(name: str, window_hu: tuple[float, float]) -> "kb.Augmentation | None":
    """Return what changes the batches of a run, None for slices as they are.

    Raises:
        DataError: As `check_strength`.
    """
    check_strength(name)
    make = STRENGTHS[name].make
    return None if make is None else make(window_hu)
