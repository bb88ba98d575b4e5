"""Several processes that train one model, each on its share of every batch, as JAX runs them.

Keras starts them by `keras.distribution.initialize`. Here is what they agree on: who writes, whether something failed
somewhere, and when to stop.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
import numpy as np

Result = TypeVar("Result")

_ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"


def join_processes() -> None:
    """Join the other processes, if the environment names them by Keras' own variables; call it before any model.

    The variables are `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `KERAS_DISTRIBUTION_NUM_PROCESSES` and
    `KERAS_DISTRIBUTION_PROCESS_ID`, see `keras.distribution.initialize`.
    """
    if os.environ.get(_ADDRESSES):
        keras.distribution.initialize()


def process_share() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are."""
    if keras.config.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def own_rows(batch_size: int) -> slice:
    """Return which rows of a batch this process reads; all of them where there is one process."""
    rank, processes = process_share()
    own = batch_size // processes
    return slice(rank * own, (rank + 1) * own)


def agreed(numbers: Sequence[int]) -> list[int]:
    """Return for each number the largest that any process passed; all wait here for each other.

    Args:
        numbers: The same count of them in every process.
    """
    if process_share()[1] == 1:
        return [int(number) for number in numbers]
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    return [int(number) for number in np.asarray(gathered).reshape(-1, len(numbers)).max(axis=0)]


def together(action: Callable[[], Result]) -> Result:
    """Do something in every process; where one fails, all raise, so that none waits for it for ever.

    Raises:
        RuntimeError: In the processes that did not fail themselves.
    """
    failure = None
    try:
        result = action()
    except Exception as error:
        failure = error
    (failed,) = agreed([failure is not None])
    if failure is not None:
        raise failure
    if failed:
        raise RuntimeError("another process failed; expected all to go on together; read its message")
    return result
