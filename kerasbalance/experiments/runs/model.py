"""The network of a run: built from its options, compiled, or brought back from its checkpoint."""

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerasbalance.backend.inference import predict_batch, slices_at_a_time
from kerasbalance.data.errors import DataError
from kerasbalance.errors import CheckpointError
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.optimizers import make_optimizer
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.models import fcn_vgg16, unet
from kerasbalance.training.checkpoint_reading import read_newest


def build_model(options: TrainOptions, plane: tuple[int, int]) -> Any:
    """Build the network for slices of `plane` rows and columns; the weights follow from the seed.

    Raises:
        DataError: a model of the user's own cannot be imported or does not fit (code `MODEL`).
    """
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    shape = (*plane, 1)
    if ":" in options.model:
        return _own_model(options, shape)
    build: Any = {"unet": unet, "fcn": fcn_vgg16}[options.model]
    return build(
        shape,
        options.num_classes,
        base_filters=options.base_filters,
        window_hu=options.window_hu,
        seed=options.seed,
    )


def _own_model(options: TrainOptions, shape: tuple[int, int, int]) -> Any:
    module, _, name = options.model.partition(":")
    try:
        model = getattr(importlib.import_module(module), name)(shape, options.num_classes)
        output = tuple(model.output_shape)
    except Exception as error:
        raise DataError("MODEL", f"the model {options.model}, which fails with {type(error).__name__}",
                        "an importable function (input_shape, num_classes) that returns a Keras model",
                        "check the name and run the function by itself") from error  # fmt: skip
    if output[1:] != (*shape[:2], options.num_classes):
        raise DataError("MODEL", f"the model {options.model} with output {output}",
                        f"(None, {shape[0]}, {shape[1]}, {options.num_classes})",
                        "give its last layer this shape")  # fmt: skip
    return model


def compile_model(model: Any, options: TrainOptions) -> None:
    """Compile for training with the run's optimizer and loss."""
    model.compile(make_optimizer(options), loss=LOSSES[options.loss].make())


def load_model(options: TrainOptions, plane: tuple[int, int], checkpoint: Path) -> Any:
    """Build the network for any plane and give it the weights of a run's newest sound checkpoint.

    The weights do not depend on the plane, nor on the backend that trained them.

    Raises:
        DataError: there is no sound checkpoint, or it is of another network (code `CHECKPOINT`).
    """
    model = build_model(options, plane)
    try:
        arrays = read_newest(checkpoint).arrays
    except CheckpointError as error:
        raise _no_checkpoint(str(error)) from None
    variables = model.variables
    stored = [arrays.get(f"model/{number}") for number in range(len(variables))]
    fitting = all(a is not None and a.shape == tuple(v.shape) for a, v in zip(stored, variables, strict=True))
    if not fitting or f"model/{len(variables)}" in arrays:
        raise _no_checkpoint("a checkpoint of another network")
    for variable, array in zip(variables, stored, strict=True):
        variable.assign(array)
    return model


def _no_checkpoint(received: str) -> DataError:
    return DataError("CHECKPOINT", received, "a sound checkpoint of this run", "restore it or train again")


@keras.saving.register_keras_serializable("kerasbalance")
class _Labels(keras.layers.Layer):  # type: ignore[misc]  # untyped
    """Probabilities to labels, uint8 `(batch, rows, columns)`, in the compiled graph."""

    def call(self, probabilities: Any) -> Any:
        if probabilities.shape[-1] == 1:
            return ops.cast(probabilities[..., 0] > 0.5, "uint8")
        return ops.cast(ops.argmax(probabilities, axis=-1), "uint8")


class Segmenter:
    """A model that turns slices of HU into labels, a batch of constant size at a time.

    Args:
        model: From int16 `(batch, rows, columns, 1)` to probabilities.
        most: Slices a step at most; fewer where their feature maps would take much memory.
    """

    def __init__(self, model: Any, most: int) -> None:
        self._model = model
        self._labels = keras.Model(model.input, _Labels(name="labels")(model.output))
        self._batch_size = slices_at_a_time(model, most)

    def labels(self, x: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Segment up to `batch_size` slices; the batch is filled up so that one shape is compiled.

        Args:
            x: `(n, rows, columns, 1)`.

        Returns:
            `(n, rows, columns)`: 0 background, i + 1 for the i-th organ.
        """
        return self._predict(self._labels, x).astype(np.uint8, copy=False)

    def probabilities(self, x: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the model's own output for up to `batch_size` slices.

        Args:
            x: `(n, rows, columns, 1)`.

        Returns:
            `(n, rows, columns, channels)`; `labels_of` makes labels of it.
        """
        return self._predict(self._model, x).astype(np.float32, copy=False)

    def _predict(self, model: Any, x: NDArray[np.int16]) -> NDArray[Any]:
        missing = self._batch_size - len(x)
        full = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing > 0 else x
        return predict_batch(model, full)[: len(x)]

    @property
    def batch_size(self) -> int:
        """Slices a step."""
        return self._batch_size


def labels_of(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the labels of probabilities `(..., channels)`, uint8 `(...)`, as `Segmenter.labels` decides."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > 0.5).view(np.uint8)
    return np.asarray(probabilities.argmax(axis=-1), np.uint8)
