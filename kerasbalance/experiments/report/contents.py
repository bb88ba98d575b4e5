"""What a run's folder holds, read back for the report; tables that are not there yet are None."""

import math
from dataclasses import dataclass

import numpy as np

from kerasbalance.evaluation.cases import CaseMetrics
from kerasbalance.evaluation.summaries import OrganSummary, summarise_cases
from kerasbalance.experiments.runs.evaluation_files import read_cases, read_cleaned
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.history import Curve, read_history
from kerasbalance.experiments.runs.operating_point import OperatingPoint, read_operating_point
from kerasbalance.experiments.runs.rules import parse_rule
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.split import SplitRow, read_split
from kerasbalance.experiments.runs.strategies import STRATEGIES


@dataclass(frozen=True, eq=False)
class Contents:
    """The tables of a run.

    Args:
        record: `run.json`.
        rows: `split.csv`.
        history: Columns of `history.csv` by name, and `iteration`, the iterations done at the end of each epoch;
            None before the first one.
        finished: Whether the training has ended.
        mining: `slices.csv`; None without mining, or before it.
        cases: `eval/cases.csv`; empty before the evaluation.
        cleaned: mean case Dice of each organ when only the largest component is kept; empty unless it was asked
            for.
        point: `operating_point.json`; 0.5 and no clean-up without it.
    """

    record: RunRecord
    rows: tuple[SplitRow, ...]
    history: dict[str, Curve] | None
    finished: bool
    mining: SliceTable | None
    cases: tuple[CaseMetrics, ...]
    cleaned: dict[str, float]
    point: OperatingPoint

    @property
    def summary(self) -> tuple[OrganSummary, ...]:
        """The cases summed up by organ."""
        return summarise_cases(self.cases)

    @property
    def threshold(self) -> float:
        """The score below which slices were hard: the rule's own, or the highest that was chosen; else NaN."""
        if not STRATEGIES[self.record.options.strategy].by_score:
            return math.nan
        rule = parse_rule(self.record.options.rule)
        if rule.form.name == "below":
            return float(rule.value)
        return math.nan if self.mining is None else self.mining.threshold


def read_contents(folder: RunFolder) -> Contents:
    """Read a run's folder.

    Args:
        folder: the run's.

    Raises:
        DataError: a table is malformed (codes `NO_RUN`, `SPLIT`, `SLICES`, `REPORT`, `OPERATING_POINT`).
    """
    record = RunRecord.read(folder.record_file)
    history = None
    if folder.history_file.exists():
        history = read_history(folder.history_file)
        done = (history["epoch"] + 1) * record.options.epoch_iterations
        history["iteration"] = np.minimum(done, record.options.iterations)
    return Contents(
        record=record,
        rows=read_split(folder.split_file),
        history=history,
        finished=folder.model_file.exists(),
        mining=SliceTable.read(folder.slices_file) if folder.slices_file.exists() else None,
        cases=read_cases(folder.eval_folder),
        cleaned=read_cleaned(folder.eval_folder),
        point=read_operating_point(folder.point_file, record.options.organs),
    )
