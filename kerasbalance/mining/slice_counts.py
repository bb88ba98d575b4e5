"""Counts of pixels for each slice, taken in the compiled graph: a few bytes a slice come to the host."""

from typing import Any

import keras
from keras import ops

from kerasbalance.backend.devices import gathered
from kerasbalance.losses.labels import SLACK
from kerasbalance.mining.decision import organ_mask

NOT_FINITE, SOUND, NO_PROBABILITIES = 0, 1, 2
"""States of a model's output for a slice, in the first column of the counts."""


class SliceCounts(keras.layers.Layer):  # type: ignore[misc]  # untyped
    """Masks and outputs to int32 `(batch, 1 + thresholds * organs * 3)`: the state of the output, then the counts.

    The state is `SOUND`, `NOT_FINITE`, or `NO_PROBABILITIES` where a threshold needs them. Equality masks and
    integer sums: `bincount` does not compile on two backends, and one-hot arrays cost two to three times as much.

    Args:
        thresholds: See `organ_mask`.
        ignore_label: The value of pixels that are in none of the counts; None if all are.
        from_logits: Turn outputs into probabilities first.
    """

    def __init__(
        self,
        thresholds: tuple[float, ...],
        ignore_label: int | None = None,
        from_logits: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(dtype="float32", autocast=False, **options)
        self.thresholds, self.ignore_label, self.from_logits = thresholds, ignore_label, from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Count; `y_true` `(batch, height, width[, classes])`, `y_pred` `(batch, height, width, classes)`."""
        y_pred, classes = ops.cast(y_pred, "float32"), y_pred.shape[-1]
        if self.from_logits:
            y_pred = ops.sigmoid(y_pred) if classes == 1 else ops.softmax(y_pred, axis=-1)
        winner = ops.argmax(y_pred[..., 1:], axis=-1) + 1 if classes > 1 else None
        kept = self._kept(y_true)
        references = [_both(reference, kept) for reference in _references(y_true, classes)]
        sizes = [_pixels(reference) for reference in references]
        columns = [self._state(y_pred)]
        for threshold in self.thresholds:
            for organ, (reference, size) in enumerate(zip(references, sizes, strict=True), 1):
                predicted = _both(organ_mask(y_pred, organ, threshold, winner), kept)
                columns += [_pixels(ops.logical_and(predicted, reference)), _pixels(predicted), size]
        return gathered(ops.stack(columns, axis=-1))

    def _kept(self, y_true: Any) -> Any:
        if self.ignore_label is None:
            return None
        kept = y_true != self.ignore_label
        return ops.all(kept, axis=-1) if len(y_true.shape) == 4 else kept

    def _state(self, y_pred: Any) -> Any:
        finite = ops.isfinite(ops.sum(y_pred, axis=(1, 2, 3)))  # NaN and infinity survive a sum
        state = ops.where(finite, SOUND, NOT_FINITE)
        one = y_pred.shape[-1] == 1
        if any(0 < threshold < 1 if one else threshold != 0.5 for threshold in self.thresholds):
            outside = ops.any(ops.logical_or(y_pred < -SLACK, y_pred > 1 + SLACK), axis=(1, 2, 3))
            state = ops.where(ops.logical_and(finite, outside), NO_PROBABILITIES, state)
        return ops.cast(state, "int32")


def _references(y_true: Any, classes: int) -> list[Any]:
    if classes == 1:
        return [_are_marked(y_true)]
    if len(y_true.shape) == 4:
        return [_are_marked(y_true[..., organ]) for organ in range(1, classes)]
    return [y_true == organ for organ in range(1, classes)]


def _are_marked(mask: Any) -> Any:
    """Say which pixels of a mask with shares belong to the organ, as the metric does."""
    return mask > 0.5 if "float" in keras.backend.standardize_dtype(mask.dtype) else mask > 0


def _both(mask: Any, kept: Any) -> Any:
    return mask if kept is None else ops.logical_and(mask, kept)


def _pixels(mask: Any) -> Any:
    return ops.sum(ops.cast(mask, "int32"), axis=(1, 2))
