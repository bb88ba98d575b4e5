"""A run's model on slices and on CT that it has never seen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import Note
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.neighbours import neighbour_table
from kerasbalance.data.volume.shaping import PlaneMap
from kerasbalance.data.volume.volume import AIR_HU, Volume
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint, read_operating_point
from kerasbalance.experiments.runs.planes import PaddedSource, pad_planes, padded_side

SPACING_TOLERANCE = 1.25
Progress = Callable[[int], None]


def load_segmenter(
    folder: RunFolder, record: RunRecord, plane: tuple[int, int], point: OperatingPoint | None = None
) -> Segmenter:
    """Bring back a run's model for slices of `plane` rows and columns (before padding).

    Args:
        folder: the run's folder.
        record: the run.
        plane: rows and columns of a slice.
        point: the threshold and the clean-up of each organ; the run's own by default.

    Raises:
        DataError: the run has no sound checkpoint or no readable operating point (codes `CHECKPOINT`,
            `OPERATING_POINT`).
    """
    if point is None:
        point = read_operating_point(folder.point_file, record.options.organs)
    padded = (padded_side(plane[0]), padded_side(plane[1]))
    model = load_model(record.options, padded, folder.path / "checkpoint")
    return Segmenter(model, record.options.batch_size, point)


def segment_refs(
    segmenter: Segmenter,
    source: PaddedSource,
    refs: NDArray[np.int64],
    progress: Progress = lambda done: None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Segment slices of a store and read their reference; each slice is read once.

    Args:
        segmenter: the model.
        source: where the slices are read from.
        refs: int64 `(n,)`.
        progress: called with the number of slices done since the last call.

    Returns:
        Labels of the prediction, not cleaned up, and of the reference, uint8 `(n, rows, columns)` each, without the
        padding.
    """
    rows, columns = source.source.plane
    labels, reference = np.empty((2, len(refs), rows, columns), np.uint8)
    for start in range(0, len(refs), segmenter.batch_size):
        part = slice(start, start + segmenter.batch_size)
        x, y = source.read(refs[part])
        labels[part] = segmenter.labels(x)[:, :rows, :columns]
        reference[part] = y[:, :rows, :columns, 0]
        progress(len(labels[part]))
    return labels, reference


def segment_case(
    segmenter: Segmenter,
    source: PaddedSource,
    number: int,
    progress: Progress = lambda done: None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Segment a case of a store, on the CT's own grid where the store keeps the reference there too.

    Probabilities, not labels, are brought back to that grid, as in a prediction on new CT.

    Args:
        segmenter: the model.
        source: where the slices are read from.
        number: the case.
        progress: called with the number of slices done since the last call.

    Returns:
        Labels of the prediction and of the reference, uint8 `(slices, rows, columns)` each.
    """
    store, facts = source.source.store, source.source.store.cases[number]
    refs = store.case_refs(number)
    if facts.ct_plane is None or facts.ct_pixel_mm is None:
        labels, reference = segment_refs(segmenter, source, refs, progress)
        return segmenter.cleaned(labels), reference
    shape = facts.shaping.of(facts.ct_plane, facts.ct_pixel_mm)
    labels = np.empty((len(refs), *facts.ct_plane), np.uint8)
    for start in range(0, len(refs), segmenter.batch_size):
        part = slice(start, start + segmenter.batch_size)
        x, _ = source.read(refs[part])
        shaped = segmenter.probabilities(x)[:, *source.source.window(number)]
        labels[part] = segmenter.labels_of(shape.restored(shaped))
        progress(len(labels[part]))
    return segmenter.cleaned(labels), source.source.reference_ct(number)


def segment_volume(
    segmenter: Segmenter, record: RunRecord, volume: Volume, progress: Progress = lambda done: None
) -> tuple[NDArray[np.uint8], tuple[Note, ...]]:
    """Segment a CT that was read from files, shaped as the training's CT was.

    Where the shaping changes the pixels, the probabilities are brought back to the CT's grid and decided there, so
    that contours are smooth.

    Args:
        segmenter: the model, for the shaped plane; see `plane_map`.
        record: the run.
        volume: the CT.
        progress: called with the number of slices done since the last call.

    Returns:
        Labels on the CT's grid, uint8 `(slices, rows, columns)`, and a note where the CT's pixels are much larger
        or smaller than the training's.
    """
    shape = plane_map(record, volume.grid)
    rows, columns = shape.plane
    labels = np.empty(volume.hu.shape, np.uint8)
    table = neighbour_table(volume.grid.depth_mm, record.options.neighbours)
    for start in range(0, len(labels), segmenter.batch_size):
        part = slice(start, start + segmenter.batch_size)
        planes, near = _with_neighbours(volume, table[part])
        if shape.is_identity:
            x = _as_channels(pad_planes(planes, AIR_HU), near)
            labels[part] = segmenter.labels(x)[:, :rows, :columns]
        else:
            x = _as_channels(pad_planes(shape.image(planes), AIR_HU), near)
            labels[part] = segmenter.labels_of(shape.restored(segmenter.probabilities(x)[:, :rows, :columns]))
        progress(len(labels[part]))
    return segmenter.cleaned(labels), _spacing_notes(volume.grid, record, shape) + _point_notes(segmenter)


def _with_neighbours(volume: Volume, rows: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Return the planes that some slices and their neighbours need, each once, and where each is among them."""
    first = int(rows.min())
    return volume.hu[first : int(rows.max()) + 1], rows - first


def _as_channels(planes: NDArray[np.int16], near: NDArray[np.int64]) -> NDArray[np.int16]:
    """Turn planes into `(n, rows, columns, channels)`."""
    return np.ascontiguousarray(np.moveaxis(planes[near], 1, -1))


def plane_map(record: RunRecord, grid: Grid) -> PlaneMap:
    """Return how a CT's slices are shaped for the run's model."""
    return record.shaping.of(grid.shape[1:], grid.spacing_mm[1:])


def _spacing_notes(grid: Grid, record: RunRecord, shape: PlaneMap) -> tuple[Note, ...]:
    pixel = grid.spacing_mm[1] * shape.rows.step
    low, high = record.pixel_spacing_mm
    if low / SPACING_TOLERANCE <= pixel <= high * SPACING_TOLERANCE:
        return ()
    text = f"pixels of {pixel:.2f} mm, while the model was trained on {low:.2f} to {high:.2f} mm"
    return (Note("SPACING", text, loud=True),)


def _point_notes(segmenter: Segmenter) -> tuple[Note, ...]:
    """Say what decided, where it is not 0.5 without a clean-up."""
    point = segmenter.point
    return () if point.is_plain else (Note("DECIDED", point.text()),)


def run_parts(path: Path, model: str | None = None) -> tuple[RunFolder, RunRecord]:
    """Open a run's folder for its model alone; its store is not needed.

    Args:
        path: The folder.
        model: The run's model, to be named again where it is code of the user's own.

    Raises:
        DataError: If there is no run, or its model was not named (codes `NO_RUN`, `OWN_MODEL`).
    """
    folder = RunFolder(Path(path))
    record = RunRecord.read(folder.record_file)
    record.check_model(model)
    return folder, record
