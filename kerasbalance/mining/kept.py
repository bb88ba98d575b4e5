"""Keeps the compiled scorers of a model with it; a second one would be compiled again, at the price of many batches."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")


class _Kept:
    """Holds a model's scorers; no Keras object, so that Keras neither tracks nor saves what is in it."""

    def __init__(self) -> None:
        self.scorers: dict[Hashable, Any] = {}


def kept_scorer(model: Any, key: Hashable, make: Callable[[], Made]) -> Made:
    """Return the scorer that a model has under a key; it is made where there is none.

    Args:
        model: The model that is scored.
        key: The kind of the scorer and all that it was made for.
        make: Makes it.
    """
    scorers = model.__dict__.setdefault("_kerasbalance_scorers", _Kept()).scorers
    if key not in scorers:
        scorers[key] = make()
    found: Made = scorers[key]
    return found
