"""Strategies and losses stand in one table each; help, arms, report and refusals read from it."""

import click
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.strategies import STRATEGIES
from kerasbalance.experiments.studies.arms import NAMED

USED = [strategy for strategy in STRATEGIES.values() if strategy.name != "none"]


def helped(command):
    return " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())


def test_the_strategies_and_losses_are_these():
    assert list(STRATEGIES) == ["none", "mined", "random", "add-all", "mined-all", "weighted"]
    assert list(LOSSES) == ["dice", "dice+focal", "dice+topk"]


@pytest.mark.parametrize(("option", "table"), [("strategy", {s.name: s for s in USED}), ("loss", LOSSES)])
def test_train_offers_and_explains_what_the_table_holds(option, table):
    (found,) = [p for p in main.commands["train"].params if p.name == option]
    assert isinstance(found.type, click.Choice)
    assert list(found.type.choices) == list(table)
    text = helped("train")
    assert all(f"{name}: {entry.help}" in text for name, entry in table.items())


def test_every_strategy_and_every_other_loss_is_an_arm_that_help_names():
    arms = {strategy.name for strategy in USED} | {loss.arm for loss in LOSSES.values() if loss.arm} | {"all"}
    assert set(NAMED) == arms
    text = helped("study")
    assert all(name in text for name in arms)
    assert {NAMED[s.name].ratio for s in USED if s.needs_part_a} == {0.5}
    assert {NAMED[s.name].ratio for s in USED if not s.needs_part_a} == {1.0}


@pytest.mark.parametrize("strategy", USED, ids=lambda strategy: strategy.name)
def test_the_report_has_a_sentence_for_every_strategy(strategy):
    assert strategy.outcome.format(worst="the 3 worst", hard=1_000).endswith(".")
    assert strategy.kind


@pytest.mark.parametrize(("name", "table"), [("strategy", STRATEGIES), ("loss", LOSSES)])
def test_what_is_in_no_table_is_refused_with_what_is(name, table):
    with pytest.raises(DataError, match=f"one of {', '.join(table)}".replace("+", r"\+")):
        TrainOptions(organs=("liver",), **{name: "wishful"})


def test_a_strategy_that_needs_candidates_is_refused_without_part_a():
    for strategy in USED:
        if strategy.needs_part_a:
            with pytest.raises(DataError, match="no candidates"):
                TrainOptions(organs=("liver",), strategy=strategy.name, ratio=1.0)
        else:
            assert TrainOptions(organs=("liver",), strategy=strategy.name, ratio=1.0).mining
