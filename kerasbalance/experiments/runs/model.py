"""The network of a run: built from its options, compiled, or brought back from its checkpoint."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from kerasbalance.backend.inference import predict_batch, slices_at_a_time
from kerasbalance.data.errors import DataError
from kerasbalance.data.store.source import NOT_ANNOTATED
from kerasbalance.errors import CheckpointError
from kerasbalance.evaluation.clean_up import clean_labels
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.optimizers import make_optimizer
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.own_code import import_function
from kerasbalance.mining.decision import organ_mask
from kerasbalance.models import fcn_vgg16, unet
from kerasbalance.training.checkpoint_reading import read_newest


def build_model(options: TrainOptions, plane: tuple[int, int], encoder_weights: Path | None = None) -> Any:
    """Build the network for slices of `plane` rows and columns; the weights follow from the seed.

    Args:
        options: The run's.
        plane: Rows and columns.
        encoder_weights: Weights of VGG-16 for the encoder of `fcn`, see `kerasbalance.models.fcn_vgg16`.

    Raises:
        DataError: a model of the user's own cannot be imported or does not fit (code `MODEL`).
    """
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    shape = (*plane, 2 * options.neighbours + 1)
    if ":" in options.model:
        return _own_model(options, shape)
    build: Any = {"unet": unet, "fcn": fcn_vgg16}[options.model]
    return build(
        shape,
        options.num_classes,
        base_filters=options.base_filters,
        window_hu=options.window_hu,
        seed=options.seed,
        **({} if encoder_weights is None else {"weights": encoder_weights}),
    )


def _own_model(options: TrainOptions, shape: tuple[int, int, int]) -> Any:
    try:
        model = import_function(options.model)(shape, options.num_classes)
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


def compile_model(model: Any, options: TrainOptions, *, has_unknown: bool = False) -> None:
    """Compile for training with the run's optimizer and loss.

    Args:
        model: The network.
        options: The run's.
        has_unknown: Whether some pixels of the masks are not annotated; the loss then leaves them out.
    """
    left_out = {"ignore_label": NOT_ANNOTATED} if has_unknown else {}
    model.compile(make_optimizer(options), loss=LOSSES[options.loss].make(**left_out))


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


class _Labels(keras.layers.Layer):  # type: ignore[misc]  # untyped
    """Probabilities to labels, uint8 `(batch, rows, columns)`, in the compiled graph."""

    def __init__(self, thresholds: tuple[float, ...], **options: Any) -> None:
        super().__init__(dtype="float32", **options)
        self.thresholds = thresholds

    def call(self, probabilities: Any) -> Any:
        winner = ops.argmax(probabilities[..., 1:], axis=-1) + 1 if probabilities.shape[-1] > 1 else None
        masks = [
            ops.cast(organ_mask(probabilities, organ, threshold, winner), "uint8") * organ
            for organ, threshold in enumerate(self.thresholds, 1)
        ]
        return sum(masks[1:], masks[0])


class Segmenter:
    """A model that turns slices of HU into labels, a batch of constant size at a time.

    Args:
        model: From int16 `(batch, rows, columns, 1)` to probabilities.
        most: Slices a step at most; fewer where their feature maps would take much memory.
        point: The threshold and the clean-up of each organ.
    """

    def __init__(self, model: Any, most: int, point: OperatingPoint) -> None:
        self.point = point
        self._model = model
        self._labels = keras.Model(model.input, _Labels(point.thresholds, name="labels")(model.output))
        self._batch_size = slices_at_a_time(model, most)

    def labels(self, x: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Segment up to `batch_size` slices; the batch is filled up so that one shape is compiled.

        Args:
            x: `(n, rows, columns, channels)`.

        Returns:
            `(n, rows, columns)`: 0 background, i + 1 for the i-th organ; not cleaned up.
        """
        return self._predict(self._labels, x).astype(np.uint8, copy=False)

    def probabilities(self, x: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the model's own output for up to `batch_size` slices.

        Args:
            x: `(n, rows, columns, channels)`.

        Returns:
            `(n, rows, columns, channels)`; `labels_of` makes labels of it.
        """
        return self._predict(self._model, x).astype(np.float32, copy=False)

    def labels_of(self, probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the labels of probabilities `(..., channels)`, uint8 `(...)`, as `labels` decides."""
        winner = probabilities[..., 1:].argmax(axis=-1) + 1 if probabilities.shape[-1] > 1 else None
        labels = np.zeros(probabilities.shape[:-1], np.uint8)
        for organ, threshold in enumerate(self.point.thresholds, 1):
            labels[organ_mask(probabilities, organ, threshold, winner)] = organ
        return labels

    def cleaned(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the labels of a whole case after the clean-up of each organ."""
        return clean_labels(labels, self.point.clean_ups)

    def _predict(self, model: Any, x: NDArray[np.int16]) -> NDArray[Any]:
        missing = self._batch_size - len(x)
        full = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing > 0 else x
        return predict_batch(model, full)[: len(x)]

    @property
    def batch_size(self) -> int:
        """Slices a step."""
        return self._batch_size
