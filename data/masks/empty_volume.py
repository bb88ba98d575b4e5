"""A volume without image, on the grid of two masks, where there is no CT to compare them on."""

from pathlib import Path

import numpy as np

from kerasbalance.data.dicom.guard import SEGMENTATIONS, STRUCTURE_SET, lenient_pydicom
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import list_folder
from kerasbalance.data.images.image import read_image_header
from kerasbalance.data.masks.kinds import kind_of
from kerasbalance.data.masks.mask import Request
from kerasbalance.data.masks.read import MASK_FORMS
from kerasbalance.data.masks.segmentation import own_grid
from kerasbalance.data.masks.series import load_series
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.volume import Identity, Volume


def empty_volume(reference: Path, prediction: Path) -> Volume:
    """Make a volume of zeros on the grid of the reference, or of both masks.

    Image files and DICOM image series have a grid of their own: the reference's counts, or the prediction's where
    the reference is a DICOM SEG, which holds only the slices that it marks. Two SEGs give the grid of both;
    they do not say where the CT ends, so no organ counts as cut off by its edge.

    Args:
        reference: A mask as `read_mask` takes it.
        prediction: Another.

    Returns:
        The volume, canonical; its `hu` takes no memory.

    Raises:
        DataError: If one of the masks has no grid, as RTSTRUCT and PNG (code `NEEDS_CT`), or it cannot be read.
    """
    with lenient_pydicom():
        ours, theirs = (
            _kind(path, name) for path, name in ((reference, "reference"), (prediction, "prediction"))
        )
        if ours[0] == theirs[0] == "seg":
            grid, frame = own_grid([ours[1][0], theirs[1][0]])
        else:
            grid, frame = _grid(*(theirs if ours[0] == "seg" else ours))
    return _volume(grid, frame)


def _volume(grid: Grid, frame: str) -> Volume:
    zeros, canonical = to_canonical(np.broadcast_to(np.int16(0), grid.shape), grid)
    identity = Identity(frame_of_reference_uid=frame)
    return Volume(zeros.view(np.int16), canonical, "none", identity, {})


def _kind(path: Path, name: str) -> tuple[str, list[Path]]:
    """Return `"seg"`, `"image"` or `"slices"`, and the files of one stack."""
    files = [path]
    while path.is_dir():
        listing = list_folder(path)
        files = list(listing.files)
        if files or not listing.folders:
            break
        path = listing.folders[0]  # a folder for each organ: all lie on one grid, as read_mask will check
    kinds = [(kind, file) for file in files if (kind := kind_of(file))]
    if kinds and kinds[0][0].name == "image":
        return "image", [kinds[0][1]]
    images = []
    for kind, file in kinds:
        found = kind.sop_class if kind.name == "dicom" else "png"
        if found in SEGMENTATIONS:
            return "seg", [file]
        if found in ("png", STRUCTURE_SET):
            word = "PNG" if found == "png" else "RTSTRUCT"
            raise DataError("NEEDS_CT", f"a {name} as {word} and no CT", "the CT that it was drawn on, since it has "
                            "no voxel grid of its own", "name the CT with --ct")  # fmt: skip
        images.append(file)
    if not images:
        raise DataError("MASK_KIND", f"a {name} without any mask file", MASK_FORMS,
                        "name the mask's file or folder", path=path)  # fmt: skip
    return "slices", images


def _grid(kind: str, files: list[Path]) -> tuple[Grid, str]:
    if kind == "image":
        return read_image_header(files[0]).grid, ""
    unit = Grid.from_affine((1, 1, 1), np.eye(4))
    return load_series(files, Request(_volume(unit, ""), ())).grid, ""
