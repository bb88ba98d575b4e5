"""NIfTI label maps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kerasbalance.data.images.image import read_image
from kerasbalance.data.masks.label_map import LabelMap
from kerasbalance.data.masks.mask import Request
from kerasbalance.data.volume.volume import MAX_VOXELS

ROOM = 4
"""A mask may have so many times the CT's voxels where it is not resampled (it may cover more slices)."""
ROOM_FREE = 2**24


def load_image(path: Path, request: Request) -> LabelMap:
    """Read a NIfTI label map; raises as `kerasbalance.data.images.image.read_image`.

    A compressed mask may shrink a thousandfold, so the CT's size, not the file's, says what is too large.
    """
    limit = MAX_VOXELS if request.resample else max(ROOM * request.volume.hu.size, ROOM_FREE)
    image = read_image(path, max_voxels=limit)

    def planes() -> Iterator[NDArray[Any]]:
        return image.slices()

    return LabelMap(planes, image.grid, "nifti", image.notes)
