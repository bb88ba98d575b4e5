"""The compiled loss of each sample; Keras itself offers the mean over a batch only."""

import importlib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasbalance.backend.private import private_name
from kerasbalance.errors import explain

SampleLosses = Callable[[Any, Any], Any]


def sample_losses(model: Any, batch: tuple[Any, ...]) -> SampleLosses:
    """Return a function of targets and predictions to the losses `(batch,)` of a batch, for use in a compiled graph.

    Losses of several outputs are weighted and summed as Keras does it for the batch. A loss that Keras reduces by its
    sum is summed over the sample, any other is averaged. A loss that has one value for the whole batch is computed on
    each sample as a batch of its own. Sample weights, class weights and penalties of weights are left out.

    Args:
        model: A compiled model.
        batch: A batch `(x, y, ...)` of the size that the function will be given; used if the loss has not been built.

    Raises:
        RuntimeError: If this Keras differs from the known one.
        ValueError: If the model has no compiled loss, or computes its loss in a method of its own.
    """
    compiled = private_name(model, "_compile_loss")
    if compiled is None or type(model).compute_loss is not keras.Model.compute_loss:
        raise ValueError(
            explain(
                "a model without a compiled loss"
                if compiled is None
                else "a model with its own compute_loss",
                "a loss passed to model.compile, which is known for each sample",
                "pass score= a function (model, source, refs) that returns one number from 0 to 1 for each sample",
            )
        )
    if not compiled.built:
        _build(model, compiled, batch)
    size = len(keras.tree.flatten(batch)[0])
    losses, metrics = private_name(compiled, "_flat_losses"), private_name(compiled, "_metrics")
    found: SampleLosses = object.__new__(type(compiled))  # copy.copy would save and load it as a model
    vars(found).update(
        vars(compiled),
        _flat_losses=[entry._replace(loss=_SampleLoss(entry.loss, size)) for entry in losses],
        _metrics=[_NoMetric() for _ in metrics],
    )
    return found


def _build(model: Any, compiled: Any, batch: tuple[Any, ...]) -> None:
    """Let Keras resolve names and structures of the losses, as it does in the first step of a fit."""
    x, y = (
        keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[:1]), part) for part in batch[:2]
    )
    compiled(y, model(x, training=False))
    model.reset_metrics()


def _mask_of(y_pred: Any) -> Any:
    """Return the mask that layers such as `Embedding(mask_zero=True)` gave to a prediction; None if there is none."""
    return private_name(importlib.import_module("keras.src.backend"), "get_keras_mask")(y_pred)


class _NoMetric:
    """Stands in the place of the running mean of an output's loss, which scoring must not change."""

    def update_state(self, value: Any, sample_weight: Any = None) -> None:
        """Ignore a value."""


class _SampleLoss:
    """One loss of one output, for each sample.

    Args:
        loss: A `keras.losses.Loss`.
        size: Samples a batch.
    """

    def __init__(self, loss: Any, size: int) -> None:
        self.loss = loss
        self.size = size
        self._for_each: dict[tuple[Any, ...], bool] = {}

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the losses `(batch,)`."""
        mask = _mask_of(y_pred)
        y_true, y_pred = (ops.convert_to_tensor(part, dtype=self.loss.dtype) for part in (y_true, y_pred))
        if not self._has_one_for_each(y_true, y_pred):
            single = [self.loss(y_true[i : i + 1], y_pred[i : i + 1]) for i in range(self.size)]
            return ops.stack([ops.mean(value) for value in single])
        return self._reduced(self.loss.call(y_true, y_pred), mask)

    def _reduced(self, values: Any, mask: Any) -> Any:
        """Sum or average `(batch, ...)` over all but the batch, and over what a mask `(batch, ...)` keeps."""
        axes = tuple(range(1, len(values.shape)))
        if not axes:
            return values
        if mask is None:
            return (ops.sum if self.loss.reduction == "sum" else ops.mean)(values, axis=axes)
        for _ in range(len(values.shape) - len(mask.shape)):
            mask = ops.expand_dims(mask, axis=-1)
        kept = ops.broadcast_to(ops.cast(mask, values.dtype), values.shape)
        total = ops.sum(values * kept, axis=axes)
        return total if self.loss.reduction == "sum" else total / ops.maximum(ops.sum(kept, axis=axes), 1)

    def _has_one_for_each(self, y_true: Any, y_pred: Any) -> bool:
        """Return whether the loss has values for each sample before it is reduced, and not one for the batch."""
        key = (tuple(y_true.shape[1:]), tuple(y_pred.shape[1:]))
        if key not in self._for_each:
            self._for_each[key] = type(self.loss).call is not keras.losses.Loss.call and all(
                self._values_begin_with(count, y_true, y_pred) for count in (3, 5)
            )
        return self._for_each[key]

    def _values_begin_with(self, count: int, y_true: Any, y_pred: Any) -> bool:
        parts = [ops.zeros((count, *part.shape[1:]), dtype=part.dtype) for part in (y_true, y_pred)]
        return tuple(self.loss.call(*parts).shape[:1]) == (count,)
