"""The images of one series as a stack: sorted by position, doubles removed, geometry as a grid."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasbalance.data.dicom.frames import Frame
from kerasbalance.data.dicom.header import Header, unreadable
from kerasbalance.data.dicom.pixel_layout import BIG_ENDIAN
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.volume.geometry import SAME_POSITION_MM, Array, Grid


@dataclass(frozen=True)
class Slice:
    """One image of a series: a header and which of its frames."""

    header: Header
    frame: Frame

    @property
    def position(self) -> Array:
        """ImagePositionPatient, float64 `(3,)`."""
        return np.asarray(self.frame.position_mm, float)

    @property
    def axes(self) -> tuple[Array, Array]:
        """Unit vectors along a row (growing column) and along a column (growing row)."""
        cosines = np.asarray(self.frame.orientation, float)
        return cosines[:3], cosines[3:]

    def refused(self, code: str, received: str, expected: str, advice: str) -> DataError:
        """Make an error that names the image's file by its number."""
        file = self.header.file
        return DataError(code, received, expected, advice, path=file.path, where=file.where)


def normal_of(slices: Sequence[Slice]) -> Array:
    """Return the unit normal of a stack, by the right-hand rule from its first image."""
    along_row, along_column = slices[0].axes
    normal = np.cross(along_row, along_column)
    return np.asarray(normal / np.linalg.norm(normal))


def sort_slices(slices: Sequence[Slice]) -> list[Slice]:
    """Sort by position along the normal; InstanceNumber only decides between exact doubles."""
    normal = normal_of(slices)
    return sorted(
        slices,
        key=lambda s: (round(float(s.position @ normal), 3), s.header.instance_number, s.header.file.number),
    )


def drop_duplicates(slices: Sequence[Slice]) -> tuple[list[Slice], list[Note], list[DataError]]:
    """Keep one of several images with equal position and pixels; report those that contradict each other.

    Args:
        slices: A sorted stack.

    Returns:
        What is left, a note on what was dropped, and the contradictions.
    """
    normal = normal_of(slices)
    kept: list[Slice] = []
    errors: list[DataError] = []
    dropped = 0
    for item in slices:
        if not kept or abs((item.position - kept[-1].position) @ normal) > SAME_POSITION_MM:
            kept.append(item)
        elif _is_double(item, kept[-1]):
            dropped += 1
        else:
            errors.append(_contradiction(item, kept[-1]))
    notes = [Note("DUPLICATE", f"{dropped} repeated images dropped")] if dropped else []
    return kept, notes, [*errors, *_uid_conflicts(kept)]


def _is_double(item: Slice, first: Slice) -> bool:
    same_place = np.linalg.norm(item.position - first.position) <= SAME_POSITION_MM
    return bool(same_place) and stored_digest(item, read_stored(item)) == stored_digest(
        first, read_stored(first)
    )


def _contradiction(item: Slice, first: Slice) -> DataError:
    if (
        item.header is not first.header
        and item.header.sop_uid
        and item.header.sop_uid == first.header.sop_uid
    ):
        return _uid_conflict(item, first)
    return item.refused(
        "DUPLICATE",
        f"another image than {first.header.file.where} at the same depth",
        "one image at each position",
        "split the phases or reconstructions into folders of their own",
    )


def _uid_conflict(item: Slice, first: Slice) -> DataError:
    return item.refused(
        "UID_CONFLICT",
        f"the SOPInstanceUID of {first.header.file.where} on another image",
        "a SOPInstanceUID of its own for each image",
        "export the series again",
    )


def _uid_conflicts(slices: Sequence[Slice]) -> list[DataError]:
    seen: dict[str, Slice] = {}
    errors = []
    for item in slices:
        uid = item.header.sop_uid
        first = seen.setdefault(uid, item)
        if uid and first.header is not item.header:
            errors.append(_uid_conflict(item, first))
    return errors


def read_stored(item: Slice) -> bytes:
    """Read one image's stored bytes, still encoded.

    Raises:
        DataError: If the file is gone, unreadable or shorter than it was.
    """
    pieces = []
    try:
        with item.header.file.path.open("rb", buffering=0) as file:
            for start, length in item.frame.spans:
                file.seek(start)
                pieces.append(file.read(length))
    except OSError as error:
        raise unreadable(item.header.file, error) from None
    stored = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    wanted = sum(length for _, length in item.frame.spans)
    if len(stored) != wanted:
        raise item.refused(
            "TRUNCATED", f"{len(stored)} bytes of pixel data", f"{wanted} bytes", "copy the file again"
        )
    return stored


def stored_digest(item: Slice, stored: bytes) -> str:
    """Return the SHA-256 of one image as stored: pixel data and what turns them into HU, no identifiers.

    Args:
        item: The image.
        stored: Its stored bytes.
    """
    header, frame = item.header, item.frame
    byte_order = "big" if header.transfer_syntax == BIG_ENDIAN else "little"
    facts = (
        header.plane, header.bit_shape, header.signed, byte_order, header.is_native, header.padding,
        frame.slope, frame.intercept, frame.orientation, frame.spacing_mm,
    )  # fmt: skip
    digest = hashlib.sha256(repr(facts).encode())
    if header.modality_lut is not None:
        digest.update(repr(header.modality_lut.first).encode() + header.modality_lut.entries)
    digest.update(stored)
    return digest.hexdigest()


def grid_of(slices: Sequence[Slice]) -> Grid:
    """Return where the voxels of a sorted stack lie."""
    first = slices[0]
    along_row, along_column = first.axes
    between_rows, between_columns = first.frame.spacing_mm or (1.0, 1.0)
    positions = np.stack([item.position for item in slices])
    shape = (len(slices), first.header.rows, first.header.columns)
    return Grid(shape, positions, along_column * between_rows, along_row * between_columns)
