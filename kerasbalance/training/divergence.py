"""Finds out where a training became NaN or infinite."""

import contextlib
from typing import Any

import keras
import numpy as np

from kerasbalance.backend import random_state
from kerasbalance.backend.live_weights import are_finite
from kerasbalance.batches.dataset import IndexedDataset
from kerasbalance.errors import NonFiniteError, explain
from kerasbalance.training import model_state
from kerasbalance.training.checkpoint import under
from kerasbalance.training.follower import Folder


def loss_error(dataset: IndexedDataset, iteration: int, saved_iteration: int) -> NonFiniteError:
    """Return the error for a loss that was NaN or infinite at `iteration`."""
    return _error("a loss that is NaN or infinite", dataset, iteration, saved_iteration)


def weights_error(
    model: Any, dataset: IndexedDataset, iteration: int, folder: Folder | None
) -> NonFiniteError:
    """Return the error for weights that were found NaN or infinite when `iteration` steps were done.

    The loss may have stayed finite: TensorFlow's fused ReLU turns NaN into 0. The steps since the newest
    checkpoint are then repeated, with a look at the weights after each, since batches and state are the same.
    """
    if folder is None:
        return NonFiniteError(
            explain(
                f"weights that are NaN or infinite after iteration {iteration - 1}",
                "finite ones",
                "check the images, lower the learning rate; with run_dir the iteration is found",
            )
        )
    checkpoint = folder.load()
    begin = int(checkpoint.info["iteration"])
    model_state.restore(model, checkpoint.arrays, checkpoint.info["names"])
    found = _repeat(model, dataset, begin, iteration - begin, under("random", checkpoint.arrays))
    return _error("weights that are NaN or infinite", dataset, found, begin)


class _Found(Exception):  # ends the repeated fit; never leaves this module
    pass


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    def __init__(self, random: random_state.State) -> None:
        super().__init__()
        self.random = random
        self.done = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            random_state.set_state(self.random)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done = batch
        if not are_finite(self.model):
            raise _Found


def _repeat(model: Any, dataset: IndexedDataset, begin: int, steps: int, random: random_state.State) -> int:
    """Return the first iteration after which the weights are not finite; the last one if none is found."""
    watch = _Watch(random)
    data = dataset.stream(begin)
    with contextlib.suppress(_Found):
        model.fit(data, steps_per_epoch=steps, epochs=1, shuffle=False, callbacks=[watch], verbose=0)
    return begin + watch.done


def _error(what: str, dataset: IndexedDataset, iteration: int, saved_iteration: int) -> NonFiniteError:
    refs = dataset.refs(iteration)
    arrays = keras.tree.flatten(dataset.batch(iteration))
    bad = sorted({ref for ref, *rows in zip(refs, *arrays, strict=True) if not _finite(rows)})
    cause = f"the data of refs {bad} hold NaN or infinity" if bad else "the data of that batch are finite"
    advice = "remove those slices" if bad else "lower the learning rate"
    kept = (
        f"resume loads iteration {saved_iteration}, which is finite"
        if saved_iteration >= 0
        else "nothing was saved"
    )
    return NonFiniteError(
        explain(
            f"{what} at iteration {iteration}, batch refs {refs}",
            f"finite numbers; {cause}",
            f"{advice}; {kept}",
        ),
        iteration=iteration,
        refs=bad or refs,
    )


def _finite(arrays: list[Any]) -> bool:
    return all(array.dtype.kind not in "fc" or bool(np.isfinite(array).all()) for array in arrays)
