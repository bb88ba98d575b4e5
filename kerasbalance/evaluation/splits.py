"""Splitting cases in two by patient, alike in slices per case and in the share of positive slices."""

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.evaluation.balance import Patients, balanced_half
from kerasbalance.notebook import html_table

_MISSING = object()


@dataclass(frozen=True)
class Part:
    """What one part of a split holds: a row of the balance table.

    Args:
        name: `"A"`, `"B"` or `"all"`.
        patients: Number of patients.
        cases: Number of cases.
        slices: Number of slices.
        positive: Number of slices that hold an organ.
    """

    name: str
    patients: int
    cases: int
    slices: int
    positive: int

    @property
    def positive_share(self) -> float:
        """Positive slices among all, 0 to 1; 0 for an empty part."""
        return self.positive / self.slices if self.slices else 0.0

    @property
    def slices_per_case(self) -> float:
        """Mean number of slices in a case; 0 for an empty part."""
        return self.slices / self.cases if self.cases else 0.0

    def cells(self) -> tuple[str, ...]:
        """Return the row as text: name, patients, cases, slices, slices per case, positive slices, share."""
        counts = (self.patients, self.cases, self.slices)
        ratios = (f"{self.slices_per_case:.1f}", str(self.positive), f"{self.positive_share:.1%}")
        return (self.name, *map(str, counts), *ratios)


_HEADING = ("part", "patients", "cases", "slices", "per case", "positive", "share")


@dataclass(frozen=True, eq=False)
class CaseSplit:
    """The two parts of a list of cases, and how alike they are. `print(split)` shows the balance table.

    Unpacks into its parts: `part_a, part_b = split_cases(cases)`.

    Args:
        part_a: Positions in the list of cases, int64, ascending: the candidates (or the training set).
        part_b: Likewise, the rest: the part to pre-train on (or to test on).
        balance: Rows for A, B and all.
    """

    part_a: NDArray[np.int64]
    part_b: NDArray[np.int64]
    balance: tuple[Part, ...]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return iter((self.part_a, self.part_b))

    def _repr_html_(self) -> str:
        """Return the balance table, for a notebook."""
        return html_table("balance of the split", _HEADING, [part.cells() for part in self.balance])

    def __str__(self) -> str:
        table = [_HEADING, *(part.cells() for part in self.balance)]
        lines = ["".join([row[0].ljust(5), *(cell.rjust(10) for cell in row[1:])]) for row in table]
        return "\n".join(lines)


