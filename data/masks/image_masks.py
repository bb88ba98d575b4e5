"""Masks in image files (NIfTI, NRRD, MetaImage): label maps, and the named segments of 3D Slicer."""

from pathlib import Path

from kerasbalance.data.images.header import Segment, StoredImage
from kerasbalance.data.images.image import read_image
from kerasbalance.data.labels import SNOMED, known_organ
from kerasbalance.data.masks.label_map import LabelMap
from kerasbalance.data.masks.mask import Canvas, Mask, Request, finish
from kerasbalance.data.masks.names import Structure, select
from kerasbalance.data.masks.placing import is_known, place
from kerasbalance.data.volume.volume import MAX_VOXELS

ROOM = 4
"""A mask may have so many times the CT's voxels where it is not resampled (it may cover more slices)."""
ROOM_FREE = 2**24


def read_mask_image(path: Path, request: Request) -> StoredImage:
    """Read the image file of a mask; raises as `kerasbalance.data.images.image.read_image`.

    A compressed mask may shrink a thousandfold, so the CT's size, not the file's, says what is too large.
    """
    limit = MAX_VOXELS if request.resample else max(ROOM * request.volume.hu.size, ROOM_FREE)
    return read_image(path, max_voxels=limit, grid=request.grid)


def label_map_of(image: StoredImage) -> LabelMap:
    """Return an image without named segments as a label map."""
    return LabelMap(image.slices, image.grid, image.kind, image.notes)


def mask_from_segments(image: StoredImage, request: Request) -> Mask:
    """Turn the named segments of an image into a mask, as those of a DICOM SEG.

    A number in a rule is the value of a segment. Where two layers use the same value, it is the place of the segment
    in the file, from 1.

    Raises:
        DataError: If the rules fit no segment (code `LABEL_NAME`), or the image lies on another grid (`GEOMETRY`).
    """
    segments = _numbered(image.header.segments)
    selection = select([_structure(n, s) for n, s in segments.items()], request.rules, word="segment")
    canvas = Canvas(image.grid.shape, selection.organs)
    for number, organ in selection.organ_of.items():
        layer = image.stored.reshape(-1, *image.grid.shape)[segments[number].layer]
        for slice_number, plane in enumerate(layer):
            canvas.paint(slice_number, organ, plane == segments[number].value)
    labels, remarks = place(canvas.labels, image.grid, request, is_known=is_known(image.notes))
    notes = (*image.notes, *canvas.notes(), *remarks)
    return finish(labels, selection.organs, image.kind, notes, canvas.losers)


def _numbered(segments: tuple[Segment, ...]) -> dict[int, Segment]:
    by_value = {segment.value: segment for segment in segments}
    return by_value if len(by_value) == len(segments) else dict(enumerate(segments, 1))


def _structure(number: int, segment: Segment) -> Structure:
    return Structure(number, segment.name, SNOMED.get(segment.code) or known_organ(segment.meaning))
