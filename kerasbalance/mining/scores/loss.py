"""The score of a sample by its loss."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.backend.compiled_loss import SampleLosses, sample_losses
from kerasbalance.backend.devices import gathered, scope_of, shared_size, spread
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.backend.private import private_name
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import explain
from kerasbalance.mining.kept import kept_scorer
from kerasbalance.mining.reading import check_request
from kerasbalance.mining.scores.scorer import Scorer, scored
from kerasbalance.mining.scoring import Progress

_ROUNDING = 1e-5
"""A loss whose least value is 0 may come out so much below by rounding."""


def score_by_loss(
    model: Any, source: Source, refs: ArrayLike, batch_size: int = 16, *, progress: Progress | None = None
) -> NDArray[np.float64]:
    """Score samples by the loss that the model was compiled with: `1 / (1 + loss)`.

    The loss of each sample is computed in the compiled graph, for targets and outputs of any shape: averaged over the
    sample's values (summed where the loss is reduced by `"sum"`), and summed over several outputs with their weights
    in `compile`. A loss over the whole batch, such as the default `DiceLoss`, is that of the sample alone. Sample
    weights and class weights say how much a sample counts, not how hard it is, and are ignored; so are penalties of
    weights and activities. The training is left as it was found; see `score_slices`.

    A score of 1 is a loss of 0, 0.5 a loss of 1. The score falls with the loss and never rounds to 0, so that the order
    of large losses is kept; `lowest(share)` selects the largest losses.

    Args:
        model: A compiled model.
        source: Where samples are read from; needs targets.
        refs: `(samples,)`, rows of the source, in any order.
        batch_size: Samples a step; the last batch is padded.
        progress: See `score_slices`.

    Returns:
        Float64 `(samples,)`, above 0 and at most 1.

    Raises:
        NonFiniteError: If a loss is NaN or infinite.
        ValueError: If the model has no compiled loss, overrides `compute_loss`, or has a loss below 0.

    Example:
        >>> import keras, kerasbalance as kb
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
        >>> model.compile(loss="mse")
        >>> source = kb.ArraySource(np.array([[1.0, 1.0], [3.0, 1.0]]), np.ones((2, 2)))
        >>> kb.score_by_loss(model, source, [0, 1])
        array([1.        , 0.33333333])
    """
    rows = check_request(source, refs, batch_size)
    model = synchronised(model)

    def score(batch: Batch) -> Any:
        _check_targets(batch)
        key = ("loss", private_name(model, "_compile_loss"), batch_size)
        scorer = kept_scorer(model, key, lambda: _LossScorer(model, sample_losses(model, batch)))
        return scorer.predict_on_batch(spread(batch[:2], scorer))

    with scope_of(model):
        losses = scored(source, rows, shared_size(batch_size, model), score, progress)
    below = rows[losses < -_ROUNDING]
    if len(below):
        raise ValueError(
            explain(
                f"losses down to {losses.min():.4g} for {len(below)} samples, first refs {below[:8].tolist()}",
                "losses of at least 0, where 0 is a perfect prediction",
                "pass score= a function (model, source, refs) that maps the loss to numbers from 0 to 1",
            )
        )
    return 1 / (1 + np.maximum(losses, 0))


class _LossScorer(Scorer):
    """Inputs and targets to float32 losses `(batch,)`."""

    def __init__(self, model: Any, losses: SampleLosses) -> None:
        super().__init__(model)
        self.sample_losses = losses

    def call(self, inputs: Any, training: bool = False) -> Any:
        x, y = inputs
        return gathered(self.sample_losses(y, self.outputs_of(x)))


def _check_targets(batch: Batch) -> None:
    if len(batch) < 2:
        raise ValueError(
            explain(
                "a source without targets",
                "inputs and targets, from which a loss can be computed",
                'pass y to the source, or score="disagreement"',
            )
        )
