"""CT stored as NIfTI, NRRD or MetaImage, in Hounsfield units."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.images.header import StoredImage
from kerasbalance.data.images.image import read_image
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.plausibility import HuStack, judge, sample_numbers
from kerasbalance.data.volume.stated_grid import StatedGrid
from kerasbalance.data.volume.volume import Identity, Volume

MAX_CT_RATIO = 200
"""A compressed CT shrinks at most so many times; small images are not held to it."""
TILT_DEGREES = 0.1


def read_image_ct(
    path: Path | str, grid: StatedGrid | None = None, allow: frozenset[str] = frozenset()
) -> Volume:
    """Read a CT from an image file, of any orientation, as Hounsfield units in the canonical frame.

    Floats are rounded; `volume.plausibility` decides what is no HU, and what is mended with a note.

    Args:
        path: A NIfTI, NRRD or MetaImage file.
        grid: Where the voxels lie if the header does not state it.
        allow: Relaxations by name, see `HuStack.finish`.

    Returns:
        The volume; its digest is over int16 voxels, shape and affine (rounded to 1e-4 mm) in the canonical
        frame, so it is the same for any axis order and packing.

    Raises:
        DataError: As `read_image`; also for values that are no Hounsfield units (`NOT_HU`), for an
            in-plane grid that is not rectangular (`NO_GEOMETRY`), and for a segmentation (`NOT_CT`).
    """
    path = Path(path)
    image = read_image(path, max_ratio=MAX_CT_RATIO, grid=grid)
    if image.header.segments:
        raise DataError("NOT_CT", "a segmentation of 3D Slicer", "a CT", "name it with --mask, and its CT as SRC",
                        path=path)  # fmt: skip
    hu, notes = _hounsfield(image, path, allow)
    turned, canonical = to_canonical(hu, image.grid)
    hu = np.ascontiguousarray(turned, dtype=np.int16)
    notes = (*image.notes, *notes, *_check_angles(canonical, path))
    return Volume(hu, canonical, image.kind, Identity(), {}, notes)


def _hounsfield(
    image: StoredImage, path: Path, allow: frozenset[str]
) -> tuple[NDArray[np.int16], tuple[Note, ...]]:
    slices = image.grid.shape[0]
    stack = HuStack(image.grid.shape, judge([_signed(image.plane(n)) for n in sample_numbers(slices)]))
    for number in range(slices):
        stack.put(number, _signed(image.plane(number)))
    try:
        return stack.finish(allow)
    except DataError as error:
        raise error.at(path=path) from None


def _signed(plane: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in a type that can be compared with -1024, and floats as they are."""
    return plane if plane.dtype.kind == "f" else plane.astype(np.int64)


def _check_angles(grid: Grid, path: Path) -> list[Note]:
    row, column = (step / np.linalg.norm(step) for step in (grid.row_step_mm, grid.column_step_mm))
    if abs(row @ column) > math.sin(math.radians(TILT_DEGREES)):
        raise DataError("NO_GEOMETRY", "an affine that shears the slices", "slices with perpendicular axes",
                        "convert the image again from its DICOM series", path=path)  # fmt: skip
    if grid.shape[0] < 2:
        return []
    step = grid.positions_mm[1] - grid.positions_mm[0]
    sine = float(np.linalg.norm(np.cross(step, grid.normal)) / np.linalg.norm(step))
    if sine <= math.sin(math.radians(TILT_DEGREES)):
        return []
    degrees = math.degrees(math.asin(min(1.0, sine)))
    return [Note("TILT", f"the slices are tilted by {degrees:.1f} degrees against their normal", loud=True)]


def source_digest(hu: NDArray[np.int16], grid: Grid) -> str:
    """Return the SHA-256 (hex) over int16 voxels, shape and affine rounded to 1e-4 mm."""
    digest = hashlib.sha256(np.array(grid.shape, "<i8").tobytes())
    digest.update(np.rint(grid.affine() / 1e-4).astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(hu, "<i2").data)
    return digest.hexdigest()
