"""The grid of an image file as the user states it, for a header that does not."""

import re
from dataclasses import dataclass

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.geometry import Array

_SIDES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
"""The axis of LPS that a side of the body lies on, and its sign."""
EXAMPLE = "LPS:0.8x0.8x2.5"


@dataclass(frozen=True)
class StatedGrid:
    """Axes and voxel sizes, the fastest axis of the file first.

    Args:
        axes: Three letters of `RLAPIS`: the side of the body towards which each axis grows.
        spacing_mm: The distance of voxels along each axis, above 0.
    """

    axes: str
    spacing_mm: tuple[float, float, float]

    def __str__(self) -> str:
        """Return the text that `parse_grid` reads."""
        return f"{self.axes}:{'x'.join(f'{value:g}' for value in self.spacing_mm)}"

    def affine(self) -> Array:
        """Return the 4 x 4 matrix to LPS millimetres; the first voxel of the file lies at the origin."""
        matrix = np.zeros((4, 4))
        for column, (letter, step) in enumerate(zip(self.axes, self.spacing_mm, strict=True)):
            axis, sign = _SIDES[letter]
            matrix[axis, column] = sign * step
        matrix[3, 3] = 1
        return matrix


def parse_grid(text: str) -> StatedGrid:
    """Read a grid such as `"LPS:0.8x0.8x2.5"`.

    Raises:
        DataError: If the text has another form, if two axes are the same, or if a size is not from 0.001 to 1000 mm
            (code `USAGE`).
    """
    match = re.fullmatch(r"([RLAPIS]{3}):([\d.]+)x([\d.]+)x([\d.]+)", text.strip())
    if match and {_SIDES[letter][0] for letter in match[1]} == {0, 1, 2}:
        sizes = [
            float(size) if re.fullmatch(r"\d+\.?\d*|\.\d+", size) else 0.0 for size in match.groups()[1:]
        ]
        if all(1e-3 <= size <= 1e3 for size in sizes):
            return StatedGrid(match[1], (sizes[0], sizes[1], sizes[2]))
    expected = "three axes and three voxel sizes in mm, the fastest axis first"
    raise DataError("USAGE", f"the grid {text[:40]!r}", expected, f"write for example {EXAMPLE}")
