"""Mining at given iterations of a training: score, choose, swap the index."""

import operator
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.batches.source import check_flips
from kerasbalance.errors import explain
from kerasbalance.mining.result import MiningResult
from kerasbalance.mining.sampler import Sampler, slice_scores
from kerasbalance.mining.scores.table import Score, Scoring
from kerasbalance.mining.scoring import Progress
from kerasbalance.training.checkpoint import prefixed, under


class ScheduledMining(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """Scores the sampler's candidates with the model in training and swaps the dataset's index.

    In `kerasbalance.fit` it mines at the exact iteration. In a plain `model.fit(dataset,
    callbacks=[mining])` it mines at the first epoch that begins at or after the iteration; no batch of the
    old index is trained on afterwards, nor one of the new index before. An epoch must have the dataset's
    own number of steps.

    In `model.fit` iterations are steps counted by this callback from 0 on, through several fits if need be; a
    first fit with `initial_epoch=e` begins at `e * steps_per_epoch`. A fit in which nothing will be mined warns
    when it begins. Each new `kerasbalance.fit` counts from 0 again and forgets the results of an earlier one.

    Args:
        dataset: The dataset that is trained on; its source is scored.
        sampler: A `HardSliceSampler`, or another strategy with the same methods. It may be left out if the dataset was
            made with it: `IndexedDataset(source, sampler, ...)`.
        at: One iteration or several, >= 0: so many steps are done before mining.
        every: Mine after each so many steps, in place of `at`.
        score: What says how hard a sample is. `"dice"` compares masks (`score_slices`); `"loss"` takes the compiled
            loss, for any model and data (`score_by_loss`); `"disagreement"` compares the predictions for an image and
            its mirror image, without labels (`score_by_disagreement`). Or a function of `(model, source, refs)` that
            returns one number for each ref, from 0 (hard) to 1 (easy). Or such numbers, one for each row of the source,
            that were computed elsewhere (`scores_from_csv`, or the label quality of cleanlab).
        batch_size: Samples a step of scoring; the dataset's own by default.
        threshold: See `score_slices`; used by `"dice"` and `"disagreement"`.
        ignore_label: See `score_slices`; used by `"dice"`.

    Raises:
        TypeError: If `dataset` is no `IndexedDataset`.
        ValueError: If not exactly one of `at` and `every` is given, a number is out of range, there is no sampler or
            no such score, the source cannot make the sampler's flips, or the rule needs another score; when a
            training begins, if Keras' own workers are switched on, if the epochs or the data are not the dataset's, or
            if the candidates cannot be scored, of which one batch is tried.

    Example:
        >>> import numpy as np, kerasbalance as kb
        >>> source = kb.ArraySource(np.zeros((8, 16, 16, 1), np.int16), np.ones((8, 16, 16), np.uint8))
        >>> sampler = kb.HardSliceSampler(range(4), range(4, 8), kb.below(0.9))
        >>> dataset = kb.IndexedDataset(source, sampler, batch_size=2, steps_per_epoch=2)
        >>> model = kb.models.unet((16, 16, 1), base_filters=1)
        >>> model.compile("sgd", kb.DiceLoss())
        >>> mining = kb.ScheduledMining(dataset, at=2)
        >>> _ = model.fit(dataset, epochs=2, callbacks=[mining], shuffle=False, verbose=0)
        >>> [result.iteration for result in mining.results]
        [2]
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        sampler: Sampler | None = None,
        at: int | Iterable[int] | None = None,
        *,
        every: int | None = None,
        score: Score = "dice",
        batch_size: int | None = None,
        threshold: float | None = None,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(dataset, IndexedDataset):
            raise TypeError(
                explain(
                    f"a dataset of type {type(dataset).__name__}",
                    "an IndexedDataset",
                    "wrap your arrays in one",
                )
            )
        self.dataset = dataset
        self.sampler = _sampler_of(dataset, sampler)
        self.at, self.every = _schedule(at, every)
        self.batch_size = dataset.batch_size if batch_size is None else batch_size
        self.scoring = Scoring(score, self.batch_size, threshold, ignore_label)
        self._check_sampler()
        self.results: list[MiningResult] = []
        self._reached = -1
        self._iteration: int | None = None
        self._begin = 0
        self._requests = 0
        self._fresh = True

    def next_iteration(self) -> int | None:
        """Return the iteration at which to mine next; None if there is none."""
        if self.every is not None:
            return (max(self._reached, 0) // self.every + 1) * self.every
        return min((iteration for iteration in self.at if iteration > self._reached), default=None)

    def restart(self) -> None:
        """Begin the schedule again and forget the results: `kerasbalance.fit` does so for a new run."""
        self._reached = -1
        self._iteration = None
        self.results.clear()

    def mine(self, model: Any, iteration: int, progress: Progress | None = None) -> MiningResult:
        """Mine now, whatever the schedule says; nothing is changed if scoring fails.

        Args:
            model: The model to score with.
            iteration: Steps it has been trained for; the new index holds from there on.
            progress: See `score_slices`.
        """
        source, reference = self.dataset.source, self.sampler.reference
        others: Any = self.scoring(model, source, reference, progress) if len(reference) else None
        scores = self.scoring(model, source, self.sampler.candidates, progress)
        result = self.sampler.update(scores, reference=others, iteration=iteration)
        self.dataset.swap(self.sampler.index, iteration)
        self.results.append(result)
        self._reached = iteration
        return result

    def check_scoring(self, model: Any) -> None:
        """Score one batch of candidates, so that what cannot be scored is refused before the training.

        Nothing is scored if the schedule is at its end.

        Args:
            model: The model that will be trained.

        Raises:
            ValueError, NonFiniteError: As the score; see `score_slices`, `score_by_loss`, `score_by_disagreement`.
        """
        candidates = self.sampler.candidates
        if self.next_iteration() is not None:
            spread = np.linspace(0, len(candidates) - 1, min(self.batch_size, len(candidates)))
            few = candidates[spread.astype(np.int64)]
            slice_scores(self.scoring(model, self.dataset.source, few), few)

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse what cannot be mined in without stale batches, and what cannot be scored."""
        if self.dataset.workers > 1 or self.dataset.use_multiprocessing:
            raise ValueError(
                explain(
                    f"workers={self.dataset.workers}, use_multiprocessing={self.dataset.use_multiprocessing}",
                    "workers=0: Keras' own workers go on serving batches of the old index",
                    "leave them out; the dataset reads ahead by itself",
                )
            )
        steps, per_call = self.params["steps"], self.model.steps_per_execution
        if steps != len(self.dataset) or steps % per_call:
            raise ValueError(
                explain(
                    f"epochs of {steps} steps, {per_call} an execution",
                    f"epochs of the dataset's {len(self.dataset)} steps, in whole executions",
                    "pass steps_per_epoch to the dataset and not to fit",
                )
            )
        self.check_scoring(self.model)
        self._per_call = per_call
        self._fresh = True
        self._begin, self._requests = self._iteration or 0, self.dataset.requests

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Mine if it is time, before the epoch's first batch is read."""
        if self._iteration is None:
            self._iteration = self._begin = epoch * len(self.dataset)
        begin = self._iteration
        if self._fresh:
            self._fresh = False
            self._check_schedule(begin, begin + (self.params["epochs"] - epoch - 1) * len(self.dataset))
            if begin < self.dataset.phase.begin:  # an earlier training of this dataset has come further
                self.dataset.swap(self.dataset.index, begin)
        due = self.next_iteration()
        if due is not None and due <= begin:
            self._check_trained_on(begin)
            self.mine(self.model, begin)
        self._begin = begin
        self.dataset.place(begin)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count the steps."""
        self._iteration = self._begin + batch + self._per_call

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the results, the sampler's state and how far the schedule has come, as arrays."""
        arrays = prefixed("sampler", self.sampler.state())
        for number, result in enumerate(self.results):
            arrays |= prefixed(f"results/{number}", result.state())
        return {**arrays, "reached": np.array(self._reached), "count": np.array(len(self.results))}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Return to the state that `state` describes; the dataset's is its own."""
        self.sampler.load_state(under("sampler", state))
        numbers = range(int(state["count"]))
        self.results[:] = [MiningResult.from_state(under(f"results/{number}", state)) for number in numbers]
        self._reached = int(state["reached"])

    def _check_sampler(self) -> None:
        check_flips(self.dataset.source, np.asarray(getattr(self.sampler, "flips", ())))
        if len(self.sampler.reference) and not self.scoring.counts_pixels:
            raise ValueError(
                explain(
                    f"score={self.scoring.score!r} with a rule that compares with whole cases",
                    'score="dice", which counts the pixels of cases',
                    "use another rule, such as lowest(share)",
                )
            )

    def _check_schedule(self, begin: int, last: int) -> None:
        """Warn if nothing will be mined in a fit; a later one may still come to the iteration."""
        due = self.next_iteration()
        if due is None or due > last:
            warnings.warn(
                explain(
                    f"a fit whose epochs begin at iterations {begin} to {last}, next mining at {due}",
                    "mining at the beginning of one of these epochs: nothing will be mined in this fit",
                    "train longer, pass an earlier iteration, or make a new ScheduledMining to begin again",
                ),
                stacklevel=2,
            )

    def _check_trained_on(self, iteration: int) -> None:
        if iteration > self._begin and self.dataset.requests == self._requests:
            raise ValueError(
                explain(
                    "a fit on other data", "a fit on this callback's dataset", "pass the same dataset to both"
                )
            )


def _sampler_of(dataset: IndexedDataset, sampler: Sampler | None) -> Sampler:
    found: Any = dataset.sampler if sampler is None else sampler
    if not hasattr(found, "update"):
        raise ValueError(
            explain(
                f"sampler={sampler!r} and a dataset that was made with an index",
                "a sampler, which chooses what joins the index",
                "make the dataset with the sampler in place of its index: IndexedDataset(source, sampler, ...)",
            )
        )
    chosen: Sampler = found
    return chosen


def _schedule(at: int | Iterable[int] | None, every: int | None) -> tuple[tuple[int, ...], int | None]:
    if (at is None) == (every is None):
        raise ValueError(explain(f"at={at!r}, every={every!r}", "exactly one of the two", "leave one out"))
    if every is not None:
        if operator.index(every) < 1:
            raise ValueError(
                explain(f"every={every!r}", "a number of steps >= 1", "pass the steps between two minings")
            )
        return (), operator.index(every)
    listed = [at] if not isinstance(at, Iterable) else list(at)
    iterations = sorted({operator.index(iteration) for iteration in listed})  # type: ignore[arg-type]
    if not iterations or iterations[0] < 0:
        raise ValueError(
            explain(f"at={at!r}", "at least one iteration, each >= 0", "pass the iterations at which to mine")
        )
    return tuple(iterations), None
