"""Strategies and losses stand in one table each; help, arms, report and refusals read from it."""

import dataclasses
import re

import click
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main
from kerasbalance.cli.train_options import TABLE
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.augmentations import STRENGTHS
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.strategies import STRATEGIES
from kerasbalance.experiments.studies.arms import NAMED

USED = [strategy for strategy in STRATEGIES.values() if strategy.name != "none"]


def helped(command):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    return re.sub(r"(?<=\w)- (?=\w)", "-", text)  # lines also break at hyphens


def test_the_strategies_and_losses_are_these():
    assert list(STRATEGIES) == [
        "none",
        "mined",
        "random",
        "add-all",
        "mined-all",
        "mined-all-safe",
        "random-on-top",
        "weighted",
    ]
    assert list(LOSSES) == ["dice", "dice+slice", "dice+focal", "dice+topk"]


@pytest.mark.parametrize(("option", "table"), [("strategy", {s.name: s for s in USED}), ("loss", LOSSES)])
def test_train_offers_and_explains_what_the_table_holds(option, table):
    (found,) = [p for p in main.commands["train"].params if p.name == option]
    assert isinstance(found.type, click.Choice)
    assert list(found.type.choices) == list(table)
    text = helped("train")
    assert all(f"{name}: {entry.help}" in text for name, entry in table.items())


def test_every_strategy_and_every_other_loss_is_an_arm_that_help_names():
    arms = {strategy.name for strategy in USED} | {loss.arm for loss in LOSSES.values() if loss.arm}
    arms |= {"all", "guarded", *(strength.arm for strength in STRENGTHS.values() if strength.arm)}
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


def test_help_of_train_shows_everyday_options_first_and_the_rest_by_group():
    text = CliRunner().invoke(main, ["train", "--help"]).output
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles == ["Options", "Cases and slices", "Network", "Training", "Mining", "Backend and messages"]
    everyday = text[text.index("\nOptions:") : text.index("\nCases and slices:")]
    assert re.findall(r"^  (--[a-z-]+|-h)", everyday, re.MULTILINE) == [
        "--out", "--resume", "--dry-run", "--like", "--organ", "--model", "--preset", "--iterations", "--seed", "-h",
    ]  # fmt: skip


def test_every_option_of_the_table_is_shown_by_train_and_the_shared_ones_by_study():
    def names(command):
        return {name for parameter in main.commands[command].params for name in parameter.opts}

    for entry in TABLE:
        option = entry.decorator(lambda: None).__click_params__[0].opts[0]
        assert option in names("train")
        if entry.study:
            assert option in names("study")
    assert {"--iterations", "--rule"} <= names("study")
    assert "--organ" not in names("study")


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("organs", (), "at least one organ"), ("organs", ("liver", "liver"), "each once"), ("model", "vnet", "unet, fcn"),
    ("base_filters", 0, "1 or more"), ("iterations", 1, "2 or more"), ("batch_size", 0, "1 or more"),
    ("learning_rate", float("nan"), "above 0"), ("momentum", 1.0, "below 1"), ("mine_at", 1.0, "between 0 and 1"),
    ("flips", ("both",), "none and others"), ("ratio", 0.0, "above 0"), ("test_share", 1.0, "between 0 and 1"),
    ("validation_share", 0.75, "beside the test's"), ("precision", "float8", "mixed_bfloat16"),
    ("seed", -1, "0 or more"), ("window_hu", (50.0, 50.0), "LOW below HIGH"),
    ("window_hu", (float("-inf"), 0.0), "LOW below HIGH"),
    ("optimizer", "lion", "one of sgd, adamw"), ("power", 0.0, "above 0"), ("repeat", 0, "1 or more"),
    ("skip_worst", 1.0, "below 1"), ("mine_every", 0, "1 or more"), ("mine_every", 4_000, "less than the 4000"),
    ("keep", "first", "one of best, last"), ("patience", 0, "1 or more epochs"),
    ("test_seed", -1, "0 or more"),
])  # fmt: skip
def test_a_value_out_of_range_is_refused_with_the_range_and_its_option(name, value, expected):
    with pytest.raises(DataError, match=expected) as refusal:
        TrainOptions(**{"organs": ("liver",), name: value})
    assert f"correct --{ {'organs': 'organ'}.get(name, name).replace('_', '-') }" in str(refusal.value)


def test_every_field_with_a_range_says_it_in_words():
    ranged = [field for field in dataclasses.fields(TrainOptions) if field.metadata]
    assert len(ranged) > 10
    assert all(field.metadata["expected"] for field in ranged)


@pytest.mark.parametrize(("given", "received"), [
    ({"rule": "below_worst_case:validation"}, "without validation cases"),
    ({"keep": "best"}, "keep best without validation cases"),
    ({"patience": 3}, "patience 3 without validation cases"),
    ({"strategy": "weighted", "ratio": 1.0, "repeat": 2}, "weighted with repeat"),
    ({"strategy": "weighted", "ratio": 1.0, "skip_worst": 0.1}, "weighted with skip_worst"),
])  # fmt: skip
def test_options_that_contradict_each_other_are_refused(given, received):
    with pytest.raises(DataError, match=received):
        TrainOptions(organs=("liver",), **given)


@pytest.mark.parametrize(("words", "message"), [
    (["--mine-at", "0.3", "--mine-every", "5"], "--mine-at and --mine-every contradict each other"),
    (["--no-mining", "--skip-worst", "0.1"], "--no-mining and --skip-worst contradict each other"),
    (["--window-hu", "-150"], "expected two numbers such as -150,250"),
    (["--rule", "below_worst_case:A"], "below_worst_case:PART (validation or B)"),
])  # fmt: skip
def test_what_makes_no_sense_together_is_refused_as_wrong_usage(tmp_path, words, message):
    done = CliRunner().invoke(
        main, ["train", "store", "--out", str(tmp_path / "run"), "--organ", "liver", *words]
    )
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_follows_optimizer_and_network():
    def rate(**given):
        return TrainOptions(organs=("liver",), **given).learning_rate

    assert (rate(), rate(model="fcn"), rate(model="a:b")) == (0.1, 0.003, 0.01)
    assert rate(optimizer="adamw") < 0.02
    assert rate(optimizer="adamw", learning_rate=0.5) == 0.5


def test_slices_are_scored_once_or_every_so_many_iterations():
    assert TrainOptions(organs=("liver",), iterations=10, mine_at=0.3).mine_iterations == (3,)
    assert TrainOptions(organs=("liver",), iterations=10, mine_every=4).mine_iterations == (4, 8)
    assert TrainOptions(organs=("liver",), iterations=8, mine_every=4).mine_iterations == (4,)
