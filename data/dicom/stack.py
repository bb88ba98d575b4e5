"""The images of one series as a stack: sorted by position, doubles removed, geometry as a grid."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasbalance.data.dicom.header import Frame, Header
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.geometry import Array, Grid

SAME_POSITION_MM = 1e-2


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
    """Keep one of several images with equal position and pixels; report those that contradict each other."""
    kept: list[Slice] = []
    errors: list[DataError] = []
    dropped = 0
    for item in slices:
        if not kept or np.linalg.norm(item.position - kept[-1].position) > SAME_POSITION_MM:
            kept.append(item)
        elif stored_digest(item) == stored_digest(kept[-1]):
            dropped += 1
        else:
            errors.append(_duplicate(item, kept[-1]))
    notes = [Note("DUPLICATE", f"{dropped} repeated images dropped")] if dropped else []
    return kept, notes, [*errors, *_uid_conflicts(kept)]


def _duplicate(item: Slice, first: Slice) -> DataError:
    return DataError(
        "DUPLICATE",
        f"another image than {first.header.file.where} at the same position",
        "one image at each position",
        "split the phases or reconstructions into folders of their own",
        path=item.header.file.path,
        where=item.header.file.where,
    )


def _uid_conflicts(slices: Sequence[Slice]) -> list[DataError]:
    seen: dict[tuple[str, int], Slice] = {}
    errors = []
    for item in slices:
        uid = item.header.sop_uid
        first = seen.setdefault((uid, item.frame.index), item)
        if uid and first is not item:
            errors.append(
                DataError(
                    "UID_CONFLICT",
                    f"the SOPInstanceUID of {first.header.file.where} on another image",
                    "a SOPInstanceUID of its own for each image",
                    "export the series again",
                    path=item.header.file.path,
                    where=item.header.file.where,
                )
            )
    return errors


def stored_digest(item: Slice) -> str:
    """Return the SHA-256 of one image as stored: pixel data and what turns them into HU, no identifiers."""
    header, frame = item.header, item.frame
    digest = hashlib.sha256()
    facts = (
        header.plane, header.bits_allocated, header.bits_stored, header.high_bit, header.signed,
        header.padding, header.has_modality_lut, frame.index, frame.slope, frame.intercept,
        frame.orientation, frame.spacing_mm,
    )  # fmt: skip
    digest.update(repr(facts).encode())
    with header.file.path.open("rb") as file:
        file.seek(header.pixel_offset)
        digest.update(file.read())
    return digest.hexdigest()


def grid_of(slices: Sequence[Slice]) -> Grid:
    """Return where the voxels of a sorted stack lie."""
    first = slices[0]
    along_row, along_column = first.axes
    between_rows, between_columns = first.frame.spacing_mm or (1.0, 1.0)
    positions = np.stack([item.position for item in slices])
    shape = (len(slices), first.header.rows, first.header.columns)
    return Grid(shape, positions, along_column * between_rows, along_row * between_columns)
