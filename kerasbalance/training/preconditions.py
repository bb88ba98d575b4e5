"""What `fit` refuses before it begins, because the run could not be exact."""

import math
from typing import Any

import keras

from kerasbalance.backend.devices import replicas, shares_batches
from kerasbalance.backend.processes import process_share
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.errors import explain
from kerasbalance.mining.callback import ScheduledMining


def check_dataset(dataset: IndexedDataset) -> None:
    """Raise a TypeError if a dataset is not one whose batches are addressed by their iteration."""
    if not isinstance(dataset, IndexedDataset):
        raise TypeError(
            explain(
                f"a dataset of type {type(dataset).__name__}",
                "an IndexedDataset",
                "wrap the arrays in ArraySource and IndexedDataset",
            )
        )


def check_fit(
    model: Any, dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining], others: list[Any]
) -> None:
    """Raise a ValueError if the arguments of `fit` cannot give an exact run."""
    if iterations < 1:
        raise ValueError(
            explain(f"iterations={iterations}", "a number >= 1", "pass the number of steps to train")
        )
    _check_model(model)
    _check_devices(model, dataset)
    _check_callbacks(others)
    _check_mining(dataset, iterations, miners)
    _check_executions(model, dataset, iterations, miners)


def _check_model(model: Any) -> None:
    if not getattr(model, "compiled", False):
        raise ValueError(
            explain("a model that is not compiled", "a compiled one", "call model.compile first")
        )
    inner = getattr(model.optimizer, "inner_optimizer", None)  # mixed_float16 wraps the optimizer
    if any(getattr(optimizer, "use_ema", False) for optimizer in (model.optimizer, inner)):
        raise ValueError(
            explain(
                "an optimizer with use_ema=True",
                "one without: Keras overwrites the weights with their average at the end of each fit",
                "compile the model with use_ema=False",
            )
        )


def _check_devices(model: Any, dataset: IndexedDataset) -> None:
    processes = process_share()[1]
    if processes > 1 and not shares_batches():
        raise ValueError(
            explain(
                f"{processes} processes that do not share their batches",
                "a distribution: without one, each process trains a model of its own on every slice",
                "call keras.distribution.set_distribution(keras.distribution.DataParallel("
                "auto_shard_dataset=False)) before the model is built",
            )
        )
    shares = replicas(model)
    if dataset.batch_size % shares:
        raise ValueError(
            explain(
                f"batch_size={dataset.batch_size} on {shares} devices",
                "a multiple of the number of devices, which share each batch equally",
                f"pass batch_size={-(-dataset.batch_size // shares) * shares}, or use fewer devices",
            )
        )


def _check_callbacks(callbacks: list[Any]) -> None:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                explain(
                    "a BackupAndRestore callback",
                    "run_dir in its place: that callback repeats steps and forgets the epoch",
                    "remove it and pass run_dir and resume",
                )
            )


def _check_mining(dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining]) -> None:
    for miner in miners:
        if miner.dataset is not dataset:
            raise ValueError(
                explain(
                    "ScheduledMining on another dataset", "the dataset of this fit", "pass the same to both"
                )
            )
        if miner.at and miner.at[-1] >= iterations:
            raise ValueError(
                explain(
                    f"mining at iteration {miner.at[-1]}",
                    f"one before the last of {iterations} iterations",
                    "mine earlier or train longer",
                )
            )


def _check_executions(
    model: Any, dataset: IndexedDataset, iterations: int, miners: list[ScheduledMining]
) -> None:
    per_call = model.steps_per_execution
    planned = [len(dataset), iterations, *(at for miner in miners for at in [*miner.at, miner.every or 0])]
    if math.gcd(per_call, *planned) != per_call:
        raise ValueError(
            explain(
                f"steps_per_execution={per_call}",
                f"a divisor of {planned}: steps_per_epoch, iterations and the iterations of mining",
                "compile the model without it",
            )
        )
