"""A run's model on slices and on CT that it has never seen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import Note
from kerasbalance.data.volume.shaping import restore_planes, shape_planes
from kerasbalance.data.volume.volume import AIR_HU, Volume
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.planes import PaddedSource, pad_planes, padded_side

SPACING_TOLERANCE = 1.25
Progress = Callable[[int], None]


def load_segmenter(folder: RunFolder, record: RunRecord, plane: tuple[int, int]) -> Segmenter:
    """Bring back a run's model for slices of `plane` rows and columns (before padding).

    Raises:
        DataError: the run has no sound checkpoint (code `CHECKPOINT`).
    """
    padded = (padded_side(plane[0]), padded_side(plane[1]))
    model = load_model(record.options, padded, folder.path / "checkpoint")
    return Segmenter(model, record.options.batch_size)


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
        Labels of the prediction and of the reference, uint8 `(n, rows, columns)` each, without the padding.
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


def segment_volume(
    segmenter: Segmenter, record: RunRecord, volume: Volume, progress: Progress = lambda done: None
) -> tuple[NDArray[np.uint8], tuple[Note, ...]]:
    """Segment a CT that was read from files, shaped as the training's CT was.

    Args:
        segmenter: the model, for the shaped plane; see `shaped_plane`.
        record: the run.
        volume: the CT.
        progress: called with the number of slices done since the last call.

    Returns:
        Labels on the CT's grid, uint8 `(slices, rows, columns)`, and a note where the CT's pixels are much larger
        or smaller than the training's.
    """
    crop, resize = record.shaping
    plane = (volume.hu.shape[1], volume.hu.shape[2])
    rows, columns = shaped_plane(record, plane)
    labels = np.empty(volume.hu.shape, np.uint8)
    for start in range(0, len(labels), segmenter.batch_size):
        part = slice(start, start + segmenter.batch_size)
        x = pad_planes(shape_planes(volume.hu[part], crop, resize), AIR_HU)[..., None]
        labels[part] = restore_planes(segmenter.labels(x)[:, :rows, :columns], plane, crop)
        progress(len(labels[part]))
    return labels, _spacing_notes(volume, record, rows)


def shaped_plane(record: RunRecord, plane: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of a CT's slices after the run's crop and resize."""
    crop, resize = record.shaping
    side = resize or crop
    return plane if side is None else (side, side)


def _spacing_notes(volume: Volume, record: RunRecord, rows: int) -> tuple[Note, ...]:
    crop, _ = record.shaping
    pixel = volume.grid.spacing_mm[1] * (crop or volume.hu.shape[1]) / rows
    low, high = record.pixel_spacing_mm
    if low / SPACING_TOLERANCE <= pixel <= high * SPACING_TOLERANCE:
        return ()
    text = f"pixels of {pixel:.2f} mm, while the model was trained on {low:.2f} to {high:.2f} mm"
    return (Note("SPACING", text, loud=True),)


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
