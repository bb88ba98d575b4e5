"""Dice and its companions, metrics, masks as channels, and the learning rate that the paper uses.

Importing this package registers its classes with Keras, so that `keras.saving.load_model` needs no
`custom_objects`.
"""

from kerasbalance.losses.dice import DiceLoss, dice_loss
from kerasbalance.losses.hard_pixels import DiceFocalLoss, DiceTopKLoss, focal_loss, top_k_loss
from kerasbalance.losses.metrics import DiceScore
from kerasbalance.losses.schedules import PolyDecay

__all__ = [
    "DiceFocalLoss",
    "DiceLoss",
    "DiceScore",
    "DiceTopKLoss",
    "PolyDecay",
    "dice_loss",
    "focal_loss",
    "top_k_loss",
]
