"""Several runs, each on several flips, whose outputs are averaged: one model for `predict` and `eval`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kerasbalance.data.errors import DataError, Note
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint, mean_point, read_operating_point
from kerasbalance.experiments.runs.planes import padded_side
from kerasbalance.experiments.runs.segment import run_parts
from kerasbalance.models import average


@dataclass(frozen=True)
class Ensemble:
    """One run or several, and the flips on which each of them sees a slice.

    Args:
        members: The runs' folders and records.
        flips: Names of flips; outputs are averaged over runs and flips.

    Raises:
        DataError: If the runs segment other organs or take other slices (code `ENSEMBLE`).
    """

    members: tuple[tuple[RunFolder, RunRecord], ...]
    flips: tuple[str, ...] = ("none",)

    def __post_init__(self) -> None:
        for name, of in (
            ("organs", _organs),
            ("neighbours", _neighbours),
            ("crop, resize or pixel size at ingest", _shaping),
        ):
            if len({of(record) for _, record in self.members}) > 1:
                raise DataError("ENSEMBLE", f"runs that differ in {name}", "the same in all runs",
                                "average only runs on one store, with the same --organ in the same order")  # fmt: skip

    @classmethod
    def open(
        cls, runs: Sequence[Path], model: str | None = None, flips: tuple[str, ...] = ("none",)
    ) -> "Ensemble":
        """Open the folders of some runs; their stores are not needed.

        Args:
            runs: The folders, at least one.
            model: The runs' network, to be named again where it is code of the user's own.
            flips: As for the class.

        Raises:
            DataError: If one is no run, its model was not named, or they do not fit together (codes `NO_RUN`,
                `OWN_MODEL`, `ENSEMBLE`).
        """
        return cls(tuple(run_parts(path, model) for path in runs), flips)

    @property
    def record(self) -> RunRecord:
        """What the runs have in common, and the range of the pixel sizes of all of them."""
        records = [record for _, record in self.members]
        low, high = zip(*(record.pixel_spacing_mm for record in records), strict=True)
        return replace(records[0], pixel_spacing_mm=(min(low), max(high)))

    def point(self) -> OperatingPoint:
        """Return the operating point: each organ's mean threshold, and the clean-up on which all runs agree.

        Raises:
            DataError: If one cannot be read (code `OPERATING_POINT`).
        """
        return mean_point(
            [
                read_operating_point(folder.point_file, record.options.organs)
                for folder, record in self.members
            ]
        )

    def load(self, plane: tuple[int, int], point: OperatingPoint | None = None) -> Segmenter:
        """Bring back the model for slices of `plane` rows and columns (before padding).

        Args:
            plane: Rows and columns of a slice.
            point: The threshold and the clean-up of each organ; by default `point()`.

        Raises:
            DataError: If a run has no sound checkpoint or no readable operating point (codes `CHECKPOINT`,
                `OPERATING_POINT`).
        """
        padded = (padded_side(plane[0]), padded_side(plane[1]))
        models = [
            load_model(record.options, padded, folder.path / "checkpoint") for folder, record in self.members
        ]
        model = models[0] if len(models) == 1 and self.flips == ("none",) else average(models, self.flips)
        size = min(record.options.batch_size for _, record in self.members)
        return Segmenter(model, size, self.point() if point is None else point)

    def notes(self) -> tuple[Note, ...]:
        """Warn of flips that a run was not trained with: an organ has a side."""
        strange = [flip for flip in self.flips
                   if any(flip not in record.options.flips for _, record in self.members)]  # fmt: skip
        if not strange:
            return ()
        return (Note("FLIPS", f"slices are also segmented {' and '.join(strange)}, which not every run was trained "
                     "with; an organ has a side", loud=True),)  # fmt: skip


def _organs(record: RunRecord) -> object:
    return record.options.organs


def _neighbours(record: RunRecord) -> object:
    return record.options.neighbours


def _shaping(record: RunRecord) -> object:
    return record.shaping
