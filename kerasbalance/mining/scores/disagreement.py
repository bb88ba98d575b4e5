"""The score of a sample without a label: how much the predictions for it and for its mirror images agree."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from kerasbalance.backend.devices import gathered, scope_of, shared_size, spread
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.batches.index import flip_codes
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import explain
from kerasbalance.mining import loss_settings
from kerasbalance.mining.kept import kept_scorer
from kerasbalance.mining.reading import check_request
from kerasbalance.mining.scores.scorer import Scorer, scored
from kerasbalance.mining.scoring import Progress

_AXES: dict[int, tuple[int, ...]] = {1: (2,), 2: (1,), 3: (1, 2)}


def score_by_disagreement(
    model: Any,
    source: Source,
    refs: ArrayLike,
    batch_size: int = 16,
    *,
    flips: Sequence[str] = ("horizontal",),
    threshold: float | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Score images by how well the predictions for them and for their mirror images agree; needs no labels.

    For masks the score is the Dice of the mask predicted for the image and the mask predicted for the mirror image,
    mirrored back: 1 if both are empty, and that of the worst organ if there are several. For classes it is 1 minus half
    the sum of the differences of their probabilities. Several flips are averaged. The training is left as it was
    found; see `score_slices`. Each flip costs one more forward pass.

    Args:
        model: A model with images as inputs and one output: masks `(batch, height, width, classes)` as for
            `score_slices`, or probabilities `(batch, classes)` of classes.
        source: Where images are read from; targets are not used.
        refs: `(samples,)`, rows of the source, in any order.
        batch_size: Images a step; the last batch is padded.
        flips: `"horizontal"`, `"vertical"`, `"both"`. Choose those under which an image stays one that may occur.
        threshold: A pixel is predicted where the output of one class, as it is, is larger. By default the model's
            probability is compared with 0.5; the loss that the model is compiled with says by `from_logits` whether the
            output is one.
        progress: See `score_slices`.

    Returns:
        Float64 `(samples,)`, from 0 (the predictions have nothing in common) to 1 (they are equal).

    Raises:
        NonFiniteError: If a prediction is NaN or infinite.
        ValueError: If the inputs are not images, or the output is neither masks nor probabilities of classes.

    Example:
        >>> import keras, kerasbalance as kb
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Identity()])
        >>> kb.score_by_disagreement(model, kb.ArraySource(np.ones((3, 8, 8, 1))), [0, 2])
        array([1., 1.])
    """
    rows = check_request(source, refs, batch_size)
    codes = flip_codes(flips).tolist()
    if 0 in codes:
        raise ValueError(explain(f"flips={flips!r}", 'flips other than "none"', 'pass flips=("horizontal",)'))
    model = synchronised(model)
    logits = threshold is None and loss_settings.from_logits(model)
    value = 0.5 if threshold is None else threshold

    def score(batch: Batch) -> Any:
        _check_images(batch)
        key = ("disagreement", tuple(codes), value, logits)
        scorer = kept_scorer(model, key, lambda: _FlipScorer(model, codes, value, logits))
        return scorer.predict_on_batch(spread(batch[0], scorer))

    with scope_of(model):
        table = scored(source, rows, shared_size(batch_size, model), score, progress)
    return _agreement(table.reshape(-1, 2))


class _FlipScorer(Scorer):
    """Images to float32 `(batch, 2)`: the mean agreement, and the largest distance of an output from 0 to 1."""

    def __init__(self, model: Any, codes: list[int], threshold: float, logits: bool) -> None:
        super().__init__(model)
        self.codes = codes
        self.threshold = threshold
        self.logits = logits

    def call(self, inputs: Any, training: bool = False) -> Any:
        plain = self._probabilities(inputs)
        shape = tuple(getattr(plain, "shape", ()))
        rank = len(shape)
        if rank not in (2, 4):
            raise ValueError(
                explain(
                    f"an output of shape {shape or None}",
                    "masks (batch, height, width, classes) or probabilities (batch, classes)",
                    "wrap a model with several outputs in one that returns the one to compare",
                )
            )
        agree = self._masks_agree if rank == 4 else self._classes_agree
        mean = sum(agree(plain, self._mirrored_outputs(inputs, code, rank)) for code in self.codes) / len(
            self.codes
        )
        outside = ops.max(ops.maximum(-plain, plain - 1), axis=-1) if rank == 2 else ops.zeros_like(mean)
        total = ops.sum(
            ops.cast(plain, "float32"), axis=tuple(range(1, rank))
        )  # NaN and infinity survive a sum
        mean = ops.where(ops.isfinite(total), mean, float("nan"))
        return gathered(ops.stack([mean, ops.cast(outside, "float32")], axis=-1))

    def _probabilities(self, inputs: Any) -> Any:
        outputs = self.outputs_of(inputs)
        if not self.logits:
            return outputs
        return ops.sigmoid(outputs) if outputs.shape[-1] == 1 else ops.softmax(outputs, axis=-1)

    def _mirrored_outputs(self, inputs: Any, code: int, rank: int) -> Any:
        axes = _AXES[code]
        found = self._probabilities(keras.tree.map_structure(lambda image: ops.flip(image, axes), inputs))
        return ops.flip(found, axes) if rank == 4 else found

    def _masks_agree(self, one: Any, other: Any) -> Any:
        """Return the least Dice over the organs; 1 for an organ that is in neither mask."""
        least = None
        for first, second in zip(self._organs(one), self._organs(other), strict=True):
            both, size = _pixels(ops.logical_and(first, second)), _pixels(first) + _pixels(second)
            dice = ops.where(size > 0, 2 * both / ops.maximum(size, 1), 1.0)
            least = dice if least is None else ops.minimum(least, dice)
        return least

    def _organs(self, output: Any) -> list[Any]:
        if output.shape[-1] == 1:
            return [output[..., 0] > self.threshold]
        labels = ops.argmax(output, axis=-1)
        return [labels == organ for organ in range(1, output.shape[-1])]

    def _classes_agree(self, one: Any, other: Any) -> Any:
        share = 1.0 if one.shape[-1] == 1 else 0.5
        return 1 - share * ops.sum(ops.cast(ops.abs(one - other), "float32"), axis=-1)


def _agreement(table: NDArray[np.float64]) -> NDArray[np.float64]:
    if table[:, 1].max(initial=0) > 1e-3:
        raise ValueError(
            explain(
                f"outputs as far as {table[:, 1].max():.4g} outside 0 to 1",
                "probabilities of classes",
                "end the model with sigmoid or softmax, or pass score= a function (model, source, refs)",
            )
        )
    return np.clip(table[:, 0], 0, 1)


def _check_images(batch: Batch) -> None:
    shapes = [array.shape for array in keras.tree.flatten(batch[0])]
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            explain(
                f"inputs of shape {', '.join(map(str, shapes))}",
                "images (batch, height, width, channels), which can be mirrored",
                'pass score="loss", or a function (model, source, refs)',
            )
        )


def _pixels(mask: Any) -> Any:
    return ops.sum(ops.cast(mask, "float32"), axis=(1, 2))
