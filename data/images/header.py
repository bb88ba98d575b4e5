"""The header of an image file and its stored voxels, in one shape for every form of file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import too_large
from kerasbalance.data.volume.geometry import Array, Grid
from kerasbalance.data.volume.stated_grid import EXAMPLE, StatedGrid
from kerasbalance.data.volume.volume import MAX_VOXELS

UNKNOWN_PLACE = "orientation and millimetres are unknown, so left and right may be exchanged"


@dataclass(frozen=True)
class Place:
    """The place of the voxels of an image in a file.

    Args:
        begin: The byte of the file at which the voxels begin, still packed; None where they are its last bytes.
        skip: How many unpacked bytes come before the voxels.
        packing: `"gzip"`, `"zlib"` or `"bzip2"`; "" where the voxels are not packed.
        file: The file with the voxels; None where it is the file of the header.
    """

    begin: int | None = 0
    skip: int = 0
    packing: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class Segment:
    """One named segment of an image.

    Args:
        name: What a person called it; never shown unless it is plain.
        value: The value of its voxels.
        layer: The layer that holds it, from 0.
        code: Its code of SNOMED CT, "" where there is none.
        meaning: What the code means, in words.
    """

    name: str
    value: int
    layer: int
    code: str = ""
    meaning: str = ""


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """The header of an image file. It was checked, and no voxel was read.

    Args:
        form: `"NIfTI"`, `"NRRD"` or `"MetaImage"`.
        sizes: The number of voxels along each axis of the file, the fastest axis first.
        grid: Where the voxels lie, LPS millimetres, in the file's axis order.
        dtype: The type of the stored values.
        place: Where the voxels are stored.
        slope: What a stored value is multiplied with; 1.0 where the header gives none.
        intercept: What is added afterwards.
        notes: What was tolerated.
        layer_axis: Which of `sizes` counts layers; None where there is one layer.
        segments: The named segments of a segmentation of 3D Slicer.
    """

    form: str
    sizes: tuple[int, ...]
    grid: Grid
    dtype: np.dtype[Any]
    place: Place
    slope: float = 1.0
    intercept: float = 0.0
    notes: tuple[Note, ...] = ()
    layer_axis: int | None = None
    segments: tuple[Segment, ...] = ()

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the stored values, which are flat, as `(slices, rows, columns)`, with layers before the slices."""
        stack = values.reshape(self.sizes[::-1])
        if self.layer_axis is not None:
            stack = np.moveaxis(stack, len(self.sizes) - 1 - self.layer_axis, 0)
            return stack.reshape(len(stack), *self.grid.shape)
        return stack.reshape(self.grid.shape)


@dataclass(frozen=True, eq=False)
class StoredImage:
    """The voxels of an image file as stored, and where they lie.

    Args:
        stored: `(slices, rows, columns)` in the file's axis order and data type, or `(layers, slices, rows,
            columns)`; read-only.
        header: The header.
    """

    stored: NDArray[Any]
    header: ImageHeader

    @property
    def grid(self) -> Grid:
        """The grid of the voxels in LPS millimetres, not yet canonical."""
        return self.header.grid

    @property
    def notes(self) -> tuple[Note, ...]:
        """The remarks on the header."""
        return self.header.notes

    @property
    def kind(self) -> str:
        """The form of the file in lower case, as stores record it."""
        return self.header.form.lower()

    def slices(self) -> Iterator[NDArray[Any]]:
        """Return the `(rows, columns)` slices with slope and intercept applied (float64 where they matter)."""
        return map(self.plane, range(self.grid.shape[0]))

    def plane(self, number: int) -> NDArray[Any]:
        """Return one of the slices that `slices` yields."""
        plane: NDArray[Any] = self.stored[number]
        slope, intercept = self.header.slope, self.header.intercept
        return plane if (slope, intercept) == (1.0, 0.0) else plane * slope + intercept


def damaged(form: str, received: str, path: Path) -> DataError:
    """Make the error for a file whose header or length cannot be right."""
    advice = "convert the image to .nii.gz" if form == "NIfTI" else "fetch or export the file again"
    expected = "a single-file NIfTI (.nii or .nii.gz)" if form == "NIfTI" else f"an undamaged {form} file"
    return DataError("MALFORMED", received, expected, advice, path=path)


