"""The folder `eval` of a run: `cases.csv`, `slices.csv` and `summary.json`, written and read here alone."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.store.files import replace_file
from kerasbalance.evaluation.cases import CaseMetrics, SliceMetrics
from kerasbalance.evaluation.summaries import OrganSummary
from kerasbalance.experiments.runs.operating_point import OperatingPoint, OrganPoint
from kerasbalance.experiments.tabular import read_csv, rows_to_csv, to_json, with_words

CASES, SLICES, SUMMARY = "cases.csv", "slices.csv", "summary.json"
_CLEANED = "largest part only"
_SINCE_0_2 = {"mssd_mm": "nan"}
_KINDS = {"str": str, "int": int, "float": float}


@dataclass(frozen=True)
class Evaluation:
    """What the model of a run is worth on cases that it has never seen.

    Args:
        cases: One row for each test case and organ.
        slices: One row for each of their slices and organ.
        summary: One entry an organ.
        cleaned: As `summary`, with only the largest connected part of the prediction; empty unless asked for.
        on_ct: Cases that were judged on their CT's own grid.
        on_store: Cases that were judged on the store's grid, since an older ingest kept no other reference.
        point: The threshold and the clean-up of each organ that made masks of the network's output.
        notes: Remarks on how it was predicted.
    """

    cases: tuple[CaseMetrics, ...]
    slices: tuple[SliceMetrics, ...]
    summary: tuple[OrganSummary, ...]
    cleaned: tuple[OrganSummary, ...] = ()
    on_ct: int = 0
    on_store: int = 0
    point: OperatingPoint | None = None
    notes: tuple[Note, ...] = ()


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the three files, each whole or not at all; the summary comes last, so that it stands for all three."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / CASES, rows_to_csv([case.as_row() for case in evaluation.cases]))
    replace_file(folder / SLICES, rows_to_csv([asdict(row) for row in evaluation.slices]))
    replace_file(folder / SUMMARY, to_json(plain_summary(evaluation)))


def plain_summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the summary as JSON takes it: NaN and infinity as words."""
    plain: dict[str, Any] = {"organs": [with_words(asdict(organ)) for organ in evaluation.summary]}
    plain["cases_by_grid"] = {"CT": evaluation.on_ct, "store": evaluation.on_store}
    if evaluation.point is not None:
        plain["operating_point"] = evaluation.point.decision()
    if evaluation.cleaned:
        plain[_CLEANED] = [with_words(asdict(organ)) for organ in evaluation.cleaned]
    return plain


def is_evaluated(folder: Path) -> bool:
    """Return whether the folder holds a whole evaluation."""
    return (folder / SUMMARY).exists()


def read_cases(folder: Path) -> tuple[CaseMetrics, ...]:
    """Read the table of cases; empty before the evaluation.

    The columns that follow from others are not read. Those that version 0.1 did not write are NaN.

    Raises:
        DataError: If it is malformed (code `REPORT`).
    """
    return tuple(CaseMetrics(**row) for row in _rows(folder / CASES, CaseMetrics))


def read_slices(folder: Path) -> tuple[SliceMetrics, ...]:
    """Read the table of slices; empty before the evaluation.

    Raises:
        DataError: If it is malformed (code `REPORT`).
    """
    return tuple(SliceMetrics(**row) for row in _rows(folder / SLICES, SliceMetrics))


def read_cleaned(folder: Path) -> dict[str, float]:
    """Read the mean case Dice by organ when only the largest part is kept; empty where that was not asked for.

    Raises:
        DataError: If the summary is malformed (code `REPORT`).
    """
    path = folder / SUMMARY
    if not path.exists():
        return {}
    try:
        organs = json.loads(path.read_text()).get(_CLEANED, [])
        return {str(organ["organ"]): float(organ["metrics"]["dice"]["mean"]) for organ in organs}
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        raise _unreadable(path) from None


def read_decision(folder: Path, organs: tuple[str, ...]) -> OperatingPoint:
    """Read what made masks of the network's output; 0.5 and no clean-up where version 0.1 evaluated.

    Raises:
        DataError: If the summary is malformed (code `REPORT`).
    """
    path = folder / SUMMARY
    try:
        plain = json.loads(path.read_text()).get("operating_point")
        if plain is None:
            return OperatingPoint.default(organs)
        return OperatingPoint(
            tuple(OrganPoint(**organ) for organ in plain["organs"]), cases=plain["validation_cases"]
        )
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        raise _unreadable(path) from None


def _rows(path: Path, kind: Any) -> list[dict[str, Any]]:
    if not (path.exists() or is_evaluated(path.parent)):
        return []
    names = {field.name: _KINDS[str(getattr(field.type, "__name__", field.type))] for field in fields(kind)}
    try:
        rows = [_SINCE_0_2 | row for row in read_csv(path)]
        return [{name: read(row[name]) for name, read in names.items()} for row in rows]
    except (OSError, KeyError, ValueError):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> DataError:
    return DataError("REPORT", f"a run without a readable eval/{path.name}", "the file that eval wrote",
                     "run kerasbalance eval again", path=path)  # fmt: skip
