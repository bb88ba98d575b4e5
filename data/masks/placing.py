"""Bringing labels from the mask's own grid onto the CT's, by position and never by shape alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.masks.mask import Request
from kerasbalance.data.volume.geometry import Array, Grid, resample_nearest, to_canonical
from kerasbalance.data.volume.matching import EXACT, Match, match, mismatch, moved_by

LEAST_SHARED = 0.9
"""A mask is mapped by position only if so much of the smaller volume lies in the other one."""

MOST_MOVED = 1.0
"""A grid of the CT's size and spacing that lies so many voxels beside it has a wrong origin, or is of another CT."""

Labels = NDArray[np.uint8]


def place(
    labels: NDArray[Any], grid: Grid, request: Request, *, sparse: bool = False, is_known: bool = True
) -> tuple[Labels, tuple[Note, ...]]:
    """Map labels onto the CT's grid; flips and permutations are silent.

    Args:
        labels: uint8 `(slices, rows, columns)` on `grid`.
        grid: The mask's own grid, any orientation.
        request: The CT and whether resampling is allowed.
        sparse: Whether a CT slice that the mask does not have is an empty slice (DICOM SEG) rather than a
            sign that the mask belongs to another series.
        is_known: Whether the mask's file states where its voxels lie.

    Returns:
        The labels, uint8 on the CT's grid, and what there is to remark.

    Raises:
        DataError: If the grids do not agree and resampling was not asked for, or the labels lie outside the CT
            (code `GEOMETRY`).
    """
    target = request.volume.grid
    if grid.shape[0] > 1 and np.any(np.abs(np.diff(grid.depth_mm)) < 1e-6):
        raise mismatch("two slices at one position", "one position for each slice")
    canonical, source = to_canonical(labels, grid)
    turned: Labels = canonical.astype(np.uint8, copy=False)
    try:
        found = match(source, target)
        if not sparse:
            _check_slices(found, source)
    except DataError as error:
        _check_known(error, request, is_known)
        if not request.resample:
            # No advice to resample what would be refused as well.
            raise _obstacle(source, target) or error from None
        return _resample(turned, source, target)
    placed = _cut(turned, found, target.shape)
    return placed, (*_tolerated(found, sparse), *_lost(turned, placed))


def is_known(notes: tuple[Note, ...]) -> bool:
    """Return whether a file states where its voxels lie; its notes tell otherwise."""
    return all(note.code != "PLACEHOLDER" for note in notes)


def _check_known(error: DataError, request: Request, mask_is_known: bool) -> None:
    """Refuse to compare positions of which one is unknown; no voxel is mapped by them either."""
    if mask_is_known and is_known(request.volume.notes):
        return
    which = "mask" if not mask_is_known else "CT"
    advice = f"convert the {which} again from DICOM, or write the right matrix into its header"
    raise DataError("GEOMETRY", f"{error.received}; the header of the {which} is a placeholder", error.expected,
                    advice) from None  # fmt: skip


def _check_slices(found: Match, source: Grid) -> None:
    """Refuse a mask that has some slices of the CT and others beside it: neither is a part of the other."""
    has_slice = found.slices >= 0
    missing = int(np.count_nonzero(~has_slice))
    is_part = np.count_nonzero(has_slice) == source.shape[0] == 1 + np.ptp(np.flatnonzero(has_slice))
    if missing and not is_part:
        raise mismatch(f"no slice at {missing} of {len(has_slice)} positions", "a mask slice on each slice")


def _cut(labels: Labels, found: Match, shape: tuple[int, int, int]) -> Labels:
    placed = np.zeros(shape, np.uint8)
    has_slice = found.slices >= 0
    rows, columns = (
        (slice(max(first, 0), min(first + own, ct)), slice(max(-first, 0), min(ct - first, own)))
        for first, own, ct in zip(found.corner, labels.shape[1:], shape[1:], strict=True)
    )
    placed[has_slice, rows[0], columns[0]] = labels[found.slices[has_slice], rows[1], columns[1]]
    return placed


