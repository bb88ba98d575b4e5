"""Runs a compiled scorer over samples: one row of numbers for each sample comes to the host."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbalance.backend import random_state
from kerasbalance.backend.inference import call_releasing
from kerasbalance.backend.torch_layout import spared_layout_copies
from kerasbalance.batches.index import Refs
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import NonFiniteError, explain
from kerasbalance.mining.reading import read_batches
from kerasbalance.mining.scoring import Progress


def scored(
    source: Source, refs: Refs, batch_size: int, score: Callable[[Batch], Any], progress: Progress | None
) -> NDArray[np.float64]:
    """Return what a compiled scorer returns for each sample, float64 `(samples, ...)`; `(0,)` without refs.

    Args:
        source: Where samples are read from.
        refs: Int64 `(samples,)`.
        batch_size: Samples a step.
        score: Scores one batch, padded to `batch_size`: an array `(batch_size, ...)`.
        progress: See `score_slices`.
    """
    rows: list[NDArray[Any]] = []
    with random_state.preserved(), spared_layout_copies():
        for part, batch in read_batches(source, refs, batch_size):
            rows.append(np.asarray(score(batch), np.float64)[: len(part)])
            _check_finite(rows[-1], part)
            if progress is not None:
                progress(min(len(rows) * batch_size, len(refs)), len(refs))
    return np.concatenate(rows) if rows else np.zeros(0)


class Scorer(keras.Model):  # type: ignore[misc]  # untyped
    """A model and the scoring behind it, compiled as one; shares the model's variables."""

    def __init__(self, model: Any) -> None:
        super().__init__(name="sample_scorer", dtype="float32", autocast=False)
        self.model = model

    def build(self, input_shape: Any) -> None:
        """Build nothing: the model has its variables."""
        self.built = True

    def outputs_of(self, x: Any) -> Any:
        """Return the model's predictions for inputs."""
        return self.model(x, training=False) if keras.tree.is_nested(x) else call_releasing(self.model, x)


def _check_finite(table: NDArray[np.float64], refs: Refs) -> None:
    bad = refs[~np.isfinite(table.reshape(len(refs), -1)).all(axis=1)]
    if len(bad):
        raise NonFiniteError(
            explain(
                f"NaN or infinity in the score of {len(bad)} samples, first refs {bad[:8].tolist()}",
                "finite predictions and losses",
                "check the weights and these samples; nothing was scored",
            ),
            refs=bad.tolist(),
        )
