"""What scoring the slices leads to: one entry a strategy, with its sampler and its words. A new one is one entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kerasbalance as kb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kerasbalance.batches.index import Refs


@dataclass(frozen=True)
class Material:
    """What a sampler is made of.

    Args:
        base: Slices of part B, int64 `(slices,)`.
        candidates: Slices of part A, int64 `(slices,)`; empty for a selection ratio of 1.
        rule: Which scores are hard.
        flips: Forms of the slices.
        seed: Seed of the run.
        repeat: How often each form of a hard slice is added.
        skip_worst: The share of the candidates, the very worst, that is set aside.
        suspicious: Says of slices whether their masks look wrong to the model in training.
    """

    base: "Refs"
    candidates: "Refs"
    rule: Any
    flips: tuple[str, ...]
    seed: int
    repeat: int = 1
    skip_worst: float = 0.0
    suspicious: "Callable[[Refs], NDArray[np.bool_]] | None" = None

    @property
    def ways(self) -> dict[str, Any]:
        """How hard slices join, as arguments of `kerasbalance.HardSliceSampler`."""
        return {
            "flips": self.flips,
            "base_flips": self.flips,
            "repeat": self.repeat,
            "skip_worst": self.skip_worst,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Strategy:
    """One way to use the scores.

    Args:
        name: The word for it in options, arms and files.
        needs_part_a: Whether there must be candidates; without that need, a selection ratio of 1 suits it.
        by_score: Whether it chooses slices by their scores.
        make: Makes the sampler, whose index is part B before any scores.
        help: A sentence for `--help`.
        kind: An adjective for the slices that it adds.
        outcome: A sentence's end for the report, with the fields `worst` and `hard`.
        arm: What an arm of a study that uses it trains on.
    """

    name: str
    needs_part_a: bool
    by_score: bool
    make: Callable[[Material], Any]
    help: str
    kind: str
    outcome: str
    arm: str


def _on_top(given: Material) -> Any:
    return kb.mine_on_top(given.base, given.rule, **given.ways)


def _of_part_a(choose: Callable[[Material], Any]) -> Callable[[Material], Any]:
    def make(given: Material) -> Any:
        return kb.HardSliceSampler(given.base, given.candidates, choose(given), **given.ways)

    return make


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "none", False, False, _on_top,
            help="Slices are not scored.", kind="", outcome="", arm="all training cases",
        ),
        Strategy(
            "mined", True, True, _of_part_a(lambda given: given.rule),
            help="The hard slices of part A are added.", kind="hard", outcome="{worst} joined the training.",
            arm="half of the cases, then the hard slices of the rest (the paper)",
        ),
        Strategy(
            "random", True, False, _of_part_a(lambda given: kb.at_random(given.rule, given.seed)),
            help="As many random slices of part A are added (the control).", kind="random",
            outcome="{hard:,} random ones of them joined the training, as many as mining would have added.",
            arm="half, then as many random slices of the rest",
        ),
        Strategy(
            "add-all", True, False, _of_part_a(lambda given: kb.everything()),
            help="All slices of part A are added.", kind="more", outcome="all of them joined the training.",
            arm="half, then all slices of the rest",
        ),
        Strategy(
            "mined-all", False, True, _on_top,
            help="The hard slices of all the data are drawn once more in each pass.", kind="hard",
            outcome="{worst} were trained on once more in each pass.",
            arm="all cases, then the hard slices once more",
        ),
        Strategy(
            "mined-all-safe", False, True,
            lambda given: kb.mine_on_top(given.base, given.rule, suspicious=given.suspicious, **given.ways),
            help="As mined-all, without the slices whose masks look wrong.", kind="hard",
            outcome="{worst} were trained on once more in each pass, without those whose masks look wrong.",
            arm="all cases, then the hard slices once more but for those whose masks look wrong",
        ),
        Strategy(
            "random-on-top", False, False,
            lambda given: kb.mine_on_top(given.base, kb.at_random(given.rule, given.seed), **given.ways),
            help="As many random slices are drawn once more in each pass (a control).", kind="random",
            outcome="{hard:,} random ones of them were trained on once more in each pass, as many as mining would have "
            "chosen.",
            arm="all cases, then as many random slices once more",
        ),
        Strategy(
            "weighted", False, False, lambda given: kb.ProportionalSampler(given.base),
            help="Three draws of ten are in proportion to 1 - score, seven are alike from all slices.", kind="drawn",
            outcome="three draws of ten were in proportion to 1 - score from then on.",
            arm="all cases, then three draws of ten by 1 - score",
        ),
    )
}  # fmt: skip
