"""The arguments of Keras' `fit` that ours does not take, each with the reason and the remedy."""

import operator
from collections.abc import Mapping
from typing import Any

from kerasbalance.errors import explain

_REFUSED = {
    "steps_per_epoch": ("the steps of an epoch in the dataset", "pass it to IndexedDataset; the default is one pass"),
    "initial_epoch": (
        "iterations counted from 0: an epoch alone brings back neither the index nor the optimizer",
        "pass run_dir to the first call, and resume=True to go on",
    ),
    "class_weight": (
        "weights in the data or in the loss, which scores and resume know too",
        "pass sample_weight to ArraySource, or compile a loss with class weights",
    ),
    "sample_weight": ("the weights in the source", "pass it to ArraySource"),
    "batch_size": ("the batch size in the dataset", "pass it to IndexedDataset"),
    "shuffle": ("no argument: each pass of the dataset has a random order of its own", "leave it out"),
    "validation_split": ("validation data that are not trained on", "pass validation_data"),
}  # fmt: skip


def refuse_arguments(given: Mapping[str, Any]) -> None:
    """Raise a TypeError for an argument that is not ours, with the remedy where it is one of Keras' `fit`."""
    for name, value in given.items():
        expected, advice = _REFUSED.get(
            name, ("the arguments of kerasbalance.fit", "call help(kerasbalance.fit)")
        )
        shown = value if isinstance(value, (bool, int, float, str)) else "..."
        raise TypeError(explain(f"{name}={shown}", expected, advice))


def total_iterations(iterations: int | None, epochs: int | None, epoch_steps: int) -> int:
    """Return the iterations of a training whose length is given in iterations or in epochs.

    Raises:
        ValueError: If not exactly one of the two is given, or it is below 1.
    """
    if (iterations is None) == (epochs is None):
        raise ValueError(
            explain(f"iterations={iterations}, epochs={epochs}", "exactly one of the two", "pass one of them")
        )
    if epochs is not None:
        if operator.index(epochs) < 1:
            raise ValueError(
                explain(f"epochs={epochs}", "a number >= 1", "pass the number of epochs to train")
            )
        return operator.index(epochs) * epoch_steps
    return operator.index(iterations)  # type: ignore[arg-type]
