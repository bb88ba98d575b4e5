"""Reference masks of any kind, on the grid of their CT."""

from kerasbalance.data.masks.mask import Mask
from kerasbalance.data.masks.read import read_mask

__all__ = ["Mask", "read_mask"]