def unsupported(form: str, received: str, path: Path) -> DataError:
    """Make the error for a header that uses what is not read here."""
    return DataError("MALFORMED", f"{form} with {received}", "one image whose voxels are stored raw, or packed by gzip "
                     "or zlib, in its file or beside it", "convert the image to .nii.gz", path=path)  # fmt: skip


def not_3d(form: str, sizes: tuple[int, ...], path: Path) -> DataError:
    """Make the error for an image that is no volume."""
    return DataError("NOT_3D", f"a {form} image of shape {sizes}", "three dimensions",
                     "split a time series into one file per volume", path=path)  # fmt: skip


def check_count(form: str, sizes: tuple[int, ...], path: Path, max_voxels: int = MAX_VOXELS) -> None:
    """Refuse more voxels than can be meant, before anything is made of them.

    Raises:
        DataError: If there are more than `max_voxels` (code `TOO_LARGE`).
    """
    count = math.prod(sizes)
    if count > max_voxels:
        raise too_large(f"a {form} header that declares {count:,} voxels", f"at most {max_voxels:,}", path)


def check_dtype(form: str, dtype: np.dtype[Any] | None, path: Path) -> np.dtype[Any]:
    """Return the type of the voxels, which must be integers or floats of at most 64 bits."""
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError("NOT_NUMBERS", f"{form} voxels of type {dtype or 'that is not a number'}",
                        "integers, or floats of 32 or 64 bits",
                        "convert the image to int16 (CT) or uint8 (mask)", path=path)  # fmt: skip
    return dtype


def no_geometry(received: str, path: Path) -> DataError:
    """Make the error for an image file that does not say where its voxels lie."""
    return DataError("NO_GEOMETRY", received, "an affine that says where each voxel lies, in mm",
                     f"convert the image again from its DICOM series, or state its grid (--grid {EXAMPLE})",
                     path=path)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stated:
    """The place of the voxels as a header states it.

    Args:
        affine: A 4 x 4 matrix to LPS millimetres, None where there is none.
        lacking: What the header lacks, in words; "" if the matrix can be believed.
    """

    affine: Array | None
    lacking: str = ""


def placed(
    form: str, shape: tuple[int, int, int], stated: Stated, grid: StatedGrid | None, path: Path
) -> tuple[Grid, tuple[Note, ...]]:
    """Return where voxels lie, and remarks.

    A matrix that has one voxel per millimetre, from the origin on, along the axes of the body in either direction is
    what programs write that know no positions. A grid that the user states takes its place, and that of a matrix that
    is missing or impossible.

    Args:
        form: The form of the file.
        shape: `(slices, rows, columns)`.
        stated: What the header states.
        grid: What the user states; it is not used where the header states the place.
        path: The file.

    Raises:
        DataError: If there is no matrix, or if it is not finite, has impossible steps, or has axes that depend on each
            other (code `NO_GEOMETRY`).
    """
    affine, lacking = stated.affine, stated.lacking
    if affine is not None and (problem := _problem(form, affine)):
        affine, lacking = None, problem
    if affine is not None and np.array_equal(np.abs(affine), np.eye(4)):
        lacking = f"the {form} header is a placeholder (voxels of 1 x 1 x 1 mm, the first one at the origin)"
    if lacking and grid is not None:
        note = Note("STATED_GRID", f"{lacking}; the stated grid {grid} was used")
        return Grid.from_affine(shape, grid.affine()), (note,)
    if affine is None:
        raise no_geometry(lacking, path)
    notes = (Note("PLACEHOLDER", f"{lacking}: {UNKNOWN_PLACE}", loud=True),) if lacking else ()
    return Grid.from_affine(shape, affine), notes


def _problem(form: str, affine: Array) -> str:
    """Return what is impossible about a matrix, "" if nothing is."""
    if not np.isfinite(affine).all():
        return f"a {form} affine that is not finite"
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if steps.min() < 1e-3 or steps.max() > 1e3 or np.abs(affine[:3, 3]).max() > 1e6:
        return f"voxel steps of {np.round(steps, 4).tolist()} mm in a {form} affine"
    if abs(np.linalg.det(affine[:3, :3] / steps)) < 0.1:
        return f"a {form} affine whose axes are not independent"
    return ""
