"""What a run's folder holds, read back for the report; tables that are not there yet are None."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.evaluation.cases import CaseMetrics, OrganSummary, summarise_cases
from kerasbalance.experiments.runs.evaluate import CLEANED
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.options import MINING, parse_rule
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.split import SplitRow, read_split

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contents:
    """The tables of a run.

    Args:
        record: `run.json`.
        rows: `split.csv`.
        history: columns of `history.csv` by name, and `iteration`, the iterations done at the end of each
            window; None before the training has ended.
        mining: `slices.csv`; None without mining, or before it.
        cases: `eval/cases.csv`; empty before the evaluation.
        cleaned: mean case Dice of each organ when only the largest component is kept; empty unless it was asked
            for.
    """

    record: RunRecord
    rows: tuple[SplitRow, ...]
    history: dict[str, Curve] | None
    mining: SliceTable | None
    cases: tuple[CaseMetrics, ...]
    cleaned: dict[str, float]

    @property
    def summary(self) -> tuple[OrganSummary, ...]:
        """The cases summed up by organ."""
        return summarise_cases(self.cases)

    @property
    def threshold(self) -> float:
        """The score below which slices were hard: the rule's own, or the highest that was chosen; else NaN."""
        if self.record.options.strategy not in MINING:
            return math.nan
        name, value = parse_rule(self.record.options.rule)
        if name == "below":
            return value
        return math.nan if self.mining is None else self.mining.threshold


def read_contents(folder: RunFolder, window_count: int) -> Contents:
    """Read a run's folder.

    Args:
        folder: the run's.
        window_count: windows that a training is divided into.

    Raises:
        DataError: a table is malformed (codes `NO_RUN`, `SPLIT`, `SLICES`, `REPORT`).
    """
    record = RunRecord.read(folder.record_file)
    history = None
    if folder.history_file.exists() and folder.model_file.exists():
        history = _history(folder.history_file, record.options.iterations, window_count)
    cases, summary = folder.eval_folder / "cases.csv", folder.eval_folder / "summary.json"
    return Contents(
        record=record,
        rows=read_split(folder.split_file),
        history=history,
        mining=SliceTable.read(folder.slices_file) if folder.slices_file.exists() else None,
        cases=read_cases(cases) if cases.exists() else (),
        cleaned=_cleaned(summary) if summary.exists() else {},
    )


def read_cases(path: Path) -> tuple[CaseMetrics, ...]:
    """Read the case table of an evaluation.

    Raises:
        DataError: it is malformed (code `REPORT`).
    """
    kinds = {field.name: field.type for field in fields(CaseMetrics)}
    try:
        with path.open(newline="") as file:
            return tuple(
                CaseMetrics(**{name: _value(row[name], kind) for name, kind in kinds.items()})
                for row in csv.DictReader(file)
            )
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        raise _unreadable("eval/cases.csv", "eval", path) from None


def _value(text: str, kind: Any) -> Any:
    return {"str": str, "int": int, "float": float}[getattr(kind, "__name__", kind)](text)


def _history(path: Path, iterations: int, window_count: int) -> dict[str, Curve]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        names: Sequence[str] = list(rows[0]) if rows else []
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
        window = max(1, math.ceil(iterations / window_count))
        columns["iteration"] = np.minimum((columns.pop("window") + 1) * window, iterations)
        columns["loss"]  # a history without it is none
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        raise _unreadable("history.csv", "train", path) from None
    return columns


def _cleaned(path: Path) -> dict[str, float]:
    try:
        organs = json.loads(path.read_text()).get(CLEANED, [])
        return {str(organ["organ"]): float(organ["metrics"]["dice"]["mean"]) for organ in organs}
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        raise _unreadable("eval/summary.json", "eval", path) from None


def _unreadable(name: str, command: str, path: Path) -> DataError:
    return DataError("REPORT", f"a run without a readable {name}", f"the file that {command} wrote",
                     f"restore it, or run kerasbalance {command} again", path=path)  # fmt: skip
