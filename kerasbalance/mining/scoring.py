"""Per-slice Dice of a model, counted in the compiled graph: a few bytes a slice come to the host."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.backend import random_state
from kerasbalance.backend.devices import scope_of, shared_size, spread
from kerasbalance.backend.inference import call_releasing
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.backend.torch_layout import spared_layout_copies
from kerasbalance.batches.index import Refs
from kerasbalance.batches.source import Batch, Source
from kerasbalance.errors import NonFiniteError, explain
from kerasbalance.losses.labels import check_labels
from kerasbalance.mining import loss_settings
from kerasbalance.mining.counts import SliceScores, ThresholdScores
from kerasbalance.mining.decision import THRESHOLDS
from kerasbalance.mining.kept import kept_scorer
from kerasbalance.mining.reading import check_request, read_batches
from kerasbalance.mining.slice_counts import NO_PROBABILITIES, NOT_FINITE, SliceCounts

Progress = Callable[[int, int], None]


def score_slices(
    model: Any,
    source: Source,
    refs: ArrayLike,
    batch_size: int = 16,
    *,
    threshold: float | None = None,
    ignore_label: int | None = None,
    progress: Progress | None = None,
) -> SliceScores:
    """Score slices with a model, for mining or evaluation.

    Works between fits and from any synchronous hook of a callback, on every backend, and leaves the training
    as it found it: metrics, random state, batch statistics. Where reference and prediction are both empty
    the Dice is 1; where only the reference is empty it is 0. Masks are read as the losses read them: labels, or
    one channel for each class, of which a share above 0.5 counts.

    Args:
        model: A model with one output `(batch, height, width, classes)`. One class: probabilities of the
            organ, compared with `threshold`. Several: class 0 is the background and the largest output wins
            (the lower class in a tie), at the default threshold.
        source: Where images and masks are read from; the next batch is read while one is scored. A source may have
            a method `annotated(refs)` that returns bool `(slices, organs)`: an organ that is not annotated counts
            nothing in that slice, whose Dice is then 1.
        refs: `(slices,)`, rows of the source; any order. None at all gives empty scores.
        batch_size: Slices a step; the last batch is padded, so that one shape is compiled. Does not change
            the counts. Several devices share each batch, which then grows to a multiple of their number.
        threshold: A pixel is predicted where the output, as it is, is larger. By default the model's probability
            is compared with 0.5; the loss that the model is compiled with says by `from_logits` whether the
            output is one. See `score_at_thresholds` for several classes.
        ignore_label: The value in the masks of pixels that are not annotated; they are in none of the counts. By
            default that of the loss that the model is compiled with.
        progress: Called with (slices scored, slices in all) after each batch; what it raises ends the
            scoring.

    Returns:
        `SliceScores` with `.counts` int64 and `.dice` float64 `(slices, organs)`.

    Raises:
        NonFiniteError: If the model's output holds NaN or infinity.
        ValueError: If output and masks do not fit each other: in shape, in their labels, or because a threshold
            needs probabilities and the output holds none. If a ref is out of range.

    Example:
        >>> import keras, numpy as np, kerasbalance as kb
        >>> source = kb.ArraySource(np.ones((3, 8, 8, 1), "float32"), np.ones((3, 8, 8), np.uint8))
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Identity()])
        >>> kb.score_slices(model, source, [0, 2]).dice
        array([[1.],
               [1.]])
    """
    model = synchronised(model)
    from_logits = threshold is None and loss_settings.from_logits(model)
    value = 0.5 if threshold is None else threshold
    counts = SliceCounts((value,), _ignored(model, ignore_label), from_logits)
    return _score(model, source, check_request(source, refs, batch_size), batch_size, counts, progress).at(
        value
    )


def score_at_thresholds(
    model: Any,
    source: Source,
    refs: ArrayLike,
    batch_size: int = 16,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ignore_label: int | None = None,
    progress: Progress | None = None,
) -> ThresholdScores:
    """Score slices at several thresholds in one pass; see `score_slices`, which does so at one.

    The counts are taken in the compiled graph, so that several thresholds cost little more than one.

    Args:
        model: As for `score_slices`.
        source: As for `score_slices`.
        refs: As for `score_slices`.
        batch_size: As for `score_slices`.
        thresholds: One or more, of probabilities; logits are turned into them if the model is compiled with a
            loss that has `from_logits`. One class: a pixel is predicted where the output is larger. Several: where the
            organ is the most probable one and its share of the probability of organ and background together is
            larger, so that the organs' thresholds do not influence each other; at 0.5 the largest output wins.
        ignore_label: As for `score_slices`.
        progress: As for `score_slices`.

    Returns:
        `ThresholdScores` with `.counts` int64 and `.dice` float64 `(thresholds, slices, organs)`.

    Raises:
        NonFiniteError: As `score_slices`.
        ValueError: As `score_slices`; if there is no threshold, or one of several classes is not between 0 and 1.

    Example:
        >>> import keras, numpy as np, kerasbalance as kb
        >>> x = np.full((1, 8, 8, 1), 0.4, "float32")
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Identity()])
        >>> source = kb.ArraySource(x, np.ones((1, 8, 8), np.uint8))
        >>> kb.score_at_thresholds(model, source, [0], thresholds=(0.3, 0.5)).dice.ravel()
        array([1., 0.])
    """
    if not len(thresholds):
        raise ValueError(explain("no threshold", "at least one", "pass thresholds=(0.5,)"))
    model = synchronised(model)
    label = _ignored(model, ignore_label)
    counts = SliceCounts(tuple(thresholds), label, loss_settings.from_logits(model))
    return _score(model, source, check_request(source, refs, batch_size), batch_size, counts, progress)


def _score(
    model: Any, source: Source, rows: Refs, batch_size: int, layer: SliceCounts, progress: Progress | None
) -> ThresholdScores:
    values, size = layer.thresholds, shared_size(batch_size, model)
    counts = [np.zeros((0, len(values), _organs(model), 3), np.int64)]
    with random_state.preserved(), spared_layout_copies(), scope_of(model):
        scorer = _scorer_of(model, layer)
        for done, (part, batch) in enumerate(read_batches(source, rows, size), 1):
            table = _count(scorer, part, *_image_and_mask(batch))
            counts.append(table.reshape(len(part), len(values), -1, 3))
            if progress is not None:
                progress(min(done * size, len(rows)), len(rows))
    found = np.concatenate(counts[min(len(rows), 1) :])  # the empty one may not know the organs
    known = getattr(source, "annotated", None)
    if known is not None and found.shape[2] > 1:
        found *= known(rows)[:, None, :, None]
    return ThresholdScores(rows, values, np.ascontiguousarray(found.swapaxes(0, 1)))


def _ignored(model: Any, ignore_label: int | None) -> int | None:
    return loss_settings.ignored_label(model) if ignore_label is None else ignore_label


class _Scorer(keras.Model):  # type: ignore[misc]  # untyped
    """A model and the counting behind it, compiled as one; shares the model's variables."""

    def __init__(self, model: Any, counts: SliceCounts) -> None:
        super().__init__(name="slice_scorer", dtype="float32", autocast=False)
        self.model = model
        self.counts = counts
        self.classes = 0  # known once the model was called

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        x, y_true = inputs
        y_pred = call_releasing(self.model, x)
        shape = getattr(y_pred, "shape", None)
        if shape is None or len(shape) != 4 or tuple(shape[1:3]) != tuple(y_true.shape[1:3]):
            raise ValueError(
                explain(
                    f"an output of shape {shape} for masks of shape {tuple(y_true.shape)}",
                    "one output (batch, height, width, classes) of the masks' height and width",
                    "wrap a model with several outputs in one that returns the last; end one whose channels come "
                    "first with keras.layers.Permute((2, 3, 1))",
                )
            )
        self.classes = int(shape[-1])
        if len(y_true.shape) == 4 and y_true.shape[-1] != self.classes:
            raise ValueError(
                explain(
                    f"masks of {y_true.shape[-1]} channels for an output of {self.classes}",
                    "labels (batch, height, width), or one channel for each channel of the output",
                    "turn the masks into labels, or give the model as many channels",
                )
            )
        return self.counts(y_true, y_pred)


