"""Balanced training of 2D segmentation models: score the slices, mine the hard ones, go on training.

Names are loaded on first use: ``import kerasbalance`` is instant and a Keras backend can still be
chosen afterwards (``KERAS_BACKEND``). ``kerasbalance.data`` reads CT; ``kerasbalance.cli`` is the command line.

Reference:
    Zhang et al., "Data Balancing Based on Pre-Training Strategy for Liver Segmentation from CT Scans",
    Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasbalance import models as models
    from kerasbalance.counts import SliceScores as SliceScores
    from kerasbalance.counts import dice_from_counts as dice_from_counts
    from kerasbalance.dataset import IndexedDataset as IndexedDataset
    from kerasbalance.errors import CheckpointError as CheckpointError
    from kerasbalance.errors import CheckpointWarning as CheckpointWarning
    from kerasbalance.errors import CheckpointWriteError as CheckpointWriteError
    from kerasbalance.errors import Interrupted as Interrupted
    from kerasbalance.errors import NonFiniteError as NonFiniteError
    from kerasbalance.evaluation import evaluate_case as evaluate_case
    from kerasbalance.evaluation import evaluate_slices as evaluate_slices
    from kerasbalance.evaluation import keep_largest_component as keep_largest_component
    from kerasbalance.evaluation import summarise_cases as summarise_cases
    from kerasbalance.hard_losses import DiceFocalLoss as DiceFocalLoss
    from kerasbalance.hard_losses import DiceTopKLoss as DiceTopKLoss
    from kerasbalance.index import Index as Index
    from kerasbalance.loop import fit as fit
    from kerasbalance.losses import DiceLoss as DiceLoss
    from kerasbalance.losses import dice_loss as dice_loss
    from kerasbalance.metrics import DiceScore as DiceScore
    from kerasbalance.mining import ScheduledMining as ScheduledMining
    from kerasbalance.result import MiningResult as MiningResult
    from kerasbalance.rules import at_random as at_random
    from kerasbalance.rules import below as below
    from kerasbalance.rules import below_worst_case as below_worst_case
    from kerasbalance.rules import everything as everything
    from kerasbalance.rules import lowest as lowest
    from kerasbalance.sampler import HardSliceSampler as HardSliceSampler
    from kerasbalance.schedules import PolyDecay as PolyDecay
    from kerasbalance.scoring import score_slices as score_slices
    from kerasbalance.source import ArraySource as ArraySource
    from kerasbalance.source import Source as Source
    from kerasbalance.splits import CaseSplit as CaseSplit
    from kerasbalance.splits import split_cases as split_cases
    from kerasbalance.strategies import ProportionalSampler as ProportionalSampler
    from kerasbalance.strategies import mine_on_top as mine_on_top
    from kerasbalance.surface import surface_metrics as surface_metrics

_MODULE_OF: dict[str, str] = {
    "ArraySource": "kerasbalance.source",
    "CaseSplit": "kerasbalance.splits",
    "CheckpointError": "kerasbalance.errors",
    "CheckpointWarning": "kerasbalance.errors",
    "CheckpointWriteError": "kerasbalance.errors",
    "DiceFocalLoss": "kerasbalance.hard_losses",
    "DiceLoss": "kerasbalance.losses",
    "DiceScore": "kerasbalance.metrics",
    "DiceTopKLoss": "kerasbalance.hard_losses",
    "HardSliceSampler": "kerasbalance.sampler",
    "Index": "kerasbalance.index",
    "IndexedDataset": "kerasbalance.dataset",
    "Interrupted": "kerasbalance.errors",
    "MiningResult": "kerasbalance.result",
    "NonFiniteError": "kerasbalance.errors",
    "PolyDecay": "kerasbalance.schedules",
    "ProportionalSampler": "kerasbalance.strategies",
    "ScheduledMining": "kerasbalance.mining",
    "SliceScores": "kerasbalance.counts",
    "Source": "kerasbalance.source",
    "at_random": "kerasbalance.rules",
    "below": "kerasbalance.rules",
    "below_worst_case": "kerasbalance.rules",
    "dice_from_counts": "kerasbalance.counts",
    "dice_loss": "kerasbalance.losses",
    "evaluate_case": "kerasbalance.evaluation",
    "evaluate_slices": "kerasbalance.evaluation",
    "everything": "kerasbalance.rules",
    "fit": "kerasbalance.loop",
    "keep_largest_component": "kerasbalance.evaluation",
    "lowest": "kerasbalance.rules",
    "mine_on_top": "kerasbalance.strategies",
    "models": "kerasbalance.models",
    "score_slices": "kerasbalance.scoring",
    "split_cases": "kerasbalance.splits",
    "summarise_cases": "kerasbalance.evaluation",
    "surface_metrics": "kerasbalance.surface",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULE_OF[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
