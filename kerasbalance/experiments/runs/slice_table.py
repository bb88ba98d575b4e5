"""`slices.csv`: what mining decided about each slice, with its case, position and size of organ beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.tabular import read_csv, to_csv
from kerasbalance.mining.result import MiningResult

COLUMNS = ("ref", "case", "slice", "slices", "pixels", "score", "hard", "reason", "copies")

_ORGAN = "score_"
"""Begins the name of a column with the scores of one organ."""


@dataclass(frozen=True, eq=False)
class SliceTable:
    """The columns of `slices.csv`, one entry a slice.

    Args:
        ref: int64, the slice ref in the run's store.
        case: str, key of the case.
        slice: int64, place in the case from the feet, from 0.
        slices: int64, slices of the case.
        pixels: int64, pixels of all organs of the run in the reference mask.
        score: float64, Dice at the time of mining; the worst organ's where there are several.
        hard: bool, whether the slice was added to the training.
        reason: str, see `kerasbalance.MiningResult`.
        copies: float64, likewise.
        organ_scores: float64 by organ, where there are several; NaN where the case does not annotate it.
    """

    ref: NDArray[np.int64]
    case: NDArray[np.str_]
    slice: NDArray[np.int64]
    slices: NDArray[np.int64]
    pixels: NDArray[np.int64]
    score: NDArray[np.float64]
    hard: NDArray[np.bool_]
    reason: NDArray[np.str_]
    copies: NDArray[np.float64]
    organ_scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def threshold(self) -> float:
        """The highest score of a hard slice; NaN where none is hard."""
        return float(self.score[self.hard].max()) if self.hard.any() else float("nan")

    @classmethod
    def of(cls, store: SliceStore, organs: Sequence[str], result: MiningResult) -> "SliceTable":
        """Put what the store knows beside a mining result."""
        number = store.case_of(result.ref)
        pixels = np.zeros(len(result), np.int64)
        by_organ: dict[str, NDArray[np.float64]] = {}
        for place, organ in enumerate(organs):
            known = np.array([organ in store.cases[n].organs for n in number.tolist()], bool)
            pixels[known] += store.positive_pixels(result.ref[known], organ)
            if result.organ_scores is not None:
                by_organ[organ] = np.where(known, result.organ_scores[:, place], np.nan)
        return cls(
            ref=result.ref,
            case=np.array([store.cases[n].key for n in number.tolist()], str),
            slice=result.ref - store.first_ref[number],
            slices=np.array([store.cases[n].slices for n in number.tolist()], np.int64),
            pixels=pixels,
            score=result.score,
            hard=result.hard,
            reason=result.reason,
            copies=result.copies,
            organ_scores=by_organ,
        )

    def to_csv(self) -> bytes:
        """Return the table as CSV; scores read back bit by bit, `hard` is 0 or 1."""
        columns = [getattr(self, name).tolist() for name in COLUMNS]
        by_organ = [
            ["" if np.isnan(s) else s for s in scores.tolist()] for scores in self.organ_scores.values()
        ]
        rows = (
            [*plain, score, int(hard), reason, f"{copies:.6g}", *organs]
            for (*plain, score, hard, reason, copies), *organs in zip(
                zip(*columns, strict=True), *by_organ, strict=True
            )
        )
        return to_csv((*COLUMNS, *(f"{_ORGAN}{organ}" for organ in self.organ_scores)), rows)

    @classmethod
    def read(cls, path: Path) -> "SliceTable":
        """Read what `to_csv` returned.

        Raises:
            DataError: the file is missing or malformed (code `SLICES`).
        """
        try:
            rows = read_csv(path)
            columns: dict[str, Any] = {name: [row[name] for row in rows] for name in COLUMNS}
            columns["hard"] = [{"0": False, "1": True}[value] for value in columns["hard"]]
            arrays: dict[str, Any] = {
                name: np.array(values).astype(_KINDS[name]) for name, values in columns.items()
            }
            organs = [name for name in rows[0] if name.startswith(_ORGAN)] if rows else []
            arrays["organ_scores"] = {
                name.removeprefix(_ORGAN): np.array([row[name] or "nan" for row in rows]).astype("float64")
                for name in organs
            }
        except (OSError, KeyError, ValueError):
            raise DataError("SLICES", "a run without a readable slices.csv", "the file that train wrote",
                            "restore it or train again", path=path) from None  # fmt: skip
        return cls(**arrays)


_KINDS = {field.name: "int64" for field in fields(SliceTable)} | {
    "case": "str", "reason": "str", "score": "float64", "copies": "float64", "hard": "bool",
}  # fmt: skip
