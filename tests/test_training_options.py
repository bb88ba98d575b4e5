"""Options of `train` that change window, optimizer, decay and mining: they reach what they name, and resume exactly."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

import kerasbalance as kb
from kerasbalance.cli.main import main
from kerasbalance.experiments.report.contents import read_contents
from kerasbalance.experiments.report.prose import summary
from kerasbalance.experiments.runs.mine import mine_run
from kerasbalance.experiments.runs.model import build_model, compile_model
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.train import Run

OPTIONS = TrainOptions(
    organs=(runs.ORGAN,), model=runs.MODEL, iterations=20, batch_size=8, learning_rate=0.5, ratio=0.5
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(8)])
    return folder / "store"


def test_all_of_them_reach_the_record_from_the_command_line(store, tmp_path):
    words = ["train", str(store), "--out", str(tmp_path / "run"), "--organ", runs.ORGAN, "--model", runs.MODEL,
             "--iterations", "12", "--window-hu", "-50,200.5", "--power", "2", "--optimizer", "adamw", "--repeat", "2",
             "--skip-worst", "0.1", "--mine-every", "5", "--rule", "below_worst_case:B"]  # fmt: skip
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert {name: told[name] for name in ("window_hu", "power", "optimizer", "learning_rate", "repeat", "skip_worst",
                                          "mine_every", "rule")} == {
        "window_hu": [-50.0, 200.5], "power": 2.0, "optimizer": "adamw", "learning_rate": 0.001, "repeat": 2,
        "skip_worst": 0.1, "mine_every": 5, "rule": "below_worst_case:B",
    }  # fmt: skip
    assert "at iteration 10" in done.output
    run = Run.open(tmp_path / "run", model=runs.MODEL)
    assert "Every 5 iterations it scored" in summary(read_contents(run.folder))


def test_optimizer_and_decay_are_those_that_were_named():
    options = dataclasses.replace(OPTIONS, optimizer="adamw", power=2.0, momentum=0.8, learning_rate=0.1)
    model = build_model(options, (32, 32))
    compile_model(model, options)
    assert type(model.optimizer).__name__ == "AdamW"
    assert model.optimizer.beta_1 == 0.8
    assert float(model.optimizer._learning_rate(10)) == pytest.approx(0.1 * 0.5**2)


@pytest.mark.parametrize("network", ["unet", "fcn"])
def test_the_window_is_the_models_first_layer(network):
    options = dataclasses.replace(OPTIONS, model=network, base_filters=1, window_hu=(-50.0, 200.5))
    assert tuple(build_model(options, (32, 32)).get_layer("window").get_config()["window_hu"]) == (
        -50.0,
        200.5,
    )


def test_every_mining_begins_anew_and_the_last_one_is_written(store, tmp_path):
    run = Run.create(
        store, tmp_path / "run", dataclasses.replace(OPTIONS, mine_every=6, repeat=2, skip_worst=0.1)
    )
    result = run.train().mining
    assert result.iteration == 18
    table = SliceTable.read(run.folder.slices_file)
    assert table.reason.tolist().count("suspect") == int(0.1 * len(table))
    assert set(table.copies[table.hard]) == {2.0}
    worst = table.score[table.reason == "suspect"].max()
    assert worst <= table.score[table.hard].min()


@pytest.mark.parametrize("given", [
    {"optimizer": "adamw", "learning_rate": 0.05, "mine_every": 6, "repeat": 2, "skip_worst": 0.1},
    {"rule": "below_worst_case:validation", "validation_share": 0.15, "power": 2.0},
], ids=["adamw, mining thrice", "worst validation case"])  # fmt: skip
def test_a_run_with_them_resumes_to_the_same_bytes(store, tmp_path, given):
    options = dataclasses.replace(OPTIONS, **given)
    whole, broken = (Run.create(store, tmp_path / name, options) for name in ("whole", "broken"))
    whole.train()
    runs.train_with_a_break(broken, 13)
    assert runs.final_arrays(broken) == runs.final_arrays(whole)
    assert broken.folder.slices_file.read_bytes() == whole.folder.slices_file.read_bytes()


def test_the_worst_validation_case_sets_the_threshold(store, tmp_path):
    given = {"rule": "below_worst_case:validation", "validation_share": 0.3, "iterations": 8}
    run = Run.create(store, tmp_path / "run", dataclasses.replace(OPTIONS, **given))
    model, _, mining = run._parts()
    refs, cases = run.case_slices("validation")
    result = mining.mine(model, 0)
    counts = kb.score_slices(model, run.source(), refs).counts[:, 0]
    sums = [counts[cases == case].sum(axis=0) for case in np.unique(cases)]
    assert len(sums) == 2
    assert result.threshold == min(2 * both / (predicted + reference) for both, predicted, reference in sums)


def test_mine_compares_with_the_worst_case_of_the_run(store, tmp_path):
    run = Run.create(
        store, tmp_path / "run", dataclasses.replace(OPTIONS, rule="below_worst_case:B", iterations=8)
    )
    run.train()
    mined = mine_run(Run.open(tmp_path / "run", model=runs.MODEL), ("test",))
    assert 0 <= mined.threshold <= 1
    assert (mined.table.score[mined.table.hard] < mined.threshold).all()
