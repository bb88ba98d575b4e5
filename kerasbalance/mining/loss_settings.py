"""What the loss of a compiled model says about masks and outputs, so that scores read them as the training does."""

from typing import Any


def from_logits(model: Any) -> bool:
    """Return whether the loss that a model is compiled with takes logits."""
    return bool(getattr(getattr(model, "loss", None), "from_logits", False))


def ignored_label(model: Any) -> int | None:
    """Return the label that the loss of a compiled model leaves out; None if there is none.

    Keras calls it `ignore_class` in `SparseCategoricalCrossentropy`.
    """
    loss = getattr(model, "loss", None)
    label = getattr(loss, "ignore_label", None)
    label = getattr(loss, "ignore_class", None) if label is None else label
    return None if label is None else int(label)
