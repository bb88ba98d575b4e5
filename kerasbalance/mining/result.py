"""What mining decided about every candidate: a table that can be kept, written and reloaded."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.files import write_file
from kerasbalance.notebook import html_table

SHOWN = 10
"""Rows that a notebook shows."""
COLUMNS = ("ref", "score", "hard", "reason", "copies")


@dataclass(frozen=True, eq=False)
class MiningResult:
    """One row for each candidate, in the candidates' order.

    Args:
        ref: Int64 `(slices,)`, row of the source.
        score: Float64 `(slices,)`, from 0 to 1; the worst organ's where there are several.
        hard: Bool `(slices,)`, whether the slice was added.
        reason: Str `(slices,)`: `hard` (the rule chose it), `floor` (added to reach the least share), `easy`
            (not chosen), `suspect` (among the very worst, set aside as a possible label error), `case_full`
            (its case has its number), `capped` (beyond the largest share), `tied` (its score is that of the last
            slice that was added, and the draw was for another), `weighted` (drawn in proportion).
        copies: Float64 `(slices,)`, visits a pass that the slice owes to mining: a whole number where slices
            are added, the expected number where they are drawn in proportion.
        threshold: The score under which slices were called hard; NaN where there is none.
        rule: The rule, in words.
        iteration: Steps the model had been trained for; None if unknown.
        organ_scores: Float64 `(slices, organs)`, where there are several organs; else None.
    """

    ref: NDArray[np.int64]
    score: NDArray[np.float64]
    hard: NDArray[np.bool_]
    reason: NDArray[np.str_]
    copies: NDArray[np.float64]
    threshold: float
    rule: str
    iteration: int | None = None
    organ_scores: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def tied(self) -> int:
        """How many slices shared the score of the last one that was added, if some of them were not added."""
        lost = self.reason == "tied"
        return int((lost | (self.hard & np.isin(self.score, self.score[lost]))).sum())

    def __repr__(self) -> str:
        found = f"{int(self.hard.sum())} hard of {len(self)}" + (f", {self.tied} tied" if self.tied else "")
        return f"MiningResult({found}, {self.rule}, iteration {self.iteration})"

    def _repr_html_(self) -> str:
        """Return the rows with the lowest scores as a table, for a notebook."""
        worst = np.argsort(self.score, kind="stable")[:SHOWN]
        rows = [[getattr(self, name)[row] for name in COLUMNS] for row in worst]
        return html_table(f"{self!r}; the lowest {len(worst)} scores", COLUMNS, rows)

    def to_csv(self, path: str | Path) -> None:
        """Write the table with a heading `ref,score,hard,reason,copies`; the file is whole or untouched.

        Scores are written so that they read back bit by bit; `hard` is 0 or 1.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        rows = zip(self.ref, self.score, self.hard, self.reason, self.copies, strict=True)
        for ref, score, hard, reason, copies in rows:
            writer.writerow([int(ref), repr(float(score)), int(hard), str(reason), f"{copies:.6g}"])
        write_file(Path(path), text.getvalue().encode())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_state` takes."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        iteration = -1 if self.iteration is None else self.iteration
        if self.organ_scores is not None:
            columns["organ_scores"] = self.organ_scores
        return {
            **columns,
            "threshold": np.array(self.threshold),
            "rule": np.array(self.rule),
            "iteration": np.array(iteration),
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> "MiningResult":
        """Make the result that `state` describes."""
        iteration = int(state["iteration"])
        columns: dict[str, Any] = {name: state[name] for name in COLUMNS}
        return cls(
            **columns,
            threshold=float(state["threshold"]),
            rule=str(state["rule"]),
            iteration=None if iteration < 0 else iteration,
            organ_scores=state.get("organ_scores"),
        )
