"""What scoring the slices leads to: one entry a strategy, with its sampler and its words. A new one is one entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kerasbalance as kb
from kerasbalance.data.errors import DataError

if TYPE_CHECKING:
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
    """

    base: "Refs"
    candidates: "Refs"
    rule: Any
    flips: tuple[str, ...]
    seed: int


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
    return kb.mine_on_top(given.base, given.rule, flips=given.flips, base_flips=given.flips)


def _of_part_a(choose: Callable[[Material], Any]) -> Callable[[Material], Any]:
    def make(given: Material) -> Any:
        return kb.HardSliceSampler(
            given.base, given.candidates, choose(given), flips=given.flips, base_flips=given.flips
        )

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
            "weighted", False, False, lambda given: kb.ProportionalSampler(given.base),
            help="Slices are drawn in proportion to 1 - score.", kind="drawn",
            outcome="each was drawn in proportion to 1 - score from then on.",
            arm="all cases, then drawn by 1 - score",
        ),
    )
}  # fmt: skip

_RULES = {"below": "SCORE", "lowest": "SHARE"}
RULE_FORMS = " or ".join(f"{name}:{value}" for name, value in _RULES.items())


def parse_rule(text: str) -> Any:
    """Turn "below:0.923" or "lowest:0.15" into a rule.

    Raises:
        DataError: If it is no rule, or its number is out of range (code `USAGE`).
    """
    name, _, value = text.partition(":")
    try:
        if name not in _RULES:
            raise ValueError(name)
        return getattr(kb, name)(float(value))
    except ValueError:
        raise DataError("USAGE", f"rule {text!r}", f"{RULE_FORMS}, with a number from 0 to 1",
                        "correct --rule, for example --rule lowest:0.15") from None  # fmt: skip
