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
    from kerasbalance.batches.dataset import IndexedDataset as IndexedDataset
    from kerasbalance.batches.index import Index as Index
    from kerasbalance.batches.source import ArraySource as ArraySource
    from kerasbalance.batches.source import Source as Source
    from kerasbalance.errors import CheckpointError as CheckpointError
    from kerasbalance.errors import CheckpointWarning as CheckpointWarning
    from kerasbalance.errors import CheckpointWriteError as CheckpointWriteError
    from kerasbalance.errors import Interrupted as Interrupted
    from kerasbalance.errors import NonFiniteError as NonFiniteError
    from kerasbalance.evaluation.cases import evaluate_case as evaluate_case
    from kerasbalance.evaluation.cases import evaluate_slices as evaluate_slices
    from kerasbalance.evaluation.cases import keep_largest_component as keep_largest_component
    from kerasbalance.evaluation.cases import summarise_cases as summarise_cases
    from kerasbalance.evaluation.splits import CaseSplit as CaseSplit
    from kerasbalance.evaluation.splits import split_cases as split_cases
    from kerasbalance.evaluation.surface import surface_metrics as surface_metrics
    from kerasbalance.losses.dice import DiceLoss as DiceLoss
    from kerasbalance.losses.dice import dice_loss as dice_loss
    from kerasbalance.losses.hard_pixels import DiceFocalLoss as DiceFocalLoss
    from kerasbalance.losses.hard_pixels import DiceTopKLoss as DiceTopKLoss
    from kerasbalance.losses.metrics import DiceScore as DiceScore
    from kerasbalance.losses.schedules import PolyDecay as PolyDecay
    from kerasbalance.mining.callback import ScheduledMining as ScheduledMining
    from kerasbalance.mining.counts import SliceScores as SliceScores
    from kerasbalance.mining.counts import dice_from_counts as dice_from_counts
    from kerasbalance.mining.proportional import ProportionalSampler as ProportionalSampler
    from kerasbalance.mining.proportional import mine_on_top as mine_on_top
    from kerasbalance.mining.result import MiningResult as MiningResult
    from kerasbalance.mining.rules import at_random as at_random
    from kerasbalance.mining.rules import below as below
    from kerasbalance.mining.rules import below_worst_case as below_worst_case
    from kerasbalance.mining.rules import everything as everything
    from kerasbalance.mining.rules import lowest as lowest
    from kerasbalance.mining.sampler import HardSliceSampler as HardSliceSampler
    from kerasbalance.mining.scoring import score_slices as score_slices
    from kerasbalance.training.loop import fit as fit

_MODULE_OF: dict[str, str] = {
    "ArraySource": "kerasbalance.batches.source",
    "CaseSplit": "kerasbalance.evaluation.splits",
    "CheckpointError": "kerasbalance.errors",
    "CheckpointWarning": "kerasbalance.errors",
    "CheckpointWriteError": "kerasbalance.errors",
    "DiceFocalLoss": "kerasbalance.losses.hard_pixels",
    "DiceLoss": "kerasbalance.losses.dice",
    "DiceScore": "kerasbalance.losses.metrics",
    "DiceTopKLoss": "kerasbalance.losses.hard_pixels",
    "HardSliceSampler": "kerasbalance.mining.sampler",
    "Index": "kerasbalance.batches.index",
    "IndexedDataset": "kerasbalance.batches.dataset",
    "Interrupted": "kerasbalance.errors",
    "MiningResult": "kerasbalance.mining.result",
    "NonFiniteError": "kerasbalance.errors",
    "PolyDecay": "kerasbalance.losses.schedules",
    "ProportionalSampler": "kerasbalance.mining.proportional",
    "ScheduledMining": "kerasbalance.mining.callback",
    "SliceScores": "kerasbalance.mining.counts",
    "Source": "kerasbalance.batches.source",
    "at_random": "kerasbalance.mining.rules",
    "below": "kerasbalance.mining.rules",
    "below_worst_case": "kerasbalance.mining.rules",
    "dice_from_counts": "kerasbalance.mining.counts",
    "dice_loss": "kerasbalance.losses.dice",
    "evaluate_case": "kerasbalance.evaluation.cases",
    "evaluate_slices": "kerasbalance.evaluation.cases",
    "everything": "kerasbalance.mining.rules",
    "fit": "kerasbalance.training.loop",
    "keep_largest_component": "kerasbalance.evaluation.cases",
    "lowest": "kerasbalance.mining.rules",
    "mine_on_top": "kerasbalance.mining.proportional",
    "models": "kerasbalance.models",
    "score_slices": "kerasbalance.mining.scoring",
    "split_cases": "kerasbalance.evaluation.splits",
    "summarise_cases": "kerasbalance.evaluation.cases",
    "surface_metrics": "kerasbalance.evaluation.surface",
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
