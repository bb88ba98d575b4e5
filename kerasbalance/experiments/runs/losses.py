"""What a run minimises: one entry a loss, with its words. A new one is one entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kerasbalance as kb


@dataclass(frozen=True)
class Loss:
    """One loss.

    Args:
        name: The word for it in options and files.
        make: Makes the Keras loss from the options that all of them have.
        help: A sentence for `--help`.
        arm: The name of the arm of a study that uses it; empty for the loss of all other arms.
        meaning: What that arm trains on.
    """

    name: str
    make: Callable[..., Any]
    help: str
    arm: str = ""
    meaning: str = ""


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("dice", lambda **given: kb.DiceLoss(**given), "The Dice of the batch."),
        Loss(
            "dice+slice", lambda **given: kb.DiceLoss(slice_share=0.2, **given),
            "0.8 of the Dice of the batch and 0.2 of the mean Dice of its slices, which helps small and hard slices.",
            arm="dice+slice", meaning="all cases, a fifth of the loss by slice",
        ),
        Loss(
            "dice+focal", lambda **given: kb.DiceFocalLoss(**given), "Dice and focal loss.",
            arm="focal", meaning="all cases, Dice and focal loss",
        ),
        Loss(
            "dice+topk", lambda **given: kb.DiceTopKLoss(**given),
            "Dice and cross-entropy of the hardest tenth of the pixels.",
            arm="topk", meaning="all cases, Dice and the hardest tenth of the pixels",
        ),
    )
}  # fmt: skip
