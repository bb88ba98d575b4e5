"""Which case of a store does what in a run: test, validation, part A, part B. Patients stay together."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from kerasbalance.data.errors import DataError
from kerasbalance.data.store import CaseFacts, SliceStore
from kerasbalance.data.store.files import replace_file
from kerasbalance.data.store.source import annotates
from kerasbalance.evaluation.splits import split_cases
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.parts import PART_A, PART_B, TEST, VALIDATION
from kerasbalance.experiments.tabular import read_csv, to_csv

_DRAWS = (TEST, VALIDATION, PART_A)
"""A draw is named by the seed and by its place here."""
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
        test_seed: of the choice of the test cases, where they shall be the same for several seeds; the options' own
            by default.

    Raises:
        DataError: too few cases or patients for the parts that were asked for (code `SPLIT`).
    """
    cases = [c for c in store.cases if annotates(c, options.organs, partial=options.partial_labels)]
    rows = [SplitRow(c.key, c.patient, "", c.slices, _positive(c, options.organs)) for c in cases]
    parts: dict[str, str] = {}
    first = next(seed for seed in (test_seed, options.test_seed, options.seed) if seed is not None)
    rest = _take(rows, options.test_share, first, TEST, parts, f"--test-share {options.test_share:g}")
    if options.validation_share:
        share, words = options.validation_share / (1 - options.test_share), options.validation_share
        rest = _take(rest, share, options.seed, VALIDATION, parts, f"--validation-share {words:g}")
    if options.ratio < 1:
        _take(rest, 1 - options.ratio, options.seed, PART_A, parts, f"--ratio {options.ratio:g}")
    return tuple(
        SplitRow(row.case, row.patient, parts.get(row.case, PART_B), row.slices, row.positive) for row in rows
    )


def _take(
    rows: Sequence[SplitRow], share: float, seed: int, part: str, parts: dict[str, str], option: str
) -> list[SplitRow]:
    """Note which cases go into a part; return the others. The option is named as the user gave it."""
    draw = np.random.SeedSequence((seed, _DRAWS.index(part)))
    try:
        split = split_cases(rows, ratio=1 - share, seed=int(draw.generate_state(1)[0]))
    except ValueError:
        patients = len({row.patient for row in rows})
        raise DataError("SPLIT", f"{option} of {len(rows)} cases of {patients} patients, which cannot be divided so",
                        "for both sides a case that shows the organ, with all cases of a patient on one side",
                        f"pass another {option.split()[0]}, or ingest more cases") from None  # fmt: skip
    parts.update({rows[number].case: part for number in split.part_a})
    return [rows[number] for number in sorted(split.part_b)]


def _positive(case: CaseFacts, organs: Sequence[str]) -> int:
    return max(case.positive_slices[case.organs.index(organ)] for organ in organs if organ in case.organs)


def write_split(path: Path, rows: Sequence[SplitRow]) -> None:
    """Write the split as CSV; the file is whole or untouched."""
    replace_file(path, to_csv(COLUMNS, map(astuple, rows)))


def read_split(path: Path) -> tuple[SplitRow, ...]:
    """Read what `write_split` wrote and refuse one that puts a patient on two sides.

    Raises:
        DataError: the file is missing, malformed, or one patient is in test and in training (code `SPLIT`).
    """
    try:
        rows = tuple(
            SplitRow(r["case"], r["patient"], r["part"], int(r["slices"]), int(r["positive"]))
            for r in read_csv(path)
        )
    except (OSError, KeyError, ValueError):
        raise DataError("SPLIT", "a run without a readable split.csv", "the file that train wrote",
                        "restore it or train again", path=path) from None  # fmt: skip
    sides: dict[str, str] = {}
    for row in rows:
        side = row.part if row.part in (TEST, VALIDATION) else "training"
        if sides.setdefault(row.patient, side) != side:
            raise DataError("SPLIT", f"patient {row.patient[:8]} in {sides[row.patient]} and in {side}",
                            "every patient on one side", "restore split.csv as train wrote it", path=path)  # fmt: skip
    return rows


def describe_split(rows: Sequence[SplitRow]) -> list[tuple[str, int, int, int, float]]:
    """Return for each part its cases, patients, slices and share of positive slices."""
    table = []
    for part in (PART_B, PART_A, VALIDATION, TEST):
        own = [row for row in rows if row.part == part]
        if own:
            slices = sum(row.slices for row in own)
            share = sum(row.positive for row in own) / slices
            table.append((part, len(own), len({row.patient for row in own}), slices, share))
    return table
