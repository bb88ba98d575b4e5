"""Mining by drawing each slice in proportion to how badly the model does on it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.index import Index, Refs
from kerasbalance.errors import explain
from kerasbalance.mining.counts import SliceScores
from kerasbalance.mining.result import MiningResult
from kerasbalance.mining.rules import NO_REFS
from kerasbalance.mining.sampler import distinct_refs, slice_scores


class ProportionalSampler:
    """Trains on all slices, and after an update draws each in proportion to `1 - score + floor`.

    Before the first update every slice is visited once a pass.

    Args:
        candidates: Int64 `(slices,)`, each once.
        floor: > 0; what a perfect slice is still drawn with, so that none is forgotten.

    Raises:
        ValueError: If there is no slice, one stands twice, or `floor` is not positive.

    Example:
        >>> sampler = ProportionalSampler([5, 6], floor=0.1)
        >>> sampler.update([1.0, 0.5]).copies.round(3)
        array([0.286, 1.714])
    """

    def __init__(self, candidates: ArrayLike, *, floor: float = 0.05) -> None:
        if not 0 < floor < np.inf:
            raise ValueError(explain(f"floor={floor!r}", "a number > 0", "0.05 is a good one"))
        self.candidates: Refs = distinct_refs(candidates, "candidates")
        self.floor = floor
        self.index = Index(self.candidates)

    @property
    def reference(self) -> Refs:
        """No slices beside the candidates are needed."""
        return NO_REFS

    def update(
        self,
        scores: SliceScores | ArrayLike,
        *,
        reference: SliceScores | None = None,
        iteration: int | None = None,
    ) -> MiningResult:
        """Make the weighted index; arguments and errors as for `HardSliceSampler.update`."""
        score = slice_scores(scores, self.candidates)
        weights = 1 - score + self.floor
        self.index = Index(self.candidates, weights=weights)
        rows = len(score)
        return MiningResult(
            self.candidates.copy(),
            score,
            np.zeros(rows, bool),
            np.full(rows, "weighted"),
            weights * (rows / weights.sum()),
            float("nan"),
            f"proportional to 1 - score + {self.floor}",
            iteration,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the index as arrays."""
        return self.index.state()

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Return to the index that `state` describes."""
        self.index = Index.from_state(state)
