"""Keeps the compiled scorers of a model with it; a second one would be compiled again, at the price of many batches."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from kerasbalance.errors import explain

Made = TypeVar("Made")


class _Kept:
    """Holds a model's scorers; no Keras object, so that Keras neither tracks nor saves what is in it."""

    def __init__(self) -> None:
        self.scorers: dict[Hashable, Any] = {}
        self.variables: list[Any] = []

    def follow(self, variables: list[Any]) -> None:
        """Forget the scorers if the model has other variables than before, as after LoRA or quantization."""
        mine = self.variables
        if mine and (
            len(mine) != len(variables) or any(a is not b for a, b in zip(mine, variables, strict=True))
        ):
            self.scorers.clear()
        self.variables = list(variables)


def kept_scorer(model: Any, key: Hashable, make: Callable[[], Made]) -> Made:
    """Return the scorer that a model has under a key; it is made where there is none.

    Args:
        model: The model that is scored.
        key: The kind of the scorer and all that it was made for.
        make: Makes it.

    Raises:
        ValueError: If the model has a preprocessor, which its own `predict` would apply and a scorer would not.
    """
    if getattr(model, "preprocessor", None) is not None:
        raise ValueError(
            explain(
                f"a model with a preprocessor ({type(model.preprocessor).__name__})",
                "a network that is scored as it is",
                "apply the preprocessor in the source and set model.preprocessor = None",
            )
        )
    kept: _Kept = model.__dict__.setdefault("_kerasbalance_scorers", _Kept())
    kept.follow(model.variables)
    if key not in kept.scorers:
        kept.scorers[key] = make()
    found: Made = kept.scorers[key]
    return found