def _tolerated(found: Match, sparse: bool) -> Iterator[Note]:
    if found.off > EXACT:
        text = f"the mask lies up to {found.off:.2g} voxels off the CT's, which counts as the same place"
        yield Note("OFF_GRID", text)
    missing = int(np.count_nonzero(found.slices < 0))
    if missing and not sparse:
        yield _coverage(missing, len(found.slices))


def _coverage(missing: int, slices: int) -> Note:
    text = f"the mask does not reach {missing} of {slices} slices; they count as background"
    return Note("COVERAGE", text, loud=True)


def _resample(labels: Labels, source: Grid, target: Grid) -> tuple[Labels, tuple[Note, ...]]:
    obstacle = _obstacle(source, target)
    if obstacle is not None:
        raise obstacle
    placed = np.asarray(resample_nearest(labels, source, target), np.uint8)
    if labels.any() and not placed.any():
        raise _elsewhere("no labelled voxel inside the CT", "labels at positions inside the volume")
    notes = [Note("RESAMPLED", "the mask was mapped onto the CT's grid by nearest position")]
    outside = _outside(source, target)
    return placed, (*notes, _coverage(outside, target.shape[0])) if outside else tuple(notes)


def _obstacle(source: Grid, target: Grid) -> DataError | None:
    """Return why no voxel of one grid can be mapped onto another by position, or None."""
    if not source.is_regular:
        return _elsewhere("slices that are not evenly spaced", "one step between all slices")
    moved = moved_by(source, target)
    if moved > MOST_MOVED:
        return _elsewhere(
            f"the size and spacing of the CT that lies {moved:.3g} voxels beside it", "the CT's place"
        )
    shared = _shared_share(source, target)
    if shared < LEAST_SHARED:
        return _elsewhere(f"{shared:.0%} of its volume, or of the CT's, in the other one", "most of it")
    return None


def _elsewhere(received: str, expected: str) -> DataError:
    advice = "check that the mask belongs to this CT; it cannot be mapped by position"
    return DataError("GEOMETRY", f"a mask with {received}", expected, advice)


def _shared_share(source: Grid, target: Grid) -> float:
    """Return how much of the smaller of two volumes lies in the other one."""
    small, large = sorted((source, target), key=_volume_mm3)
    places = [np.linspace(0, size - 1, min(size, 16)) for size in small.shape[::-1]]
    voxels = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse, matrix = np.linalg.inv(_straight(large)), _straight(small)
    there = (voxels @ matrix[:3, :3].T + matrix[:3, 3]) @ inverse[:3, :3].T + inverse[:3, 3]
    is_inside = ((there >= -1) & (there <= large.shape[::-1])).all(axis=1)
    return float(is_inside.mean())


def _straight(grid: Grid) -> Array:
    """Return the matrix of a grid as if its slices were even, which is enough to compare extents."""
    ends = Grid((2, *grid.shape[1:]), grid.positions_mm[[0, -1]], grid.row_step_mm, grid.column_step_mm)
    if grid.shape[0] < 2:
        return grid.affine()
    matrix = ends.affine()
    matrix[:3, 2] /= grid.shape[0] - 1
    return matrix


def _volume_mm3(grid: Grid) -> float:
    return float(abs(np.linalg.det(_straight(grid)[:3, :3])) * np.prod(grid.shape))


def _outside(source: Grid, target: Grid) -> int:
    inverse = np.linalg.inv(source.affine())
    middle = (
        0.5 * (target.shape[1] - 1) * target.row_step_mm + 0.5 * (target.shape[2] - 1) * target.column_step_mm
    )
    voxel = (target.positions_mm + middle) @ inverse[:3, :3].T + inverse[:3, 3]
    return int(np.count_nonzero((voxel[:, 2] < -0.5) | (voxel[:, 2] > source.shape[0] - 0.5)))


def _lost(before: Labels, after: Labels) -> tuple[Note, ...]:
    lost = int(np.count_nonzero(before)) - int(np.count_nonzero(after))
    if lost <= 0:
        return ()
    return (Note("OUTSIDE", f"{lost:,} labelled voxels lie where the CT has no voxels", loud=True),)
