"""CT stored as NIfTI, in Hounsfield units."""

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.nifti.image import NiftiImage, no_geometry, read_nifti
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.volume import AIR_HU, Identity, Volume

MAX_CT_RATIO = 200
"""A compressed CT shrinks at most so many times; small images are not held to it."""
MIN_HU_RANGE = 50
HIGHEST_AIR_HU = -50
TILT_DEGREES = 0.1


def read_nifti_ct(path: Path | str) -> Volume:
    """Read a CT in NIfTI form, of any orientation, as Hounsfield units in the canonical frame.

    Floats are rounded, values below `AIR_HU` become `AIR_HU`. A file whose values span less than
    `MIN_HU_RANGE` is refused, because it was normalised and its Hounsfield units are gone; one without air
    gets a loud note.

    Args:
        path: a `.nii` or `.nii.gz` file.

    Returns:
        The volume; its digest is over int16 voxels, shape and affine (rounded to 1e-4 mm) in the canonical
        frame, so it is the same for any axis order and packing.

    Raises:
        DataError: as `read_nifti`; also for values that are no Hounsfield units (`NOT_HU`) and for an
            in-plane grid that is not rectangular (`NO_GEOMETRY`).
    """
    path = Path(path)
    image = read_nifti(path, max_ratio=MAX_CT_RATIO)
    hu, notes = _hounsfield(image, path)
    turned, grid = to_canonical(hu, image.grid)
    hu = np.ascontiguousarray(turned, dtype=np.int16)
    notes += _check_angles(grid, path)
    return Volume(hu, grid, "nifti", Identity(), {}, (*image.notes, *notes))


def _hounsfield(image: NiftiImage, path: Path) -> tuple[NDArray[np.int16], list[Note]]:
    hu = np.empty(image.stored.shape, np.int16)
    lowest, highest, broken, clipped = math.inf, -math.inf, 0, 0
    for number, plane in enumerate(image.slices()):
        if plane.dtype.kind == "f":
            broken += int(np.count_nonzero(~np.isfinite(plane)))
            if broken:
                continue
            plane = np.rint(plane)
        else:
            plane = plane.astype(np.int64)  # an unsigned type cannot be compared with -1024 in np.clip
        lowest, highest = min(lowest, float(plane.min())), max(highest, float(plane.max()))
        clipped += int(np.count_nonzero(plane < AIR_HU))
        hu[number] = np.clip(plane, AIR_HU, np.iinfo(np.int16).max)
    if broken:
        raise _not_hu(f"{broken:,} voxels that are NaN or infinite", path)
    if highest > np.iinfo(np.int16).max or highest - lowest < MIN_HU_RANGE:
        raise _not_hu(f"values from {lowest:g} to {highest:g}", path)
    notes = []
    if clipped:
        notes.append(Note("CLIPPED", f"{clipped:,} voxels below {AIR_HU} HU were set to {AIR_HU}"))
    if lowest >= HIGHEST_AIR_HU:
        text = f"no voxel is below {lowest:g}: are these Hounsfield units, or is an offset of 1024 missing?"
        notes.append(Note("NO_AIR", text, loud=True))
    return hu, notes


def _not_hu(received: str, path: Path) -> DataError:
    return DataError(
        "NOT_HU",
        received,
        "Hounsfield units, from air (-1000) to bone",
        "export the CT without normalisation",
        path=path,
    )


def _check_angles(grid: Grid, path: Path) -> list[Note]:
    row, column = (step / np.linalg.norm(step) for step in (grid.row_step_mm, grid.column_step_mm))
    if abs(row @ column) > math.sin(math.radians(TILT_DEGREES)):
        raise no_geometry("a NIfTI affine that shears the slices", path)
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
