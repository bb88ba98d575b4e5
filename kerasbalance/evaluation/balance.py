"""The draw behind a split: patients from strata, then exchanged until both parts are alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Differences up to these are tolerated, so that different seeds keep giving different splits: half a point in
# the positive share, 2 % in the slices per case, and none in the number of cases.
_SHARE, _LENGTH = 0.005, 0.02
# What one case beyond the number that was asked for weighs against one tolerance of the others.
_CASE_WEIGHT = 20.0
# Draws that are tried where whole patients do not allow a split within the tolerances.
_DRAWS = 8
# Beyond this many patients a side only some are looked at for the next exchange: enough to find one, cheap.
_LOOKED_AT = 256
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Patients:
    """What each patient brings, in an order that does not depend on the order of the rows.

    Args:
        cases: Int64 `(patients,)`, number of cases.
        slices: Number of slices.
        positive: Number of positive slices.
    """

    cases: NDArray[np.int64]
    slices: NDArray[np.int64]
    positive: NDArray[np.int64]


def balanced_half(patients: Patients, ratio: float, target: int, seed: int) -> NDArray[np.bool_]:
    """Choose the patients of part B.

    Args:
        patients: At least two.
        ratio: Share of the cases that B is to hold, between 0 and 1.
        target: The same as a number of cases.
        seed: Seed of the draw.

    Returns:
        Whether each patient is in part B, bool `(patients,)`. Neither part is empty.
    """
    goal = _Goal(patients, target)
    found = []
    for draw in range(_DRAWS):
        rng = np.random.default_rng((seed, draw))
        in_b = _draw(patients, ratio, rng)
        while (excess := float(goal.excess(goal.sums(in_b)))) > 0 and _exchange(in_b, goal, rng):
            pass
        found.append((excess, draw, in_b))
        if excess == 0:
            break
    return min(found, key=lambda one: one[:2])[2]


def _draw(patients: Patients, ratio: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Give B its share of every stratum, the fractions carried from one stratum to the next."""
    order = rng.permutation(len(patients.cases))
    order = order[np.argsort(_strata(patients)[order], kind="stable")]
    ends = np.cumsum(patients.cases[order]) * ratio + rng.random()
    in_b = np.zeros(len(order), bool)
    in_b[order] = np.floor(ends) > np.floor(ends - patients.cases[order] * ratio)
    if in_b.all() or not in_b.any():
        in_b[order[0]] = not in_b[order[0]]
    return in_b


def _strata(patients: Patients) -> NDArray[np.int64]:
    length, share = patients.slices / patients.cases, patients.positive / patients.slices
    return 2 * (length > np.median(length)) + (share > np.median(share))


class _Goal:
    """What the sums of part B should be."""

    def __init__(self, patients: Patients, target: int) -> None:
        self.rows = np.column_stack([patients.cases, patients.slices, patients.positive]).astype(float)
        self.whole = self.rows.sum(axis=0)
        self.target = target

    def sums(self, in_b: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Cases, slices and positive slices of part B, float64 `(3,)`."""
        total: NDArray[np.float64] = self.rows[in_b].sum(axis=0)
        return total

    def excess(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the sums `(..., 3)` of part B lie beyond the tolerances, squared; 0 is good enough.

        An empty part and one without positive slices are infinitely far.
        """
        a = self.whole - b
        share, length = self.whole[2] / self.whole[1], self.whole[1] / self.whole[0]
        total = (_CASE_WEIGHT * (b[..., 0] - self.target)) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            for part in (a, b):
                by_share = np.abs(part[..., 2] / part[..., 1] - share) / _SHARE
                by_length = np.abs(part[..., 1] / part[..., 0] / length - 1) / _LENGTH
                total = total + np.maximum(by_share - 1, 0) ** 2 + np.maximum(by_length - 1, 0) ** 2
        possible = (a[..., 2] > 0) & (b[..., 2] > 0)
        return np.where(possible, total, np.inf)


def _exchange(in_b: NDArray[np.bool_], goal: _Goal, rng: np.random.Generator) -> bool:
    """Exchange the two patients, or move the one, that bring B nearest to the goal; False if none does."""
    sides = [np.flatnonzero(in_b), np.flatnonzero(~in_b)]
    sides = [
        rng.choice(side, _LOOKED_AT, replace=False) if len(side) > _LOOKED_AT else side for side in sides
    ]  # A last row of zeros stands for "nobody": an exchange with nobody is a move.
    out, into = (np.vstack([goal.rows[side], np.zeros(3)]) for side in sides)
    sums = goal.sums(in_b)
    excesses = goal.excess(sums + into[None, :] - out[:, None])
    first, second = np.unravel_index(np.argmin(excesses), excesses.shape)
    # The last entry exchanges nobody with nobody; one that is better by rounding alone would be made for ever.
    if not excesses[first, second] < excesses[-1, -1] * (1 - _ROUNDING):
        return False
    for side, chosen in ((sides[0], first), (sides[1], second)):
        if chosen < len(side):
            in_b[side[chosen]] = not in_b[side[chosen]]
    return True
