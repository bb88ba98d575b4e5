"""Balanced training of 2D segmentation models: score the slices, mine the hard ones, go on training.

Names are loaded on first use: `import kerasbalance` is instant and a Keras backend can still be
chosen afterwards (`KERAS_BACKEND`). `kerasbalance.data` reads CT; `kerasbalance.cli` is the command line.

Once `keras` and this package are imported, in this order, `keras.saving.load_model` finds the layers, losses and
metrics of this package by name. In the other order it finds them after the first use of a name such as
`kerasbalance.fit`.

Reference:
    Zhang et al., "Data Balancing Based on Pre-Training Strategy for Liver Segmentation from CT Scans",
    Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasbalance import losses as losses
    from kerasbalance import models as models
    from kerasbalance.batches.array_source import ArraySource as ArraySource
    from kerasbalance.batches.augmentation import Augmentation as Augmentation
    from kerasbalance.batches.dataset import IndexedDataset as IndexedDataset
    from kerasbalance.batches.dataset_source import DatasetSource as DatasetSource
    from kerasbalance.batches.index import Index as Index
    from kerasbalance.batches.source import Source as Source
    from kerasbalance.errors import CheckpointError as CheckpointError
    from kerasbalance.errors import CheckpointWarning as CheckpointWarning
    from kerasbalance.errors import CheckpointWriteError as CheckpointWriteError
    from kerasbalance.errors import Interrupted as Interrupted
    from kerasbalance.errors import NonFiniteError as NonFiniteError
    from kerasbalance.evaluation.cases import CaseMetrics as CaseMetrics
    from kerasbalance.evaluation.cases import SliceMetrics as SliceMetrics
    from kerasbalance.evaluation.cases import evaluate_case as evaluate_case
    from kerasbalance.evaluation.cases import evaluate_slices as evaluate_slices
    from kerasbalance.evaluation.cases import keep_largest_component as keep_largest_component
    from kerasbalance.evaluation.paired import PairedDifference as PairedDifference
    from kerasbalance.evaluation.paired import paired_difference as paired_difference
    from kerasbalance.evaluation.splits import CaseSplit as CaseSplit
    from kerasbalance.evaluation.splits import split_cases as split_cases
    from kerasbalance.evaluation.summaries import MetricSummary as MetricSummary
    from kerasbalance.evaluation.summaries import OrganSummary as OrganSummary
    from kerasbalance.evaluation.summaries import summarise_cases as summarise_cases
    from kerasbalance.evaluation.surface import SurfaceMetrics as SurfaceMetrics
    from kerasbalance.evaluation.surface import surface_metrics as surface_metrics
    from kerasbalance.losses.dice import DiceLoss as DiceLoss
    from kerasbalance.losses.dice import dice_loss as dice_loss
    from kerasbalance.losses.hard_pixels import DiceFocalLoss as DiceFocalLoss
    from kerasbalance.losses.hard_pixels import DiceTopKLoss as DiceTopKLoss
    from kerasbalance.losses.hard_pixels import focal_loss as focal_loss
    from kerasbalance.losses.hard_pixels import top_k_loss as top_k_loss
    from kerasbalance.losses.metrics import DiceScore as DiceScore
    from kerasbalance.losses.schedules import PolyDecay as PolyDecay
    from kerasbalance.mining.callback import ScheduledMining as ScheduledMining
    from kerasbalance.mining.counts import SliceScores as SliceScores
    from kerasbalance.mining.counts import ThresholdScores as ThresholdScores
    from kerasbalance.mining.counts import dice_from_counts as dice_from_counts
    from kerasbalance.mining.proportional import ProportionalSampler as ProportionalSampler
    from kerasbalance.mining.result import MiningResult as MiningResult
    from kerasbalance.mining.rules import Rule as Rule
    from kerasbalance.mining.rules import at_random as at_random
    from kerasbalance.mining.rules import below as below
    from kerasbalance.mining.rules import below_worst_case as below_worst_case
    from kerasbalance.mining.rules import everything as everything
    from kerasbalance.mining.rules import lowest as lowest
    from kerasbalance.mining.sampler import HardSliceSampler as HardSliceSampler
    from kerasbalance.mining.sampler import Sampler as Sampler
    from kerasbalance.mining.sampler import mine_on_top as mine_on_top
    from kerasbalance.mining.scores.disagreement import score_by_disagreement as score_by_disagreement
    from kerasbalance.mining.scores.loss import score_by_loss as score_by_loss
    from kerasbalance.mining.scores.outside import scores_from_csv as scores_from_csv
    from kerasbalance.mining.scoring import score_at_thresholds as score_at_thresholds
    from kerasbalance.mining.scoring import score_slices as score_slices
    from kerasbalance.notebook import show as show
    from kerasbalance.training.loop import fit as fit
    from kerasbalance.training.validation import Validation as Validation

    __version__: str

_NAMES_OF: dict[str, tuple[str, ...]] = {
    "kerasbalance": ("losses", "models"),
    "kerasbalance.batches.array_source": ("ArraySource",),
    "kerasbalance.batches.augmentation": ("Augmentation",),
    "kerasbalance.batches.dataset": ("IndexedDataset",),
    "kerasbalance.batches.dataset_source": ("DatasetSource",),
    "kerasbalance.batches.index": ("Index",),
    "kerasbalance.batches.source": ("Source",),
    "kerasbalance.errors": (
        "CheckpointError",
        "CheckpointWarning",
        "CheckpointWriteError",
        "Interrupted",
        "NonFiniteError",
    ),
    "kerasbalance.evaluation.cases": (
        "CaseMetrics",
        "SliceMetrics",
        "evaluate_case",
        "evaluate_slices",
        "keep_largest_component",
    ),
    "kerasbalance.evaluation.summaries": ("MetricSummary", "OrganSummary", "summarise_cases"),
    "kerasbalance.evaluation.paired": ("PairedDifference", "paired_difference"),
    "kerasbalance.evaluation.splits": ("CaseSplit", "split_cases"),
    "kerasbalance.evaluation.surface": ("SurfaceMetrics", "surface_metrics"),
    "kerasbalance.losses.dice": ("DiceLoss", "dice_loss"),
    "kerasbalance.losses.hard_pixels": ("DiceFocalLoss", "DiceTopKLoss", "focal_loss", "top_k_loss"),
    "kerasbalance.losses.metrics": ("DiceScore",),
    "kerasbalance.losses.schedules": ("PolyDecay",),
    "kerasbalance.mining.callback": ("ScheduledMining",),
    "kerasbalance.mining.counts": ("SliceScores", "ThresholdScores", "dice_from_counts"),
    "kerasbalance.mining.proportional": ("ProportionalSampler",),
    "kerasbalance.mining.result": ("MiningResult",),
    "kerasbalance.mining.rules": ("Rule", "at_random", "below", "below_worst_case", "everything", "lowest"),
    "kerasbalance.mining.sampler": ("HardSliceSampler", "Sampler", "mine_on_top"),
    "kerasbalance.mining.scores.disagreement": ("score_by_disagreement",),
    "kerasbalance.mining.scores.loss": ("score_by_loss",),
    "kerasbalance.mining.scores.outside": ("scores_from_csv",),
    "kerasbalance.mining.scoring": ("score_at_thresholds", "score_slices"),
    "kerasbalance.notebook": ("show",),
    "kerasbalance.training.loop": ("fit",),
    "kerasbalance.training.validation": ("Validation",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _installed_version()
    elif name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    elif _MODULE_OF[name] == __name__:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    _register()
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _register() -> None:
    """Import what registers classes with Keras, if Keras is loaded; to load it would choose a backend."""
    if sys.modules.get("keras") is not None and "kerasbalance.models" not in sys.modules:
        importlib.import_module("kerasbalance.models")


def _installed_version() -> str:
    """Return the version of the installed package; "unknown" for a checkout that is not installed."""
    from importlib import metadata

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:
        return "unknown"


_register()
