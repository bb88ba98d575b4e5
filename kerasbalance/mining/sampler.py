"""Owns the index: applies a rule to scores, within guards, and adds the hard slices with their flips."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasbalance.batches.index import Index, Refs, as_refs, flip_codes
from kerasbalance.errors import explain
from kerasbalance.mining.counts import SliceScores
from kerasbalance.mining.result import MiningResult
from kerasbalance.mining.rules import NO_REFS, Mask, Rule, Scores

EASY, HARD, FLOOR, SUSPECT, CASE_FULL, CAPPED = "easy", "hard", "floor", "suspect", "case_full", "capped"
TIED = "tied"
_TIES = 2
"""Marks the draws that break ties among those of the same seed."""


class Sampler(Protocol):
    """What `ScheduledMining` needs of a strategy."""

    index: Index
    candidates: Refs

    @property
    def reference(self) -> Refs:
        """Slices to be scored beside the candidates; usually none."""
        ...

    def update(
        self,
        scores: SliceScores | ArrayLike,
        *,
        reference: SliceScores | None = None,
        iteration: int | None = None,
    ) -> MiningResult:
        """Make a new index from the candidates' scores."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what changes during a run."""
        ...

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Return to a state."""
        ...


class HardSliceSampler:
    """Trains on `base`, plus the candidates on which the model does badly.

    Each `update` starts from `base` again: what an earlier one added is not kept. A guard is applied after
    the rule, in this order: suspects aside, number a case, largest share, least share. Shares are of all
    candidates. Only ties are random: which of several slices with one score is chosen is drawn anew in each update,
    from the seed and the iteration, and the others have the reason `tied`. A slice with
    several organs is as hard as its worst organ. A slice with score 1, for instance an empty one that was
    left empty, is never added.

    Args:
        base: Int64 `(slices,)`, always trained on, unflipped unless `base_flips` says more; not empty.
        candidates: Int64 `(slices,)`, each once; part A of the paper. May overlap `base`, which trains on the
            hard slices once more (`mine_on_top`).
        rule: `below`, `lowest`, `below_worst_case` or another `Rule`.
        flips: The forms in which a hard slice is added: `"none"`, `"horizontal"`, `"vertical"`, `"both"`.
            An organ has a side: mirrored slices cost accuracy in short training.
        base_flips: The forms in which `base` is trained on.
        repeat: How often each form of a hard slice is added, >= 1.
        min_share: If the rule chooses less than this share, the next worst slices are added.
        max_share: If it chooses more, only the worst are kept.
        skip_worst: This share of the candidates, the very worst, is set aside: often their labels are wrong.
        cases: `(candidates,)`, the case of each candidate; needed by `max_per_case`.
        max_per_case: At most so many slices of one case, its worst ones.
        suspicious: A function that is given the refs of the slices that the rule chose, and returns a bool for each:
            those whose labels look wrong. They are set aside. It is called between two steps, so that it may use the
            model in training.
        seed: Seed of the draw that breaks ties, >= 0. Not the order of the candidates: slices next to each other
            are alike.

    Raises:
        ValueError: If an argument is out of range or contradicts another.

    Example:
        >>> from kerasbalance import below
        >>> sampler = HardSliceSampler(base=[0, 1], candidates=[2, 3, 4], rule=below(0.9))
        >>> result = sampler.update([0.95, 0.2, 1.0])
        >>> sampler.index.refs
        array([0, 1, 3])

    Reference:
        Zhang et al., Applied Sciences 9(9):1825, 2019, doi 10.3390/app9091825.
    """

    def __init__(
        self,
        base: ArrayLike,
        candidates: ArrayLike,
        rule: Rule,
        *,
        flips: Sequence[str] = ("none",),
        base_flips: Sequence[str] = ("none",),
        repeat: int = 1,
        min_share: float = 0.0,
        max_share: float = 1.0,
        skip_worst: float = 0.0,
        cases: ArrayLike | None = None,
        max_per_case: int | None = None,
        suspicious: Callable[[Refs], Mask] | None = None,
        seed: int = 0,
    ) -> None:
        self.base = as_refs(base, "base")
        self.candidates = distinct_refs(candidates, "candidates")
        self.rule = rule
        self.flips, self.base_flips = flip_codes(flips), flip_codes(base_flips)
        self.repeat = repeat
        self.min_share, self.max_share, self.skip_worst = min_share, max_share, skip_worst
        self.cases = None if cases is None else np.asarray(cases)
        self.max_per_case = max_per_case
        self.suspicious = suspicious
        self.seed: int | None = seed  # None in a run of version 0.1, where the first of the candidates won
        self._check()
        self.index = self._index_with(NO_REFS)

    @property
    def reference(self) -> Refs:
        """Slices that the rule needs scored beside the candidates."""
        return self.rule.reference

    def update(
        self,
        scores: SliceScores | ArrayLike,
        *,
        reference: SliceScores | None = None,
        iteration: int | None = None,
    ) -> MiningResult:
        """Apply the rule and the guards, and make the new index.

        Args:
            scores: The scores of `candidates`, in their order: what `score_slices` returned, or numbers
                `(slices,)` or `(slices, organs)` from 0 to 1.
            reference: The scores of `reference`, for a rule that asks for them.
            iteration: Written into the result.

        Raises:
            ValueError: If there is not one score for each candidate, or a score is NaN or out of range.
        """
        score = slice_scores(scores, self.candidates)
        reason, threshold = self._decide(score, reference, self._draw(len(score), iteration))
        hard = (reason == HARD) | (reason == FLOOR)
        self.index = self._index_with(self.candidates[hard])
        copies = hard * float(self.repeat * len(self.flips))
        return MiningResult(
            self.candidates.copy(),
            score,
            hard,
            reason,
            copies,
            threshold,
            repr(self.rule),
            iteration,
            organ_scores(scores),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the index and the seed as arrays; the options are the caller's to repeat."""
        state = self.index.state()
        return state if self.seed is None else {**state, "seed": np.array(self.seed)}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Return to the index that `state` describes; one of version 0.1 has no seed."""
        self.index = Index.from_state(state)
        self.seed = int(state["seed"]) if "seed" in state else None

    def _draw(self, candidates: int, iteration: int | None) -> Refs:
        """Return the order in which slices of one score are chosen."""
        if self.seed is None:
            return np.arange(candidates)
        return np.random.default_rng((self.seed, _TIES, iteration or 0)).permutation(candidates)

    def _decide(
        self, score: Scores, reference: SliceScores | None, draw: Refs
    ) -> tuple[NDArray[np.str_], float]:
        """Return the reason of every candidate and the rule's threshold."""
        worst_first = draw[np.argsort(score[draw], kind="stable")]
        reason = np.full(len(score), EASY, dtype="<U9")
        reason[worst_first[: int(self.skip_worst * len(score) + 1e-9)]] = SUSPECT
        asked = draw[reason[draw] != SUSPECT]
        chosen, threshold = self.rule.select(score[asked], reference)
        reason[asked[chosen]] = HARD
        if self.suspicious is not None:
            picked = np.flatnonzero(reason == HARD)
            reason[picked[np.asarray(self.suspicious(self.candidates[picked]), bool)]] = SUSPECT
        self._limit_cases(reason, worst_first, HARD)
        hard = worst_first[reason[worst_first] == HARD]
        reason[hard[int(self.max_share * len(score) + 1e-9) :]] = CAPPED
        self._fill(reason, worst_first, score < 1)
        if self.seed is not None:
            _mark_tied(reason, score)
        return reason, threshold

    def _limit_cases(self, reason: NDArray[np.str_], worst_first: Refs, kind: str) -> None:
        if self.cases is None or self.max_per_case is None:
            return
        for case in np.unique(self.cases):
            rows = worst_first[(self.cases == case)[worst_first]]
            added = rows[np.isin(reason[rows], (HARD, FLOOR))]
            spare = max(0, self.max_per_case - int((reason[added] != kind).sum()))
            reason[added[reason[added] == kind][spare:]] = CASE_FULL

    def _fill(self, reason: NDArray[np.str_], worst_first: Refs, imperfect: Mask) -> None:
        """Add the worst of what is left until the least share is reached, or nothing is left."""
        wanted = int(self.min_share * len(reason) + 1e-9)
        while True:
            missing = wanted - int(np.isin(reason, (HARD, FLOOR)).sum())
            left = worst_first[((reason == EASY) & imperfect)[worst_first]]
            if missing <= 0 or not len(left):
                return
            reason[left[:missing]] = FLOOR
            self._limit_cases(reason, worst_first, FLOOR)

    def _index_with(self, hard: Refs) -> Index:
        forms = [(self.base, code) for code in self.base_flips]
        forms += [(hard, code) for code in self.flips for _ in range(self.repeat)]
        refs = np.concatenate([refs for refs, _ in forms])
        return Index(refs, np.concatenate([np.full(len(refs), code) for refs, code in forms]))

    def _check(self) -> None:
        for name in ("min_share", "max_share", "skip_worst"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    explain(f"{name}={getattr(self, name)!r}", "a share from 0 to 1", "pass 0.1 for a tenth")
                )
        if self.seed is not None and self.seed < 0:
            raise ValueError(explain(f"seed={self.seed}", "a whole number >= 0", "leave seed out for 0"))
        if self.min_share > self.max_share:
            raise ValueError(
                explain(
                    f"min_share={self.min_share}",
                    f"at most max_share={self.max_share}",
                    "lower min_share or raise max_share",
                )
            )
        if self.repeat < 1 or (self.max_per_case is not None and self.max_per_case < 1):
            raise ValueError(
                explain(
                    f"repeat={self.repeat}, max_per_case={self.max_per_case}",
                    "numbers >= 1",
                    "leave them out for one copy and no limit",
                )
            )
        if (self.max_per_case is None) != (self.cases is None):
            raise ValueError(
                explain(
                    "only one of cases and max_per_case", "both or neither", "pass the case of each candidate"
                )
            )
        if self.cases is not None and self.cases.shape != self.candidates.shape:
            raise ValueError(
                explain(
                    f"cases of shape {self.cases.shape}", f"{len(self.candidates)} cases", "one a candidate"
                )
            )


