"""`operating_point.json`: the threshold and the clean-up of each organ, written and read here alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.evaluation.clean_up import CLEAN_UPS
from kerasbalance.experiments.tabular import to_json

FORMAT = 1
DEFAULT_THRESHOLD, NO_CLEAN_UP = 0.5, "none"


@dataclass(frozen=True)
class OrganPoint:
    """What decides on one organ.

    Args:
        organ: Its name.
        threshold: The probability above which a pixel is predicted, between 0 and 1; see
            `kerasbalance.score_at_thresholds` for several organs.
        clean_up: One of `CLEAN_UPS`.
    """

    organ: str
    threshold: float = DEFAULT_THRESHOLD
    clean_up: str = NO_CLEAN_UP


@dataclass(frozen=True)
class Trial:
    """One line of a table from which an operating point was chosen.

    Args:
        organ: The organ.
        threshold: The threshold.
        clean_up: The clean-up.
        dice: The mean case Dice of the validation cases.
    """

    organ: str
    threshold: float
    clean_up: str
    dice: float


@dataclass(frozen=True)
class OperatingPoint:
    """How outputs of a network become masks.

    Args:
        organs: One entry an organ, in the order of the labels.
        cases: The validation cases on which it was chosen; 0 where it was not chosen on cases.
        thresholds_tried: What the thresholds were chosen from.
        clean_ups_tried: What the clean-ups were chosen from, at these thresholds.
    """

    organs: tuple[OrganPoint, ...]
    cases: int = 0
    thresholds_tried: tuple[Trial, ...] = ()
    clean_ups_tried: tuple[Trial, ...] = ()

    @classmethod
    def default(cls, organs: Sequence[str]) -> "OperatingPoint":
        """Return the threshold 0.5 and no clean-up, for runs without validation cases."""
        return cls(tuple(OrganPoint(organ) for organ in organs))

    @property
    def is_plain(self) -> bool:
        """Whether it is 0.5 and no clean-up for every organ."""
        return self.organs == self.default([one.organ for one in self.organs]).organs

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each organ."""
        return tuple(organ.threshold for organ in self.organs)

    @property
    def clean_ups(self) -> tuple[str, ...]:
        """The clean-up of each organ."""
        return tuple(organ.clean_up for organ in self.organs)

    def changed(self, threshold: float | None = None, *, no_clean_up: bool = False) -> "OperatingPoint":
        """Return this point with the user's own threshold for every organ, or without a clean-up.

        Raises:
            DataError: If the threshold is not between 0 and 1 (code `USAGE`).
        """
        if threshold is not None and not 0 < threshold < 1:
            raise DataError("USAGE", f"threshold {threshold}", "between 0 and 1", "correct --threshold")
        organs = self.organs
        if threshold is not None:
            organs = tuple(replace(organ, threshold=threshold) for organ in organs)
        if no_clean_up:
            organs = tuple(replace(organ, clean_up=NO_CLEAN_UP) for organ in organs)
        return self if organs == self.organs else OperatingPoint(organs)

    def text(self) -> str:
        """Return a sentence for people."""
        parts = [f"{one.organ} above {one.threshold:g}, {CLEAN_UPS[one.clean_up]}" for one in self.organs]
        origin = f"; chosen on {self.cases} validation cases" if self.cases else ""
        return "; ".join(parts) + origin

    def decision(self) -> dict[str, Any]:
        """Return plain values, without the tables that it was chosen from."""
        return {"validation_cases": self.cases, "organs": [asdict(organ) for organ in self.organs]}

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "format": FORMAT,
            **self.decision(),
            "thresholds_tried": [asdict(trial) for trial in self.thresholds_tried],
            "clean_ups_tried": [asdict(trial) for trial in self.clean_ups_tried],
        }

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        replace_file(path, to_json(self.to_json()))


def read_operating_point(path: Path, organs: Sequence[str]) -> OperatingPoint:
    """Read the operating point of a run; without the file it is 0.5 and no clean-up.

    Args:
        path: The file.
        organs: The run's organs, in the order of its labels.

    Raises:
        DataError: If the file is malformed or of other organs (code `OPERATING_POINT`).
    """
    if not path.exists():
        return OperatingPoint.default(organs)
    try:
        plain = json.loads(path.read_text())
        found = OperatingPoint(
            tuple(OrganPoint(**organ) for organ in plain["organs"]),
            int(plain["validation_cases"]),
            tuple(Trial(**trial) for trial in plain["thresholds_tried"]),
            tuple(Trial(**trial) for trial in plain["clean_ups_tried"]),
        )
        sound = plain["format"] == FORMAT and [one.organ for one in found.organs] == list(organs)
        if not sound or not all(0 < one.threshold < 1 and one.clean_up in CLEAN_UPS for one in found.organs):
            raise ValueError("content")
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError("OPERATING_POINT", "a run without a readable operating_point.json", "the file that train wrote",
                        "restore it, or run train --resume, which writes it again", path=path) from None  # fmt: skip
    return found


def mean_point(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the point for an average of runs: each organ's mean threshold, and the clean-up on which all agree.

    Args:
        points: Of the same organs; the only one is returned as it is.
    """
    if len(points) == 1:
        return points[0]
    organs = []
    for same in zip(*(point.organs for point in points), strict=True):
        clean_ups = {one.clean_up for one in same}
        threshold = round(sum(one.threshold for one in same) / len(same), 6)
        organs.append(
            OrganPoint(same[0].organ, threshold, clean_ups.pop() if len(clean_ups) == 1 else NO_CLEAN_UP)
        )
    return OperatingPoint(tuple(organs))
