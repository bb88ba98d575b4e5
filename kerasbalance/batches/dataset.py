"""A Keras dataset whose index can be swapped during training, without one stale batch."""

import numbers
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from kerasbalance.backend.processes import own_rows
from kerasbalance.batches.index import Index
from kerasbalance.batches.order import Phase
from kerasbalance.batches.readahead import READING_THREADS, ReadAhead
from kerasbalance.batches.source import Batch, Source, check_flips
from kerasbalance.errors import explain

Augment = Callable[[Any, Any, np.random.Generator], tuple[Any, Any]]


class HasIndex(Protocol):
    """A sampler, as far as a dataset needs to know it."""

    index: Index


class IndexedDataset(keras.utils.PyDataset):  # type: ignore[misc]  # untyped
    """Batches of constant size drawn from an index that may be swapped between two steps.

    The batch of an absolute iteration is a pure function of `(seed, phase, iteration, index)`, where a
    phase is the time between two swaps. Each pass visits every entry of the index once, in a new random
    order; a batch that reaches the end of a pass takes its rest from the next one, so that no batch is ever
    smaller (another shape would compile the model again). An index with weights is drawn with replacement
    instead.

    In a plain `model.fit(dataset, epochs=...)` an epoch has `steps_per_epoch` steps, whatever the index
    holds: Keras reads the length of a dataset once and would ignore growth without a word. Leave `workers`
    alone: with Keras' own workers, batches of the old index are trained on after a swap. The order within
    an epoch is random already, so `shuffle=False` loses nothing and lets the read-ahead guess the next
    batch. `fit(steps_per_epoch=...)` is not needed; if given it should equal the dataset's own.

    Of several processes (`keras.distribution.initialize`), each reads its own rows of the batch.

    Args:
        source: Where samples are read from: an `ArraySource`, a `DatasetSource`, or another `Source`.
        index: What to draw from: a sampler, whose index is drawn from and which `ScheduledMining` then finds by
            itself, or an `Index`.
        batch_size: Samples a batch, >= 1; may exceed the number of entries.
        steps_per_epoch: Steps an epoch, >= 1; in `kerasbalance.fit` too. By default one pass over the index that is
            drawn from at first, rounded up.
        seed: Seed of the order, 0 <= seed < 2**64.
        read_ahead: Batches read in advance; 0 reads in the training's own thread.
        threads: Reading threads. A disk or a network answers many requests at once, and one thread makes one; where
            all slices lie in memory, two are enough.
        augment: Changes a batch, for instance `Augmentation`: a function of images, masks and a generator, from
            which all its random numbers must come. Scoring is not augmented. Pass the same one to resume a run.

    Raises:
        TypeError: If `source` has no `read` or no length.
        ValueError: If a number is out of range, a ref lies outside the source, or a flip is not possible.

    Example:
        >>> import numpy as np, kerasbalance as kb
        >>> source = kb.ArraySource(np.zeros((10, 8, 8, 1), np.int16), np.zeros((10, 8, 8, 1), np.uint8))
        >>> dataset = kb.IndexedDataset(source, kb.Index(np.arange(10)), batch_size=4, steps_per_epoch=5)
        >>> images, masks = dataset[0]
        >>> images.shape
        (4, 8, 8, 1)
    """

    def __init__(
        self,
        source: Source,
        index: Index | HasIndex,
        *,
        batch_size: int,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        read_ahead: int = 8,
        threads: int = READING_THREADS,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(workers=0, use_multiprocessing=False)
        if not isinstance(source, Source):
            raise TypeError(
                explain(
                    f"a source of type {type(source).__name__}",
                    "read(refs, flips) and len()",
                    "wrap arrays in ArraySource, a dataset of samples in DatasetSource",
                )
            )
        self.sampler = None if isinstance(index, Index) else index
        index = index if isinstance(index, Index) else index.index
        _check_range("batch_size", batch_size, 1, 1 << 31)
        if steps_per_epoch is None:
            steps_per_epoch = -(-len(index) // batch_size)
        _check_range("steps_per_epoch", steps_per_epoch, 1, 1 << 31)
        _check_range("seed", seed, 0, 1 << 64)
        _check_range("read_ahead", read_ahead, 0, 1 << 10)
        _check_range("threads", threads, 1, 1 << 10)
        self.source = source
        self.augment = augment
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.requests = 0
        self._check_refs(index)
        # Threads read the phase and the epoch's begin together: one attribute, replaced as a whole.
        self._position = (Phase(index, 0, 0, seed, batch_size), 0)
        self._served: set[int] = set()
        self._placed = False
        self._reader = ReadAhead(self._make, read_ahead, threads)
        self._failure: BaseException | None = None

    @property
    def index(self) -> Index:
        """What is drawn from now."""
        return self._position[0].index

    @property
    def phase(self) -> Phase:
        """The running phase: its number, where it began, and its index."""
        return self._position[0]

    @property
    def failure(self) -> BaseException | None:
        """The last error of the source; TensorFlow replaces it by one of its own on the way to `fit`."""
        return self._failure

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, i: int) -> Batch:
        """Return batch `i` of the running epoch, `0 <= i < steps_per_epoch`."""
        if not 0 <= i < self.steps_per_epoch:
            raise IndexError(
                explain(f"batch {i}", f"0 to {self.steps_per_epoch - 1}", "use batch(iteration)")
            )
        phase, begin = self._position
        self.requests += 1
        self._served.add(i)
        return self._read(phase, begin + i)

    def batch(self, iteration: int) -> Batch:
        """Return the batch of absolute `iteration`; always fresh arrays."""
        self.requests += 1
        return self._read(self.phase, iteration)

    def refs(self, iteration: int) -> list[int]:
        """Return the refs of the batch of absolute `iteration`."""
        phase = self.phase
        return [int(ref) for ref in phase.index.refs[phase.positions(iteration)]]

    def stream(self, start: int) -> "Stream":
        """Return an endless dataset whose batch 0 is that of absolute iteration `start`."""
        return Stream(self, start)

    def swap(self, index: Index, iteration: int | None = None) -> None:
        """Draw from `index` from absolute `iteration` on; whatever was read ahead is dropped.

        Without an iteration the new phase begins with the running epoch: call it between two epochs.
        """
        self._check_refs(index)
        phase, begin = self._position
        if iteration is None:
            iteration = begin + self._finished_steps()
        self._position = (Phase(index, phase.number + 1, iteration, self.seed, self.batch_size), iteration)

    def place(self, iteration: int) -> None:
        """Let the next epoch of a plain `fit` begin at absolute `iteration`; `ScheduledMining` does this."""
        self._position = (self.phase, iteration)
        self._placed = True

    def on_epoch_begin(self) -> None:
        """Move on to the next epoch if the last one was read to its end; Keras calls this.

        Keras also calls it for a look at one batch before the first epoch, which must not count. Call `place`
        to set the iteration explicitly.
        """
        phase, begin = self._position
        if self._placed:
            self._served, self._placed = set(), False
        else:
            self._position = (phase, begin + self._finished_steps())

    def state(self) -> dict[str, Any]:
        """Return what `load_state` needs: the index and the place of its phase, as arrays."""
        phase = self.phase
        return {**phase.index.state(), "phase": phase.number, "begin": phase.begin}

    def load_state(self, state: dict[str, Any]) -> None:
        """Return to the phase that `state` describes."""
        index = Index.from_state(state)
        self._check_refs(index)
        number, begin = int(state["phase"]), int(state["begin"])
        self._position = (Phase(index, number, begin, self.seed, self.batch_size), begin)

    def _finished_steps(self) -> int:
        """Return the steps of the running epoch if it was read to its end (and forget that), else 0."""
        if len(self._served) < self.steps_per_epoch:
            return 0
        self._served = set()
        return self.steps_per_epoch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_failure": None}

    def _read(self, phase: Phase, iteration: int) -> Batch:
        try:
            return self._reader.get(phase, iteration)
        except Exception as error:
            self._failure = error
            raise

    def _make(self, phase: Phase, iteration: int) -> Batch:
        chosen, own = phase.positions(iteration), own_rows(self.batch_size)
        if self.augment is None:
            chosen = chosen[own]
            return self.source.read(phase.index.refs[chosen], phase.index.flips[chosen])
        # Random numbers are drawn for the whole batch, so that they do not depend on the number of processes.
        batch = self.source.read(phase.index.refs[chosen], phase.index.flips[chosen])
        if len(batch) < 2:
            raise ValueError(
                explain(
                    "augment for samples without targets", "a source of inputs and targets", "leave it out"
                )
            )
        batch = (*self.augment(batch[0], batch[1], phase.augmentation(iteration)), *batch[2:])
        mine: Batch = keras.tree.map_structure(lambda array: array[own], batch)
        return mine

    def _check_refs(self, index: Index) -> None:
        largest = int(index.refs.max())
        if largest >= len(self.source):
            raise ValueError(
                explain(
                    f"ref {largest}", f"refs below {len(self.source)}, the source's length", "check the index"
                )
            )
        check_flips(self.source, index.flips)


class Stream(keras.utils.PyDataset):  # type: ignore[misc]  # untyped
    """The batches of an `IndexedDataset` from one absolute iteration on, without an end."""

    def __init__(self, dataset: IndexedDataset, start: int) -> None:
        super().__init__(workers=0, use_multiprocessing=False)
        self.dataset = dataset
        self.start = start

    @property
    def num_batches(self) -> None:
        """No length: `fit` is told the number of steps."""
        return None

    def __getitem__(self, i: int) -> Batch:
        return self.dataset.batch(self.start + i)


def _check_range(name: str, value: int, low: int, end: int) -> None:
    if not isinstance(value, numbers.Integral) or not low <= value < end:
        raise ValueError(
            explain(f"{name}={value!r}", f"a whole number from {low} to {end - 1}", "pass one in that range")
        )
