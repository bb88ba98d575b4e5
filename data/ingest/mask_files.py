"""The files of a mask, by which a changed mask is noticed."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from kerasbalance.data.dicom.guard import is_dicom
from kerasbalance.data.files import list_files, read_regular
from kerasbalance.data.images.image import voxel_file
from kerasbalance.data.masks.read import MaskSource


def mask_states(masks: Sequence[MaskSource]) -> tuple[tuple[object, ...], ...]:
    """Return names, sizes and times of the files of masks."""
    states = [(file, os.lstat(file)) for mask in masks for file in _files(mask.path)]
    return tuple((str(path), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in states)


def mask_digest(path: Path) -> str:
    """Return the SHA-256 values (hex, sorted and joined) of the files of a mask.

    Raises:
        DataError: If a file cannot be read.
    """
    home = path if os.path.isdir(path) else path.parent
    return "".join(sorted(_file_digest(file, path, home) for file in _files(path)))


def _files(path: Path) -> list[Path]:
    """Return the files of a mask: those of a folder, or a file with the one that its header names."""
    if os.path.isdir(path):
        return [file.path for file in list_files(path)[0]]
    beside = voxel_file(path)
    return [path] if beside is None else [path, beside]


def _file_digest(path: Path, mask: Path, home: Path) -> str:
    content = read_regular(path)
    digest = hashlib.sha256(hashlib.sha256(content).digest())
    place = Path() if path == mask else Path(os.path.relpath(path, home))
    # The names of image and PNG files and of folders may name an organ or a slice; DICOM files state it inside.
    name = place.parent if is_dicom(content) else place
    digest.update(os.fsencode(name))
    return digest.hexdigest()
