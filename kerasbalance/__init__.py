"""Balanced training of 2D segmentation models: score the slices, mine the hard ones, go on training.

Names are loaded on first use, so that ``import kerasbalance`` is instant and a Keras backend can still be
chosen afterwards (``KERAS_BACKEND``). ``kerasbalance.data`` reads CT; ``kerasbalance.cli`` is the command
line.

Reference:
    Zhang et al., "Data Balancing Based on Pre-Training Strategy for Liver Segmentation from CT Scans",
    Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasbalance.losses import DiceLoss as DiceLoss
    from kerasbalance.losses import dice_loss as dice_loss
    from kerasbalance.metrics import DiceScore as DiceScore
    from kerasbalance.schedules import PolyDecay as PolyDecay

_MODULE_OF: dict[str, str] = {
    "DiceLoss": "kerasbalance.losses",
    "DiceScore": "kerasbalance.metrics",
    "PolyDecay": "kerasbalance.schedules",
    "dice_loss": "kerasbalance.losses",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
