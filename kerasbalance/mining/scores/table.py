"""The scores by name, and what else may say how hard a sample is."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.backend import random_state
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.batches.source import Source
from kerasbalance.errors import explain
from kerasbalance.mining.counts import SliceScores
from kerasbalance.mining.scores.disagreement import score_by_disagreement
from kerasbalance.mining.scores.loss import score_by_loss
from kerasbalance.mining.scores.outside import as_table, scores_of
from kerasbalance.mining.scoring import Progress, score_slices

Refs = NDArray[np.int64]
Score = str | Callable[[Any, Source, Refs], Any] | ArrayLike
NAMES = ("dice", "loss", "disagreement")


class Scoring:
    """Scores samples in the way that `ScheduledMining(score=...)` names.

    Args:
        score: A name, a function of model, source and refs, or one number for each row of the source.
        batch_size: Samples a step.
        threshold: See `score_slices`.
        ignore_label: See `score_slices`.

    Raises:
        ValueError: If there is no such score.
    """

    def __init__(
        self, score: Score, batch_size: int, threshold: float | None, ignore_label: int | None
    ) -> None:
        self.score = score if isinstance(score, str) or callable(score) else as_table(score)
        self.batch_size, self.threshold, self.ignore_label = batch_size, threshold, ignore_label
        if isinstance(score, str) and score not in NAMES:
            raise ValueError(
                explain(
                    f"score={score!r}",
                    f"one of {', '.join(NAMES)}, a function (model, source, refs), or one number for each row",
                    "choose one of these",
                )
            )

    @property
    def counts_pixels(self) -> bool:
        """Whether the scores hold counts, from which the Dice of whole cases can be computed."""
        return isinstance(self.score, str) and self.score == "dice"

    def __call__(
        self, model: Any, source: Source, refs: Refs, progress: Progress | None = None
    ) -> SliceScores | NDArray[Any]:
        """Score samples; arguments as for `score_slices`."""
        options: dict[str, Any] = {"batch_size": self.batch_size, "progress": progress}
        if not isinstance(self.score, str):
            if not callable(self.score):
                return scores_of(self.score, refs)
            with random_state.preserved():
                return np.asarray(self.score(synchronised(model), source, refs), np.float64)
        if self.score == "loss":
            return score_by_loss(model, source, refs, **options)
        options["threshold"] = self.threshold
        if self.score == "disagreement":
            return score_by_disagreement(model, source, refs, **options)
        return score_slices(model, source, refs, ignore_label=self.ignore_label, **options)
