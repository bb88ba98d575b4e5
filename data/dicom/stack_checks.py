"""The checks of a sorted stack. Each has its own code and a relaxation by name."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from kerasbalance.data.dicom.stack import Slice, grid_of, normal_of
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.volume.geometry import REGULAR_TOLERANCE, Array

TILT_LIMIT_DEG = 0.1
LEAST_TOLERANCE_MM = 0.05
HU_TYPES = ("", "HU", "HU_MOD")

Problem = tuple[str, DataError]


def check_stack(slices: Sequence[Slice], allow: frozenset[str]) -> tuple[list[DataError], list[Note]]:
    """Check a sorted stack as a whole.

    Args:
        slices: The images, sorted, without doubles.
        allow: Relaxations by name, see `checks.RELAXATIONS`.

    Returns:
        The errors, and notes: what `allow` turned into one, lossy compression, values that may not be HU.
    """
    errors: list[DataError] = []
    notes: list[Note] = []
    for relaxation, error in _problems(slices):
        if relaxation in allow:
            notes.append(Note(error.code, f"allowed ({relaxation}): {error.received}", loud=True))
        else:
            errors.append(error)
    lossy = sum(item.header.lossy for item in slices)
    if lossy:
        notes.append(Note("LOSSY", f"{lossy} images were compressed with loss"))
    other = sum(item.header.rescale_type not in HU_TYPES for item in slices)
    if other:
        text = f"{other} images have a RescaleType other than HU: their values may be no Hounsfield units"
        notes.append(Note("RESCALE_TYPE", text, loud=True))
    return errors, notes


def _problems(slices: Sequence[Slice]) -> Iterator[Problem]:
    burned = next((item for item in slices if item.header.burned_in), None)
    if burned is not None:
        yield "burned-in", burned.refused("BURNED_IN", "BurnedInAnnotation YES", "images without annotation",
                                          "check for names in the pixels, then pass --allow burned-in")  # fmt: skip
    normal = normal_of(slices)
    if abs(normal[2]) < np.cos(np.pi / 4):
        plane = "sagittal" if abs(normal[0]) > abs(normal[1]) else "coronal"
        yield "nonaxial", slices[0].refused("NON_AXIAL", f"{plane} slices", "axial slices",
                                            "name the axial series, or pass --allow nonaxial")  # fmt: skip
    if len(slices) == 1:
        yield "single", slices[0].refused("ONE_IMAGE", "a series of one image", "at least two",
                                          "name the folder of the series, or pass --allow single")  # fmt: skip
        return
    yield from _spacing_problems(slices, normal)
    yield from _phase_problems(slices)


def _spacing_problems(slices: Sequence[Slice], normal: Array) -> Iterator[Problem]:
    positions = grid_of(slices).positions_mm
    steps = np.diff(positions @ normal)
    median = float(np.median(steps))
    tolerance = max(LEAST_TOLERANCE_MM, REGULAR_TOLERANCE * median)
    uneven = np.abs(steps - median) > tolerance
    if uneven.any():
        worst = int(np.abs(steps - median).argmax())
        received = (
            f"{int(uneven.sum())} uneven steps, the worst {steps[worst]:.3f} mm "
            f"from slice {worst + 1} to {worst + 2} of {len(slices)}"
        )
        yield "gap", slices[worst + 1].refused("GAP", received, f"steps of {median:.3f} mm (the median)",
                                               "complete the series, or pass --allow gap")  # fmt: skip
    yield from _shift_problems(slices, positions, normal, tolerance)


def _shift_problems(
    slices: Sequence[Slice], positions: Array, normal: Array, tolerance: float
) -> Iterator[Problem]:
    """Compare positions with the normal; the GantryDetectorTilt attribute is not intended for computations."""
    way = positions[-1] - positions[0]
    angle = float(np.degrees(np.arccos(np.clip(way @ normal / np.linalg.norm(way), -1, 1))))
    if angle > TILT_LIMIT_DEG:
        received = f"slices shifted by {angle:.2f} degrees (gantry tilt)"
        yield "tilt", slices[0].refused("TILT", received, f"at most {TILT_LIMIT_DEG} degrees",
                                        "pass --allow tilt to keep them")  # fmt: skip
    depth = (positions - positions[0]) @ normal
    on_line = positions[0] + depth[:, None] * (way / (way @ normal))
    shift = np.linalg.norm(positions - on_line, axis=1)
    worst = int(shift.argmax())
    if shift[worst] > tolerance:
        received = f"slice {worst + 1} of {len(slices)} {shift[worst]:.3f} mm aside"
        yield "tilt", slices[worst].refused("SHIFT", received, f"at most {tolerance:.3f} mm",
                                            "pass --allow tilt to keep them")  # fmt: skip


def _phase_problems(slices: Sequence[Slice]) -> Iterator[Problem]:
    """Find acquisitions that alternate; a step-and-shoot scan changes its own without coming back."""
    numbers = [item.header.acquisition_number for item in slices]
    runs = 1 + sum(a != b for a, b in pairwise(numbers))
    known = len(set(numbers))
    if runs > known:
        yield "phases", slices[0].refused("PHASES", f"{known} acquisitions whose slices alternate", "one acquisition",
                                          "split them into folders of their own, or pass --allow phases")  # fmt: skip
