"""What a mask reader gets and gives, and the canvas on which organs are painted."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.volume.stated_grid import StatedGrid
from kerasbalance.data.volume.volume import Volume

OTHER_FRAME = "frame-of-reference"
"""The relaxation that lets a mask of another FrameOfReferenceUID pass."""


@dataclass(frozen=True, eq=False)
class Mask:
    """Organs on the grid of their CT.

    Args:
        labels: uint8 `(slices, rows, columns)`; 0 is background, `i + 1` is `organs[i]`.
        organs: The organs' names, in the order of the rules. An organ without a voxel is noted.
        kind: `"nifti"`, `"nrrd"`, `"metaimage"`, `"dicom-seg"`, `"rtstruct"`, `"dicom-series"` or `"png"`.
        notes: What was tolerated or looks odd.
    """

    labels: NDArray[np.uint8]
    organs: tuple[str, ...]
    kind: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, eq=False)
class Request:
    """What the caller of `read_mask` wants: the CT, the rules and the relaxations."""

    volume: Volume
    rules: tuple[OrganRule, ...]
    resample: bool = False
    png_order: str | None = None
    allow: frozenset[str] = frozenset()
    grid: StatedGrid | None = None


class Canvas:
    """Label values, filled organ by organ; of two organs on one voxel the first-named keeps it.

    Args:
        shape: `(slices, rows, columns)`.
        organs: Names; organ `i` is painted as `i + 1`.
    """

    def __init__(self, shape: tuple[int, int, int], organs: tuple[str, ...]) -> None:
        self.labels = np.zeros(shape, np.uint8)
        self.organs = organs
        self._shared: Counter[tuple[int, int]] = Counter()

    def paint(self, slice_number: int, organ: int, marked: NDArray[np.bool_]) -> None:
        """Mark one organ on one slice; the order of the calls does not matter.

        Args:
            slice_number: Which slice.
            organ: Position in `organs`, from 0.
            marked: bool `(rows, columns)`.
        """
        plane, value = self.labels[slice_number], np.uint8(organ + 1)
        for other in np.unique(plane[marked & (plane != 0) & (plane != value)]):
            pair = int(min(other, value)) - 1, int(max(other, value)) - 1
            self._shared[pair] += int(np.count_nonzero(marked & (plane == other)))
        plane[marked & ((plane == 0) | (plane > value))] = value

    def notes(self) -> tuple[Note, ...]:
        """Return a loud note for each two organs that share voxels."""
        return tuple(
            overlap_note(self.organs[first], self.organs[other], count)
            for (first, other), count in sorted(self._shared.items())
        )

    @property
    def losers(self) -> frozenset[str]:
        """The organs of which others keep voxels."""
        return frozenset(self.organs[other] for _, other in self._shared)


def overlap_note(first: str, other: str, voxels: int) -> Note:
    """Return the note for voxels of two organs, of which the first-named keeps them."""
    text = f"{voxels:,} voxels belong to both {first} and {other}; {first} keeps them, as it is named first"
    return Note("OVERLAP", text, loud=True)


def finish(
    labels: NDArray[np.uint8],
    organs: tuple[str, ...],
    kind: str,
    notes: tuple[Note, ...],
    losers: frozenset[str] = frozenset(),
) -> Mask:
    """Make the mask, with a loud note for every organ that has no voxel.

    Args:
        labels: As in `Mask`.
        organs: As in `Mask`.
        kind: As in `Mask`.
        notes: As in `Mask`.
        losers: The organs of which others keep voxels, so that they may be empty here and not in the file.
    """
    empty = [o for number, o in enumerate(organs, 1) if not any((plane == number).any() for plane in labels)]
    unmarked = [organ for organ in empty if organ not in losers]
    if unmarked:
        notes += (Note("EMPTY", f"the mask marks no voxel as {', '.join(unmarked)}", loud=True),)
    for organ in (organ for organ in empty if organ in losers):
        text = f"no voxel of {organ} is left: other organs keep all of them; name {organ} before those"
        notes += (Note("EMPTY", text, loud=True),)
    return Mask(np.ascontiguousarray(labels), organs, kind, notes)


def check_frame_of_reference(mask_uid: object, request: Request) -> tuple[Note, ...]:
    """Refuse a mask whose FrameOfReferenceUID is another than the CT's; blanks on either side pass.

    Raises:
        DataError: If they differ and `frame-of-reference` is not allowed (code `FRAME_OF_REFERENCE`).
    """
    ours, theirs = request.volume.identity.frame_of_reference_uid.strip(), str(mask_uid or "").strip()
    if not ours or not theirs or ours == theirs:
        return ()
    if OTHER_FRAME in request.allow:
        return (
            Note("FRAME_OF_REFERENCE", "the mask's FrameOfReferenceUID is not the CT's (allowed)", loud=True),
        )
    raise DataError(
        "FRAME_OF_REFERENCE",
        "a mask drawn in another frame of reference (FrameOfReferenceUID)",
        "the CT's",
        f"check that the mask belongs to this CT, or pass --allow {OTHER_FRAME}",
    )
