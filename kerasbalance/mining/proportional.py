"""Mining by drawing each slice in proportion to how badly the model does on it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.index import Index, Refs
from kerasbalance.errors import explain
from kerasbalance.mining.counts import SliceScores
from kerasbalance.mining.result import MiningResult
from kerasbalance.mining.rules import NO_REFS
from kerasbalance.mining.sampler import distinct_refs, organ_scores, slice_scores


class ProportionalSampler:
    """Trains on all slices, and after an update draws a share of them in proportion to `1 - score`.

    The rest is drawn alike from all, so that no slice is forgotten, and the weight of one slice stays bounded however
    well the model does on the others. Before the first update every slice is visited once a pass.

    Args:
        candidates: Int64 `(slices,)`, each once.
        uniform: The share of the draws in which all slices are alike, above 0 and at most 1. Fidon et al. 2022 call
            such a mixture a distributionally robust one.

    Raises:
        ValueError: If there is no slice, one stands twice, or `uniform` is out of range.

    Example:
        >>> sampler = ProportionalSampler([5, 6], uniform=0.5)
        >>> sampler.update([1.0, 0.5]).copies
        array([0.5, 1.5])
    """

    def __init__(self, candidates: ArrayLike, *, uniform: float = 0.7) -> None:
        if not 0 < uniform <= 1:
            raise ValueError(
                explain(f"uniform={uniform!r}", "a share above 0 and at most 1", "0.7 is a good one")
            )
        self.candidates: Refs = distinct_refs(candidates, "candidates")
        self.uniform = uniform
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
        rows, missing = len(score), 1 - score
        shares = missing / missing.sum() if missing.any() else np.full(rows, 1 / rows)
        weights = self.uniform / rows + (1 - self.uniform) * shares
        self.index = Index(self.candidates, weights=weights)
        return MiningResult(
            self.candidates.copy(),
            score,
            np.zeros(rows, bool),
            np.full(rows, "weighted"),
            weights * rows,
            float("nan"),
            f"{1 - self.uniform:g} in proportion to 1 - score",
            iteration,
            organ_scores(scores),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the index as arrays."""
        return self.index.state()

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Return to the index that `state` describes."""
        self.index = Index.from_state(state)
