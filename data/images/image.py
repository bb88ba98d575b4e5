"""Image files: a bounded reader for CT and masks in NIfTI, NRRD and MetaImage.

Each form has a module that interprets its header. The voxels are read here, after the declared shape was checked, so
that neither a huge declared shape nor a packed bomb takes memory.
"""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasbalance.data.files import malformed, open_regular
from kerasbalance.data.images.content import read_content
from kerasbalance.data.images.header import ImageHeader, StoredImage, check_count
from kerasbalance.data.images.metaimage import is_metaimage, read_metaimage_header
from kerasbalance.data.images.nifti import is_nifti, read_nifti_header
from kerasbalance.data.images.nrrd import is_nrrd, read_nrrd_header
from kerasbalance.data.volume.stated_grid import EXAMPLE, StatedGrid, parse_grid
from kerasbalance.data.volume.volume import MAX_VOXELS

ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""How the names of image files end; the content decides what a file is."""

_SNIFF_BYTES = 4096


def stem(path: Path) -> str:
    """Return the name of a file without the ending of an image file."""
    ending = next((each for each in ENDINGS if path.name.lower().endswith(each)), "")
    return path.name[: len(path.name) - len(ending)]


def is_image(head: bytes) -> bool:
    """Return whether the first bytes are those of an image file.

    Args:
        head: At least the first 540 bytes of the file, or all of it.
    """
    return is_nifti(head) or is_nrrd(head) or is_metaimage(head)


def begins_as_image(path: Path) -> bool:
    """Return whether the content of a file begins as an image file does.

    Raises:
        DataError: If it is not a readable regular file.
    """
    with open_regular(path) as file:
        return is_image(file.read(_SNIFF_BYTES))


def read_image(
    path: Path,
    *,
    max_voxels: int = MAX_VOXELS,
    max_ratio: float = math.inf,
    grid: StatedGrid | None = None,
) -> StoredImage:
    """Read a NIfTI, NRRD or MetaImage file, with the file of its voxels where the header names one.

    Args:
        path: The file, or its header.
        max_voxels: A header that declares more is refused before any voxel is read.
        max_ratio: Packed voxels that would grow more than this are refused before that, unless they are small.
        grid: Where the voxels lie if the header does not state it.

    Raises:
        DataError: If it is not a regular file, of no such form, truncated or damaged (`MALFORMED`), too large
            (`TOO_LARGE`), not 3D numbers (`NOT_3D`, `NOT_NUMBERS`), or without usable geometry (`NO_GEOMETRY`).
    """
    header = _header(path, max_voxels, grid)
    with malformed(f"a {header.form} file", path):
        values = np.frombuffer(read_content(header, path, max_ratio), header.dtype)
    return StoredImage(header.arranged(values), header)


def read_image_header(path: Path, grid: StatedGrid | None = None) -> ImageHeader:
    """Read and check the header of an image file; its voxels are not unpacked.

    Raises:
        DataError: As `read_image`, except for what only the voxels show.
    """
    return _header(path, MAX_VOXELS, grid)


def _header(path: Path, max_voxels: int, grid: StatedGrid | None) -> ImageHeader:
    with open_regular(path) as file:
        head = file.read(_SNIFF_BYTES)
        file.seek(0)
        with malformed("the header of an image file", path):
            header = _read_header(head, file, path, grid)
    check_count(header.form, header.grid.shape, path, max_voxels)
    return header


def _read_header(head: bytes, file: BinaryIO, path: Path, grid: StatedGrid | None) -> ImageHeader:
    if is_nrrd(head):
        return read_nrrd_header(file, path, grid)
    read = read_metaimage_header if is_metaimage(head) else read_nifti_header
    return read(file, path, grid)


def voxel_file(path: Path) -> Path | None:
    """Return the file beside a header that holds its voxels, None for any other file.

    Raises:
        DataError: If it is not a readable regular file, or an image file with a damaged header.
    """
    any_grid = parse_grid(EXAMPLE)  # only the place of the voxels in the files is asked for
    return read_image_header(path, any_grid).place.file if begins_as_image(path) else None
