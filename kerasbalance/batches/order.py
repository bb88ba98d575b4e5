"""Which entries stand in which batch: a pure function of (seed, phase, iteration, index).

There is no generator whose state could be lost or drift: every draw builds its own from the numbers that name
it. A killed run, a second read of a batch and a read-ahead in another thread all get the same batch.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.index import Index, Weights
from kerasbalance.errors import explain

Positions = NDArray[np.int64]

WEIGHTED, AUGMENTED = 1, 2
"""Mark the counters of weighted draws and of augmentation, which share no random numbers with the permutations."""


@dataclass(frozen=True, eq=False)
class Phase:
    """The iterations between two index swaps.

    Args:
        index: What is drawn from.
        number: 0 for the first index of a dataset, one more after each swap.
        begin: Absolute iteration of the phase's first batch.
        seed: Seed of the whole run, 0 <= seed < 2**64.
        batch_size: Entries a batch; every batch has exactly as many.
    """

    index: Index
    number: int
    begin: int
    seed: int
    batch_size: int
    _kept: dict[Any, NDArray[Any]] = field(default_factory=dict, repr=False)

    def positions(self, iteration: int) -> Positions:
        """Return int64 `(batch_size,)`: the entries of the batch of absolute `iteration`.

        Raises:
            IndexError: If the iteration lies before the phase.
        """
        if iteration < self.begin:
            raise IndexError(
                explain(f"iteration {iteration}", f"one at or after {self.begin}", "this phase began there")
            )
        step, weights = iteration - self.begin, self.index.weights
        return self._shuffled(step) if weights is None else self._weighted(step, weights)

    def augmentation(self, iteration: int) -> np.random.Generator:
        """Return the generator from which the batch of absolute `iteration` is augmented."""
        return self._generator(iteration - self.begin, AUGMENTED)

    def _generator(self, step: int, purpose: int) -> np.random.Generator:
        key = np.array([self.seed, self.number << 32], np.uint64)
        counter = np.array([0, 0, step, purpose], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _shuffled(self, step: int) -> Positions:
        """Walk through one random permutation after the other; a batch may end one and begin the next."""
        entries = len(self.index)
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int64)
        passes, within = np.divmod(places, entries)
        drawn = np.empty(self.batch_size, np.int64)
        for number in np.unique(passes):
            here = passes == number
            drawn[here] = self._permutation(int(number))[within[here]]
        return drawn

    def _permutation(self, number: int) -> Positions:
        kept = self._kept.get(number)
        if kept is None:
            key = np.array([self.seed, self.number << 32 | number], np.uint64)
            kept = np.random.Generator(np.random.Philox(key=key)).permutation(len(self.index))
            self._keep(number, kept)
        return kept

    def _weighted(self, step: int, weights: Weights) -> Positions:
        cumulative = self._kept.get("cumulative")
        if cumulative is None:
            cumulative = np.cumsum(weights)
            self._keep("cumulative", cumulative)
        uniform = self._generator(step, WEIGHTED).random(self.batch_size)
        total = cumulative[-1]
        drawn = np.minimum(uniform * total, np.nextafter(total, 0))  # the product may round up to the total
        return np.asarray(np.searchsorted(cumulative, drawn, side="right"), np.int64)

    def _keep(self, name: Any, array: NDArray[Any]) -> None:
        # Two threads may compute the same array; both get equal numbers, and the last one is kept.
        if len(self._kept) >= 2:
            self._kept.clear()
        self._kept[name] = array

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}
