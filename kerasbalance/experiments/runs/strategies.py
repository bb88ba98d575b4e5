"""What decides which slices a run trains on, before and after they are scored."""

from typing import Any

import kerasbalance as kb
from kerasbalance.batches.index import Refs
from kerasbalance.experiments.runs.options import TrainOptions, parse_rule
from kerasbalance.mining.rules import Rule


def make_rule(options: TrainOptions) -> Rule:
    """Return the rule of a run."""
    name, value = parse_rule(options.rule)
    return {"below": kb.below, "lowest": kb.lowest}[name](value)


def make_sampler(options: TrainOptions, base: Refs, candidates: Refs) -> Any:
    """Make the sampler of a run's strategy.

    Args:
        options: of the run.
        base: int64 `(slices,)`, those of part B.
        candidates: int64 `(slices,)`, those of part A; empty for a selection ratio of 1.

    Returns:
        A sampler whose index, before any scores, is part B.
    """
    rule, flips = make_rule(options), options.flips
    if options.strategy == "weighted":
        return kb.ProportionalSampler(base)
    if options.strategy in ("none", "mined-all"):
        return kb.mine_on_top(base, rule, flips=flips, base_flips=flips)
    rules = {"mined": rule, "random": kb.at_random(rule, options.seed), "add-all": kb.everything()}
    return kb.HardSliceSampler(base, candidates, rules[options.strategy], flips=flips, base_flips=flips)
