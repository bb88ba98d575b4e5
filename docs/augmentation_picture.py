"""Draw docs/augmentation.png, each change of `kb.Augmentation` alone: python docs/augmentation_picture.py."""

import dataclasses
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import kerasbalance as kb
from kerasbalance.data.phantom.case import make_case

PICTURE = Path(__file__).with_name("augmentation.png")
SIDE, COLUMNS, CAPTION = 180, 4, 16
OFF = {field.name: 0.0 for field in dataclasses.fields(kb.Augmentation) if field.name.endswith("_share")}
PANELS = {
    "as it is": {},
    "rotate_deg, scale, shift": {"geometry_share": 1.0, "rotate_deg": 30.0, "scale": (0.85, 0.85)},
    "contrast, brightness": {"contrast_share": 1.0, "contrast": (1.6, 1.6), "brightness": 60.0},
    "noise": {"noise_share": 1.0, "noise": 150.0},
    "blur_px": {"blur_share": 1.0, "blur_px": (1.5, 1.5)},
    "low_resolution": {"low_resolution_share": 1.0, "low_resolution": (0.3, 0.3)},
    "gamma 0.6 in the window": {"gamma_share": 1.0, "gamma": (0.6, 0.6)},
    "gamma 1.8 in the window": {"gamma_share": 1.0, "gamma": (1.8, 1.8)},
}
"""What each panel changes, a little more than by default so that it can be seen."""


def contents() -> bytes:
    """Return the picture as PNG; the same code and OpenCV give the same bytes."""
    case = make_case(3, size=SIDE)
    number = int(case.mask("liver").sum(axis=(1, 2)).argmax())
    x, y = case.hu[None, number, ..., None], case.mask("liver")[None, number, ..., None].astype(np.uint8)
    rows = -(-len(PANELS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, options) in enumerate(PANELS.items()):
        row, column = divmod(place, COLUMNS)
        corner = (column * SIDE, row * (SIDE + CAPTION))
        changed = kb.Augmentation(**{**OFF, **options})(x, y, np.random.default_rng(2))
        sheet.paste(
            Image.fromarray(_shown(*(part[0, ..., 0] for part in changed))), (corner[0], corner[1] + CAPTION)
        )
        draw.text((corner[0] + 3, corner[1] + 2), caption, "black", ImageFont.load_default(11))
    buffer = BytesIO()
    sheet.quantize(64, method=Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _shown(hu: NDArray[np.int16], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the window of -150 to 250 HU in grey, with the border of the mask in blue."""
    grey = np.clip((hu.astype(float) + 150) / 400 * 255, 0, 255).astype(np.uint8)
    colours = np.stack([grey] * 3, axis=-1)
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    colours[(mask > 0) & (inner == 0)] = (30, 120, 255)
    return colours


if __name__ == "__main__":
    PICTURE.write_bytes(contents())