def _mark_tied(reason: NDArray[np.str_], score: Scores) -> None:
    """Say of the slices that lost a draw that they did, where the scores alone decide."""
    chosen, left = np.isin(reason, (HARD, FLOOR)), np.isin(reason, (EASY, CAPPED))
    if chosen.any() and left.any():
        last = score[chosen].max()
        if score[left].min() == last:
            reason[left & (score == last)] = TIED


def mine_on_top(refs: ArrayLike, rule: Rule, **options: Any) -> HardSliceSampler:
    """Return a sampler that trains on all slices, and on the hard ones among them once more.

    Nothing is held back for mining, so the mean does not suffer from a smaller training set; on the other
    hand the scores are those of slices that the model was trained on.

    Args:
        refs: Int64 `(slices,)`, each once.
        rule: As for `HardSliceSampler`.
        **options: As for `HardSliceSampler`.

    Example:
        >>> from kerasbalance import lowest
        >>> sampler = mine_on_top(np.arange(4), lowest(0.25))
        >>> _ = sampler.update([0.9, 0.2, 0.8, 1.0])
        >>> sampler.index.refs
        array([0, 1, 2, 3, 1])
    """
    return HardSliceSampler(refs, refs, rule, **options)


def distinct_refs(refs: ArrayLike, name: str) -> Refs:
    """Return `refs` as an int64 array; a ValueError says so if there is none or one stands twice."""
    array = as_refs(refs, name)
    if not len(array) or len(np.unique(array)) != len(array):
        raise ValueError(
            explain(f"{name} of {len(array)} refs", "at least one, each once", "use numpy.unique")
        )
    return array


def organ_scores(scores: SliceScores | ArrayLike) -> Scores | None:
    """Return the scores of each organ, float64 `(slices, organs)`, where there are several; else None."""
    array = np.asarray(scores.dice if isinstance(scores, SliceScores) else scores, np.float64)
    return array.copy() if array.ndim == 2 and array.shape[1] > 1 else None


def slice_scores(scores: SliceScores | ArrayLike, candidates: Refs) -> Scores:
    """Return one float64 score a candidate, the worst organ's; a ValueError says what does not fit."""
    if isinstance(scores, SliceScores):
        if not np.array_equal(scores.refs, candidates):
            raise ValueError(
                explain(
                    "scores of other slices", "scores of the candidates, in order", "score sampler.candidates"
                )
            )
        scores = scores.dice
    array = np.asarray(scores, np.float64)
    array = array.min(axis=1) if array.ndim == 2 and array.shape[1] else array
    if array.shape != candidates.shape or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            explain(
                f"scores of shape {np.shape(scores)}, of which {np.isnan(array).sum()} are NaN",
                f"{len(candidates)} numbers from 0 (hard) to 1 (easy)",
                "return one number for each candidate, scaled for instance by 1 / (1 + loss)",
            )
        )
    return array.copy()
