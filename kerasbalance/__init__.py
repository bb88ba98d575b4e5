"""Balanced training of 2D segmentation models: score the slices, mine the hard ones, go on training.

Names are loaded on first use: ``import kerasbalance`` is instant and a Keras backend can still be
chosen afterwards (``KERAS_BACKEND``). ``kerasbalance.data`` reads CT; ``kerasbalance.cli`` is the command line.

Reference:
    Zhang et al., "Data Balancing Based on Pre-Training Strategy for Liver Segmentation from CT Scans",
    Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825.
"""

import importlib
from typing import Any

_MODULE_OF: dict[str, str] = {
    "evaluate_case": "kerasbalance.evaluation",
    "evaluate_slices": "kerasbalance.evaluation",
    "keep_largest_component": "kerasbalance.evaluation",
    "summarise_cases": "kerasbalance.evaluation",
    "surface_metrics": "kerasbalance.surface",
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
