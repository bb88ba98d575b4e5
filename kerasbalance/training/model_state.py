"""Everything of a compiled model that a step changes, as arrays, and back."""

import re
from typing import Any

import keras
from keras import ops
from numpy.typing import NDArray

from kerasbalance.backend import random_state, torch_buffers
from kerasbalance.backend.devices import host_value
from kerasbalance.backend.live_weights import synchronised
from kerasbalance.backend.optimizers import further_optimizers, variables_of
from kerasbalance.backend.torch_layout import lay_out_kernels
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.batches.source import Batch
from kerasbalance.errors import CheckpointError, explain
from kerasbalance.training.checkpoint import Arrays, prefixed


def build(model: Any, dataset: IndexedDataset, iteration: int) -> None:
    """Create all variables of model and optimizer, without disturbing the random state."""
    if not all(layer.built for layer in model.layers) or not model.built:
        with random_state.preserved():
            model(first_samples(dataset.batch(iteration))[0], training=False)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    lay_out_kernels(model)


def capture(model: Any) -> Arrays:
    """Return weights, other variables (such as the state of dropout seeds), and those of all optimizers and buffers."""
    model = synchronised(model)
    variables = {
        f"{group}/{i}": host_value(variable)
        for group, variables in _groups(model).items()
        for i, variable in enumerate(variables)
    }
    return variables | prefixed("buffers", {str(i): a for i, a in enumerate(torch_buffers.as_arrays(model))})


def names(model: Any) -> dict[str, list[str]]:
    """Return the path, shape and type of each variable; numbers that Keras gives to layers are left out."""
    found = {group: [_name(v) for v in variables] for group, variables in _groups(model).items()}
    buffers = [f"{tuple(buffer.shape)} {buffer.dtype}" for buffer in torch_buffers.buffers(model)]
    return {**found, "buffers": buffers} if buffers else found


def built_on(model: Any) -> dict[str, list[int]]:
    """Return of each further optimizer that is built the places of its variables among those of the model."""
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    return {
        name: [places.get(id(variable), -1) for variable in variables_of(optimizer)]
        for name, optimizer in further_optimizers(model).items()
        if optimizer.built
    }


def restore(
    model: Any,
    arrays: Arrays,
    saved_names: dict[str, list[str]],
    optimizers: dict[str, list[int]] | None = None,
) -> None:
    """Put back what `capture` returned.

    Args:
        model: A built model.
        arrays: What `capture` returned.
        saved_names: What `names` returned.
        optimizers: What `built_on` returned; version 0.1 did not write it down.

    Raises:
        CheckpointError: If the model or an optimizer has other variables; nothing is changed then.
    """
    _build_further(model, optimizers or {})
    mine = names(model)
    for group, theirs in saved_names.items():
        if mine.get(group) != theirs:
            pairs = zip([*mine.get(group, []), "nothing"], [*theirs, "nothing"], strict=False)
            here, there = next(((a, b) for a, b in pairs if a != b), ("fewer", "more"))
            raise CheckpointError(
                explain(
                    f"a {group} with {len(mine.get(group, []))} variables, the first other one {here}",
                    f"{len(theirs)} variables with {there} in its place, as in the checkpoint",
                    "build and compile the model as in the run that is resumed",
                )
            )
    for group, variables in _groups(model).items():
        for i, variable in enumerate(variables if group in saved_names else []):
            variable.assign(arrays[f"{group}/{i}"])
    buffers = saved_names.get("buffers", [])
    if buffers:
        torch_buffers.set_buffers(model, [arrays[f"buffers/{i}"] for i in range(len(buffers))])


def capture_metrics(model: Any) -> list[NDArray[Any]]:
    """Return the running sums of the epoch's metrics."""
    return [host_value(variable) for variable in synchronised(model).metrics_variables]


def restore_metrics(model: Any, sums: list[NDArray[Any]]) -> None:
    """Put back what `capture_metrics` returned.

    Raises:
        CheckpointError: If the model is compiled with other metrics.
    """
    variables = model.metrics_variables
    if [tuple(v.shape) for v in variables] != [array.shape for array in sums]:
        raise CheckpointError(
            explain(
                f"{len(variables)} metric variables",
                f"the {len(sums)} of the checkpoint",
                "compile the model with the same loss and metrics",
            )
        )
    for variable, array in zip(variables, sums, strict=True):
        variable.assign(array)


def build_metrics(model: Any, dataset: IndexedDataset, iteration: int) -> None:
    """Create the variables of loss and metrics, which Keras else does in the first step."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(first_samples(dataset.batch(iteration)))
    with random_state.preserved():
        y_pred = model(x, training=False)
        model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False)
        model.compute_metrics(x, y, y_pred, sample_weight)
    model.reset_metrics()


def first_samples(batch: Batch, count: int = 1) -> Batch:
    """Return the first samples of a batch as tensors."""
    first: Batch = keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[:count]), batch)
    return first


def _groups(model: Any) -> dict[str, list[Any]]:
    compiled = [] if model.optimizer is None else model.optimizer.variables
    further = {
        f"optimizer {name}": optimizer.variables
        for name, optimizer in further_optimizers(model).items()
        if optimizer.built
    }
    return {"model": model.variables, "optimizer": compiled, **further}


def _build_further(model: Any, optimizers: dict[str, list[int]]) -> None:
    """Build the optimizers that a custom training step would only build in the first step."""
    mine = further_optimizers(model)
    for name, places in optimizers.items():
        if name in mine and not mine[name].built and min(places, default=0) >= 0:
            mine[name].build([model.variables[place] for place in places])


def _name(variable: Any) -> str:
    path = re.sub(r"_\d+(?=[/_]|$)", "", variable.path)
    return f"{path} {tuple(variable.shape)} {keras.backend.standardize_dtype(variable.dtype)}"
