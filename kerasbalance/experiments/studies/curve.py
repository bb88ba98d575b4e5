"""How a run does at other thresholds: pixel counts of its test slices, and its scores at equal false positives.

A model that predicts more finds more of the organ and invents more of it. Two trainings are therefore compared where
both invent as much: at equal shares of slices without the organ on which something is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import kerasbalance as kb
from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.tabular import read_csv, to_csv
from kerasbalance.mining.counts import sums_by_case

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.train import Run

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
FILE = "thresholds.csv"
_PLACE = ["case", "slice", "reference_pixels"]

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingCurve:
    """The scores of one run on its test slices at several thresholds, for one organ.

    Args:
        false_positives: Share of the slices without the organ on which something is predicted, `(thresholds,)`; the
            thresholds ascend, so that these descend.
        missed: Share of the slices with the organ on which nothing is predicted, `(thresholds,)`.
        case_dice: `(thresholds, cases)`, of the cases that have the organ, in the order of their keys.
        slice_dice: `(thresholds, slices)`, of the slices that show the organ, in the order of case and slice.
    """

    false_positives: Scores
    missed: Scores
    case_dice: Scores
    slice_dice: Scores

    def at(self, false_positives: float) -> tuple[Scores, Scores]:
        """Return case Dice and slice Dice where so large a share of the empty slices is no longer empty.

        Between two thresholds both are interpolated. Of several thresholds with one share the lowest counts, which
        finds most. A share outside the curve takes its nearest end.
        """
        place = _position(self.false_positives, false_positives)
        low, weight = int(place), place - int(place)
        high = min(low + 1, len(self.false_positives) - 1)
        cases, slices = (
            (1 - weight) * table[low] + weight * table[high] for table in (self.case_dice, self.slice_dice)
        )
        return cases, slices


def _position(shares: Scores, wanted: float) -> float:
    """Return the place of a share among shares that descend, as a fraction; the first place of several alike."""
    if wanted >= shares[0]:
        return 0.0
    for place, (above, below) in enumerate(pairwise(shares)):
        if above > wanted >= below:
            return place + float((above - wanted) / (above - below))
    return float(np.argmax(shares == shares[-1]))


def write_curve(run: "Run", folder: Path) -> None:
    """Count the test slices of a finished run at `THRESHOLDS`, and write the table.

    Args:
        run: A run of one organ, with its trained model in the folder.
        folder: The run's `eval/`.
    """
    from kerasbalance.experiments.runs.evaluate import common_test_cases
    from kerasbalance.experiments.runs.model import load_model

    source = run.source()
    rows = []
    model = load_model(run.options, source.plane, run.folder.path / "checkpoint")
    for number in common_test_cases([run]):
        refs = run.store.case_refs(number)
        counts = kb.score_at_thresholds(
            model, source, refs, run.options.batch_size, thresholds=THRESHOLDS
        ).counts[:, :, 0]
        for slice_number in range(len(refs)):
            shared, predicted, reference = counts[:, slice_number].T
            rows.append([run.store.cases[number].key, slice_number, reference[0], *shared, *predicted])
    names = [f"{what}@{threshold}" for what in ("shared", "predicted") for threshold in THRESHOLDS]
    folder.mkdir(exist_ok=True)
    replace_file(folder / FILE, to_csv([*_PLACE, *names], rows))


def read_curve(folder: Path) -> OperatingCurve | None:
    """Read what `write_curve` wrote into a run's `eval/`; None where there is no such table.

    Raises:
        DataError: If the table is malformed (code `REPORT`).
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        lines = sorted(read_csv(path), key=lambda row: (row["case"], int(row["slice"])))
        names = [(f"shared@{threshold}", f"predicted@{threshold}") for threshold in THRESHOLDS]
        counts = np.array([
            [[int(row[shared]), int(row[predicted]), int(row["reference_pixels"])] for shared, predicted in names]
            for row in lines
        ])  # fmt: skip
    except (KeyError, ValueError):
        raise DataError("REPORT", f"a malformed {FILE}", "the table as a study writes it",
                        "delete it and run the study again", path=path) from None  # fmt: skip
    return _curve(counts, [row["case"] for row in lines])


def _curve(counts: NDArray[np.int64], cases: Sequence[str]) -> OperatingCurve:
    """Turn counts `(slices, thresholds, 3)` into scores."""
    shown = counts[:, 0, 2] > 0
    dice = kb.dice_from_counts(counts)
    _, summed = sums_by_case(counts, np.array(cases))
    predicted = counts[:, :, 1] > 0
    return OperatingCurve(
        false_positives=predicted[~shown].mean(axis=0) if (~shown).any() else np.zeros(counts.shape[1]),
        missed=1 - predicted[shown].mean(axis=0) if shown.any() else np.zeros(counts.shape[1]),
        case_dice=kb.dice_from_counts(summed[summed[:, 0, 2] > 0]).T,
        slice_dice=dice[shown].T,
    )