def _scorer_of(model: Any, counts: SliceCounts) -> _Scorer:
    key = ("dice", counts.thresholds, counts.ignore_label, counts.from_logits)
    return kept_scorer(model, key, lambda: _Scorer(model, counts))


def _count(scorer: _Scorer, refs: Refs, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int64]:
    masks = _masks(y)
    table = np.asarray(scorer.predict_on_batch(spread((x, masks), scorer)), np.int64)[: len(refs)]
    check_labels(masks, (*masks.shape[:3], scorer.classes), scorer.counts.ignore_label)
    _check_outputs(table[:, 0], refs, scorer.counts.thresholds)
    return table[:, 1:]


def _check_outputs(states: NDArray[np.int64], refs: Refs, thresholds: tuple[float, ...]) -> None:
    bad = refs[states == NOT_FINITE]
    if len(bad):
        raise NonFiniteError(
            explain(
                f"NaN or infinity in the model's output for {len(bad)} slices, first refs {bad[:8].tolist()}",
                "finite outputs",
                "check the weights and these slices; nothing was scored",
            ),
            refs=bad,
        )
    bad = refs[states == NO_PROBABILITIES]
    if len(bad):
        raise ValueError(
            explain(
                f"outputs below 0 or above 1 for {len(bad)} slices, compared with {list(thresholds)}",
                "probabilities",
                "end the model with a sigmoid or softmax; for logits compile it with a loss that has "
                "from_logits=True, or pass threshold=0",
            )
        )


def _image_and_mask(batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two arrays that Dice is counted from."""
    if len(batch) < 2 or any(not isinstance(part, np.ndarray) for part in batch[:2]):
        raise ValueError(
            explain(
                f"samples of {len(keras.tree.flatten(batch))} arrays in {len(batch)} parts",
                "one image and one mask for each sample",
                'score them by another score than "dice": "loss", "disagreement" or a function',
            )
        )
    return batch[0], batch[1]


def _masks(y: NDArray[Any]) -> NDArray[Any]:
    """Return masks `(batch, height, width)`, or with channels, as uint8, int32 or float32."""
    masks = y[..., 0] if y.ndim == 4 and y.shape[-1] == 1 else y
    if masks.ndim not in (3, 4):
        raise ValueError(
            explain(
                f"masks of shape {y.shape}",
                "labels (batch, height, width) or (batch, height, width, 1), or one channel for each class",
                "give the source's masks one of these shapes",
            )
        )
    kind = masks.dtype.kind
    if masks.dtype == np.uint8 or kind == "f":
        return masks.astype(np.float32) if kind == "f" else masks
    return masks.astype(np.uint8 if kind == "b" else np.int32)


def _organs(model: Any) -> int:
    try:
        classes = model.output_shape[-1]
    except (AttributeError, TypeError, ValueError, IndexError):
        return 1
    return max(1, int(classes or 1) - 1)
