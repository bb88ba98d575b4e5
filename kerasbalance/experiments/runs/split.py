"""Which case of a store does what in a run: test, validation, part A, part B. Patients stay together."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import CaseFacts, SliceStore
from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.runs.options import TrainOptions

TEST, VALIDATION, PART_A, PART_B = "test", "validation", "A", "B"
COLUMNS = ("case", "patient", "part", "slices", "positive")


@dataclass(frozen=True)
class SplitRow:
    """One case of a run.

    Args:
        case: its key.
        patient: its patient's key.
        part: "test", "validation", "A" or "B".
        slices: how many it has.
        positive: how many of them show one of the organs; the organ's own where there is one, else the most
            frequent organ's.
    """

    case: str
    patient: str
    part: str
    slices: int
    positive: int


def split_store(
    store: SliceStore, options: TrainOptions, *, test_seed: int | None = None
) -> tuple[SplitRow, ...]:
    """Split the cases that annotate the run's organs, by patient, stratified and seeded.

    Args:
        store: the cases.
        options: organs, shares and seed.
        test_seed: of the choice of the test cases, where they shall be the same for several seeds; the run's own
            seed by default.

    Raises:
        DataError: too few cases or patients for the parts that were asked for (code `SPLIT`).
    """
    from kerasbalance import split_cases

    cases = [case for case in store.cases if set(options.organs) <= set(case.organs)]
    rows = [SplitRow(c.key, c.patient, "", c.slices, _positive(c, options.organs)) for c in cases]
    parts: dict[str, str] = {}
    try:
        first = options.seed if test_seed is None else test_seed
        rest = _take(split_cases, rows, options.test_share, first, TEST, parts)
        if options.validation_share:
            share = options.validation_share / (1 - options.test_share)
            rest = _take(split_cases, rest, share, options.seed + 1, VALIDATION, parts)
        if options.ratio < 1:
            rest = _take(split_cases, rest, 1 - options.ratio, options.seed + 2, PART_A, parts)
    except ValueError as error:
        raise DataError(
            "SPLIT",
            f"{len(rows)} cases that cannot be split ({error})",
            "enough cases and patients for every part",
            "ingest more cases or change the shares",
        ) from None
    return tuple(
        SplitRow(row.case, row.patient, parts.get(row.case, PART_B), row.slices, row.positive) for row in rows
    )


def _take(
    split_cases: object, rows: Sequence[SplitRow], share: float, seed: int, part: str, parts: dict[str, str]
) -> list[SplitRow]:
    split = split_cases(rows, ratio=1 - share, seed=seed)  # type: ignore[operator]
    parts.update({rows[number].case: part for number in split.part_a})
    return [rows[number] for number in sorted(split.part_b)]


def _positive(case: CaseFacts, organs: Sequence[str]) -> int:
    return max(case.positive_slices[case.organs.index(organ)] for organ in organs)


def write_split(path: Path, rows: Sequence[SplitRow]) -> None:
    """Write the split as CSV; the file is whole or untouched."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row.case, row.patient, row.part, row.slices, row.positive] for row in rows)
    replace_file(path, text.getvalue().encode())


def read_split(path: Path) -> tuple[SplitRow, ...]:
    """Read what `write_split` wrote and refuse one that puts a patient on two sides.

    Raises:
        DataError: the file is missing, malformed, or one patient is in test and in training (code `SPLIT`).
    """
    try:
        with path.open(newline="") as file:
            rows = tuple(
                SplitRow(r["case"], r["patient"], r["part"], int(r["slices"]), int(r["positive"]))
                for r in csv.DictReader(file)
            )
    except (OSError, KeyError, ValueError, TypeError):
        raise DataError("SPLIT", "a run without a readable split.csv", "the file that train wrote",
                        "restore it or train again", path=path) from None  # fmt: skip
    sides: dict[str, str] = {}
    for row in rows:
        side = row.part if row.part in (TEST, VALIDATION) else "training"
        if sides.setdefault(row.patient, side) != side:
            raise DataError("SPLIT", f"patient {row.patient[:8]} in {sides[row.patient]} and in {side}",
                            "every patient on one side", "restore split.csv as train wrote it", path=path)  # fmt: skip
    return rows