def split_cases(cases: Sequence[Any], ratio: float = 0.5, seed: int = 0) -> CaseSplit:
    """Split cases into part A (the candidates) and part B (to pre-train on), by patient.

    Patients are drawn from four strata (few or many slices per case, low or high share of positive slices),
    then exchanged between the parts until number of cases, slices per case and share of positive slices agree
    with the whole, as far as whole patients allow. The same cases, ratio and seed give the same parts in any
    order of rows.

    A test set is split off in the same way: `training, test = split_cases(cases, ratio=0.2)`. Use another
    seed for the split of `training` that follows.

    Args:
        cases: Rows with `patient`, `slices` and `positive`, as keys of a mapping or as attributes.
            `patient` is compared as text, so that 7 and "7" are one; all cases of a patient fall into one
            part. `slices` is the number of slices, at least 1, `positive` how many of them hold an organ.
        ratio: Share of the cases that part B is to hold, above 0 to 1. The number is rounded, halves up. With
            1 part A is empty.
        seed: Seed of the draw, at least 0.

    Returns:
        The parts and their balance.

    Raises:
        ValueError: If a row is not valid, `ratio` or `seed` is out of range, or the cases cannot be split
            so: no case, only one patient, a part that would be empty, no part of either could hold positive
                slices, or
            patients too large to come near the ratio. The message names rows by position, never a patient.

    Example:
        >>> cases = [{"patient": i, "slices": 30 + i, "positive": 15} for i in range(8)]
        >>> split = split_cases(cases, ratio=0.25)
        >>> len(split.part_a), len(split.part_b)
        (6, 2)
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"Received ratio={ratio}; expected a share of the cases above 0, at most 1.")
    if seed < 0:
        raise ValueError(f"Received seed={seed}; expected an integer of at least 0.")
    if not len(cases):
        raise ValueError("Received no case; expected at least one to split. Check what was ingested.")
    rows = [_row(case, position) for position, case in enumerate(cases)]
    names, owner = np.unique([patient for patient, _, _ in rows], return_inverse=True)
    patients = _sum_by_patient(owner, len(names), np.array([row[1:] for row in rows], np.int64))
    target = int(np.floor(ratio * len(rows) + 0.5))
    if ratio == 1:
        in_b = np.ones(len(names), bool)
    else:
        _refuse_impossible(patients, ratio, target)
        in_b = balanced_half(patients, ratio, target, seed)
        _refuse_lopsided(patients, in_b, ratio, target)
    of_b = in_b[owner]
    return CaseSplit(np.flatnonzero(~of_b), np.flatnonzero(of_b), _balance(patients, in_b))


def _row(case: Any, position: int) -> tuple[str, int, int]:
    """Read and check one row."""
    fields: dict[str, Any] = {}
    for name in ("patient", "slices", "positive"):
        value = case.get(name, _MISSING) if isinstance(case, Mapping) else getattr(case, name, _MISSING)
        if value is _MISSING or value is None:
            raise ValueError(
                f"Received row {position} without {name}; expected patient, slices and positive."
            )
        fields[name] = value
    patient, slices, positive = str(fields["patient"]).strip(), fields["slices"], fields["positive"]
    if not patient:
        raise ValueError(
            f"Received row {position} with an empty patient; expected a name or number. Name unknown "
            "patients apart only if they are known to differ."
        )
    whole = isinstance(slices, numbers.Integral) and isinstance(positive, numbers.Integral)
    if not (whole and slices >= 1 and 0 <= positive <= slices):
        raise ValueError(
            f"Received row {position} with slices={slices}, positive={positive}; expected integers with "
            "slices >= 1 and 0 <= positive <= slices. Leave out cases that hold no slice."
        )
    return patient, int(slices), int(positive)


def _sum_by_patient(owner: NDArray[np.int64], count: int, numbers_of_cases: NDArray[np.int64]) -> Patients:
    totals = np.zeros((count, 3), np.int64)
    np.add.at(totals, owner, np.column_stack([np.ones(len(owner), np.int64), numbers_of_cases]))
    return Patients(cases=totals[:, 0], slices=totals[:, 1], positive=totals[:, 2])


def _refuse_impossible(patients: Patients, ratio: float, target: int) -> None:
    """Refuse what no choice of patients can satisfy."""
    cases, positive = int(patients.cases.sum()), np.count_nonzero(patients.positive)
    if len(patients.cases) == 1:
        raise ValueError(
            f"Received {cases} cases of one patient; expected at least two patients, since the cases of "
            "one stay together. Use ratio=1 to put all into part B."
        )
    if not 0 < target < cases:
        raise ValueError(
            f"Received ratio={ratio} for {cases} cases, which leaves part {'A' if target else 'B'} empty; "
            "expected a ratio that gives each part a case. Use ratio=1 to put all into part B."
        )
    if positive < 2:
        raise ValueError(
            f"Received positive slices in {positive} of {len(patients.cases)} patients; expected at least "
            "two, so that each part can hold some. Check the masks and the labels."
        )


def _refuse_lopsided(patients: Patients, in_b: NDArray[np.bool_], ratio: float, target: int) -> None:
    """Refuse a split that is far from the ratio, or that leaves a part without positive slices."""
    cases, reached = int(patients.cases.sum()), int(patients.cases[in_b].sum())
    if abs(reached - target) > 0.05 * cases:
        raise ValueError(
            f"Received ratio={ratio}, {target} of {cases} cases; expected patients small enough to come "
            f"within 5 %, but one owns {patients.cases.max()} cases, and {reached} is the nearest that was "
            f"found. Use ratio={reached / cases:.2f}."
        )
    for name, part in (("A", ~in_b), ("B", in_b)):
        if not patients.positive[part].any():
            raise ValueError(
                f"Received ratio={ratio}, which leaves part {name} without a positive slice; expected a "
                "ratio that gives each part more patients. Move it towards 0.5."
            )


def _balance(patients: Patients, in_b: NDArray[np.bool_]) -> tuple[Part, ...]:
    def row(name: str, part: NDArray[np.bool_]) -> Part:
        sums = (patients.cases, patients.slices, patients.positive)
        return Part(name, int(part.sum()), *(int(values[part].sum()) for values in sums))

    return row("A", ~in_b), row("B", in_b), row("all", np.ones_like(in_b))
