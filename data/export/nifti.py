"""Labels as NIfTI, voxel by voxel on their CT.

Reference:
    NIfTI-1.1 data format standard (https://nifti.nimh.nih.gov): sform, qform.
"""

import gzip
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.data.export.files import check_target, write_target
from kerasbalance.data.export.labels import Labels, check_labels, in_source_order
from kerasbalance.data.volume.geometry import RAS_TO_LPS, Grid

ENDINGS = (".nii", ".nii.gz")

_SCANNER = 1
_DESCRIPTION_BYTES = 79


def write_nifti(
    path: Path,
    labels: Labels,
    organs: tuple[str, ...],
    grid: Grid,
    *,
    source: Grid | None = None,
    overwrite: bool = False,
) -> None:
    """Write labels as `.nii` or `.nii.gz`.

    The file has the voxel order of the NIfTI file that the CT came from, if `source` says so, so that the two
    overlay in any viewer and compare as arrays. Otherwise, as for DICOM, it has the canonical order, and the
    affine says where the voxels lie; it is exact to the header's float32.

    The same labels give the same bytes.

    Args:
        path: Ends in `.nii` or `.nii.gz`; its folder must be there.
        labels: uint8 `(slices, rows, columns)` on `grid`; `i + 1` is `organs[i]`.
        organs: Names; as many as fit are kept in the header's description.
        grid: The canonical grid of the CT.
        source: The grid of the NIfTI file, `read_image(path).grid`.
        overwrite: Put the file in the place of one that is there.

    Raises:
        DataError: If the ending is another (code `USAGE`), slices are unevenly spaced (`UNEVEN`), labels do not lie on
            `source` (`GEOMETRY`), or the file cannot be written (`EXISTS`, `NO_FOLDER`, `DISK_FULL`).
        ValueError: If labels have another type, shape or range.
    """
    path = Path(path)
    if not path.name.endswith(ENDINGS):
        raise DataError("USAGE", "another ending than .nii or .nii.gz", "one of them", "rename the target",
                        path=path)  # fmt: skip
    check_target(path, overwrite=overwrite)
    check_labels(labels, organs, grid)
    if source is not None:
        labels, grid = in_source_order(labels, grid, source), source
    write_target(
        path, _content(_image(labels, organs, grid), gzipped=path.suffix == ".gz"), overwrite=overwrite
    )


def _content(image: nibabel.Nifti1Image, *, gzipped: bool) -> bytes:
    buffer = BytesIO()
    if gzipped:  # slice by slice, so that only what is packed is held; without the time and a name
        with gzip.GzipFile("", "wb", 6, buffer, mtime=0) as packed:
            image.to_stream(packed)
    else:
        image.to_stream(buffer)
    return buffer.getvalue()


def _image(labels: Labels, organs: tuple[str, ...], grid: Grid) -> nibabel.Nifti1Image:
    affine = RAS_TO_LPS @ grid.affine()
    image = nibabel.Nifti1Image(np.ascontiguousarray(labels).transpose(2, 1, 0), affine)
    image.set_sform(affine, _SCANNER)
    if _is_rigid(grid):
        image.set_qform(affine, _SCANNER)  # a qform cannot hold a shear (gantry tilt)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _description(organs)
    return image


def _is_rigid(grid: Grid) -> bool:
    steps = grid.affine()[:3, :3]
    cosines = steps / np.linalg.norm(steps, axis=0)
    return bool(np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-4))


def _description(organs: tuple[str, ...]) -> str:
    listed = ""
    for number, organ in enumerate(organs, 1):
        longer = f"{listed} {number}={organ}".strip()
        if len(longer) > _DESCRIPTION_BYTES:
            break
        listed = longer
    return listed
