"""The random state that Keras does not keep in variables: torch's global generators.

On the torch backend every `fit` and `predict` draws a seed from them, and layers without a seed of their own
draw from them in each step; TensorFlow and JAX keep all of it in the model's variables.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from numpy.typing import NDArray

State = dict[str, NDArray[np.uint8]]


def get_state() -> State:
    """Return the state as arrays; empty on other backends."""
    if keras.config.backend() != "torch":
        return {}
    import torch

    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {name: state.numpy().copy() for name, state in states.items()}


def set_state(state: State) -> None:
    """Return to a state; that of a device which is not there is left out."""
    if not state:
        return
    import torch

    torch.set_rng_state(torch.from_numpy(state["cpu"].copy()))
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in state:
            torch.cuda.set_rng_state(torch.from_numpy(state[f"cuda{i}"].copy()), i)


@contextmanager
def preserved() -> Iterator[None]:
    """Leave the random state as it was, whatever happens inside."""
    state = get_state()
    try:
        yield
    finally:
        set_state(state)
