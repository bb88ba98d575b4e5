"""A study from the command line: equal cost, fixed test cases, resumed after kills, honest words."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.evaluation.paired import PairedDifference
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.split import read_split
from kerasbalance.experiments.studies.arms import parse_arm
from kerasbalance.experiments.studies.curve import THRESHOLDS, read_curve
from kerasbalance.experiments.studies.differences import Difference, compare
from kerasbalance.experiments.studies.measures import DEFAULT as MEASURES_DEFAULT
from kerasbalance.experiments.studies.options import StudyRecord, unit_folder
from kerasbalance.experiments.studies.scores import ArmScores, GroupResults, RunScores
from kerasbalance.experiments.studies.verdict import describe, growth, headline, sentences

ARMS = ("0.5", "mined", "random")
WORDS = ["--organs", "liver", "--models", "made.runs:tiny_model", "--seeds", "2", "--iterations", "20",
         "--batch-size", "8", "--learning-rate", "0.5", "--arms", ",".join(ARMS)]  # fmt: skip
TABLES = ("runs.csv", "cases.csv", "arms.csv", "differences.csv", "results.json", "study.md")


def call(*words):
    """Run a command in this process; return its exit code and what it printed."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(10)], organs=("liver",))
    return folder / "store"


@pytest.fixture(scope="module")
def finished(store):
    code, output = call("study", store, "--out", store.parent / "study", *WORDS)
    assert code == 0, output
    return store.parent / "study"


def run_folders(study):
    record = StudyRecord.read(study)
    return {
        (arm.name, unit.seed): unit_folder(study, unit) / arm.name
        for unit in record.options.units()
        for arm in unit.arms
    }


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_what_the_runs_evaluations_say(finished):
    for row in rows(finished / "arms.csv"):
        dice = np.array([
            [float(case["dice"]) for case in rows(folder / "eval" / "cases.csv")]
            for (arm, _), folder in run_folders(finished).items()
            if arm == row["arm"]
        ])  # fmt: skip
        assert dice.shape == (2, 2)
        assert float(row["mean"]) == pytest.approx(dice.mean())
        assert float(row["case_sd"]) == pytest.approx(dice.std(axis=1, ddof=1).mean())
        assert float(row["minimum"]) == pytest.approx(dice.min(axis=1).mean())
        assert float(row["maximum"]) == pytest.approx(dice.max(axis=1).mean())


def test_the_curve_of_a_run_goes_through_its_evaluation(finished):
    for folder in run_folders(finished).values():
        curve = read_curve(folder / "eval")
        dice = {case["case"]: float(case["dice"]) for case in rows(folder / "eval" / "cases.csv")}
        assert curve.case_dice[THRESHOLDS.index(0.5)] == pytest.approx([dice[case] for case in sorted(dice)])
    compared = rows(finished / "differences.csv")
    assert {row["measure"] for row in compared if row["registered"] == "True"} == set(MEASURES_DEFAULT)


def test_every_arm_costs_the_same_iterations_and_slices(finished):
    costs = {(row["iterations"], row["slices_seen"]) for row in rows(finished / "runs.csv")}
    assert costs == {("20", "160")}


def test_all_runs_are_tested_on_the_same_cases_and_train_on_none_of_them(finished):
    splits = [read_split(folder / "split.csv") for folder in run_folders(finished).values()]
    test = [{row.case for row in split if row.part == "test"} for split in splits]
    assert len(splits) == 6
    assert all(one == test[0] for one in test)
    assert not any(row.case in test[0] for split in splits for row in split if row.part != "test")


def test_arms_of_a_seed_part_after_the_same_scores_and_mined_slices_are_the_worst(finished):
    folders = run_folders(finished)
    for seed in range(2):
        mined, random = (SliceTable.read(folders[arm, seed] / "slices.csv") for arm in ("mined", "random"))
        assert mined.score.tolist() == random.score.tolist()
        assert mined.score[mined.hard].max() <= mined.score[~mined.hard].min()
        assert mined.hard.sum() == random.hard.sum()


def test_each_run_is_a_run_like_any_other(finished):
    folder = run_folders(finished)["mined", 1]
    code, output = call("eval", folder, "--model", "made.runs:tiny_model")
    assert code == 0, output


def test_a_finished_study_is_left_as_it_is(finished, store):
    before = {name: (finished / name).read_bytes() for name in TABLES}
    code, output = call("study", store, "--out", finished, *WORDS)
    assert code == 0
    assert "every run is done" in output
    assert {name: (finished / name).read_bytes() for name in TABLES} == before


def stopped(command, out, number, checkpoints):
    """Start a study, send it a signal once so many checkpoints were written; return exit code and stderr."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while child.poll() is None and len(list(out.glob("runs/*/*/*/checkpoint/*-iteration-*"))) < checkpoints:
        time.sleep(0.02)
    child.send_signal(number)
    error = child.communicate()[1]
    return child.returncode, error


def test_an_interrupted_study_goes_on_to_the_same_runs(finished, store, tmp_path):
    out = tmp_path / "study"
    words = ["study", str(store), "--out", str(out), *WORDS, "--seeds", "1"]
    command = [sys.executable, "-m", "kerasbalance.cli", *words]
    code, error = stopped(command, out, signal.SIGTERM, 1)
    assert code == 143, error
    assert "run the same command again to go on" in error
    code, error = stopped(command, out, signal.SIGKILL, 4)
    assert code == -signal.SIGKILL, error
    code, output = call(*words)
    assert code == 0, output
    whole, broken = run_folders(finished), run_folders(out)
    for arm, seed in broken:
        for name in ("history.csv", "eval/cases.csv", "eval/slices.csv"):
            assert (broken[arm, seed] / name).read_bytes() == (whole[arm, seed] / name).read_bytes(), (
                arm,
                name,
            )
    mine, theirs = (rows(study / "cases.csv") for study in (out, finished))
    assert mine == [row for row in theirs if row["seed"] == "0"]


def test_the_page_stands_alone_and_says_what_is_not_shown(finished):
    pytest.importorskip("matplotlib")
    page = (finished / "study.html").read_text()
    assert "cannot tell from fewer than 5 seeds" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert str(finished) not in page
    assert page.count("data:image/png;base64,") >= 3


def test_a_dry_run_says_what_it_will_take_and_trains_nothing(store, tmp_path):
    code, output = call("study", store, "--out", tmp_path / "s", *WORDS, "--dry-run")
    assert code == 0
    assert "6 runs to go, 80 iterations" in output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--arms", "all,best"], 2, "the arm 'best'"),
        (["--arms", "1.5"], 2, "the arm '1.5'"),
        (["--organs", "heart"], 1, "NO_ORGAN"),
        (["--seeds", "0"], 2, "seeds 0"),
        (["--arms", "all,all"], 2, "each once"),
        (["--learning-rate", "fast"], 2, "--learning-rate fast"),
        (["--learning-rate", "fcn=0.1"], 2, "a learning rate for fcn"),
        (["--rule", "worst"], 2, "correct --rule"),
    ],
)
def test_wrong_input_gives_one_clear_line(store, tmp_path, words, code, message):
    found, output = call("study", store, "--out", tmp_path / "s", *WORDS, *words)
    assert found == code, output
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "s").exists()


def test_another_study_and_another_folder_are_left_alone(finished, store, tmp_path):
    code, output = call("study", store, "--out", finished, *WORDS, "--iterations", "30")
    assert code == 1
    assert "OTHER_STUDY: a folder whose study has another training options" in output
    (tmp_path / "file").write_text("mine")
    code, output = call("study", store, "--out", tmp_path, *WORDS)
    assert code == 1
    assert "NOT_EMPTY" in output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def difference(by, p, p_not_worse=1.0, seeds=5, measure="mean", baseline="all", needed=12, registered=True):
    found = PairedDifference(by, by - 0.01, by + 0.01, p, seeds, seeds)
    return Difference(
        "mined", baseline, measure, found, registered, 0.002, by - 0.02, by + 0.02, p, p_not_worse, needed
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            difference(0.01, 0.2),
            "cannot tell; about 12 seeds on these cases would show a difference of 1 points (+1.00 points, interval "
            "-1.00 to +3.00, higher in 5 of 5 seeds).",
        ),
        (difference(0.02, 0.01), "mean case Dice: better (+2.00"),
        (difference(-0.02, 0.01), "mean case Dice: worse (-2.00"),
        (difference(-0.001, 0.6, 0.01), "mean case Dice: not worse by 0.2 points or more (-0.10"),
        (difference(0.001, 0.6, needed=None), "more test cases would be needed"),
        (difference(0.001, 0.6), "would show a difference of 0.2 points"),
        (difference(0.02, 0.001, seeds=4), "cannot tell from fewer than 5 seeds (+2.00"),
        (difference(0.02, math.nan, math.nan, seeds=1), "(+2.00 points, higher in 1 of 1 seeds)."),
    ],
)
def test_a_comparison_claims_no_more_than_it_shows(found, words):
    assert words in describe(found)


def test_the_headline_answers_for_every_control_from_the_measures_that_decide():
    differences = (
        difference(0.001, 0.6, 0.01), difference(0.001, 0.6, measure="worst-tenth"),
        difference(0.02, 0.001, baseline="0.5"), difference(0.01, 0.3, measure="worst-tenth", baseline="0.5"),
        difference(0.09, 0.0001, measure="minimum", registered=False),
    )  # fmt: skip
    assert headline(differences) == (
        "Does mining (the paper's form) help? against training on all cases: mean case Dice not worse by 0.2 points or "
        "more, cannot tell for the worst tenth of the cases; against training on half of the cases: mean case Dice "
        "better by 2 points, cannot tell for the worst tenth of the cases."
    )


def test_shares_of_the_cases_tell_what_more_cases_would_bring():
    dice = {"all": 0.96, "0.5": 0.92, "0.25": 0.84}  # half of the cases, twice the error
    arms = tuple(ArmScores(parse_arm(name), (run_scores(0, [mean, mean]),)) for name, mean in dice.items())
    told = growth(GroupResults("liver", "unet", arms, (), np.ones(3, bool), (), ()))
    assert told.startswith(
        "Twice the cases would bring about +2.00 points of mean case Dice, if the error goes on"
    )
    assert growth(GroupResults("liver", "unet", arms[:2], (), np.ones(3, bool), (), ())) == ""


def made_group(all_dice, mined_dice):
    """Return a group of arms whose cases have the given Dice, `(seeds, cases)`."""
    arms = tuple(
        ArmScores(parse_arm(name), tuple(run_scores(seed, row) for seed, row in enumerate(dice)))
        for name, dice in (("all", all_dice), ("mined-all", mined_dice))
    )
    return GroupResults("liver", "unet", arms, (), np.ones(3, bool), (), ())


def test_only_the_measures_named_beforehand_are_adjusted_and_only_for_each_other():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.8, 0.9, (6, 12))
    group = made_group(base, base + rng.normal(0.004, 0.004, (6, 12)))
    [(_, differences)] = compare([group], ("mean", "worst-tenth"), 0.002)
    found = {d.measure: d for d in differences}
    assert [name for name, d in found.items() if d.registered] == ["mean", "worst-tenth"]
    assert found["mean"].p == pytest.approx(2 * found["mean"].found.p)  # the smaller of two, after Holm
    assert found["minimum"].p == found["minimum"].found.p
    assert (found["mean"].low, found["mean"].high) == found["mean"].found.interval(1 - 0.05 / 2)
    assert found["mean"].verdict == "better"


def run_scores(seed, dice, threshold=math.nan):
    cases = tuple(SimpleNamespace(dice=value) for value in dice)
    return RunScores(seed, cases, np.ones(3), 0, 1, 20, 160, 5, threshold)


def test_runs_that_did_not_learn_are_named_and_so_are_scores_that_came_too_early():
    arms = (
        ArmScores(parse_arm("all"), (run_scores(0, [0.9, 0.8]), run_scores(1, [0.0, 0.1]))),
        ArmScores(parse_arm("mined"), (run_scores(0, [0.9, 0.9], threshold=0.2),)),
    )
    told = " ".join(sentences(GroupResults("liver", "unet", arms, (), np.ones(3, bool), (), ()), ()))
    assert "did not learn, by their mean case Dice: all, seed 1 (0.05)." in told
    assert "mostly chance: mined, seed 0 (up to 0.20)." in told


def test_a_ratio_is_an_arm_whatever_its_spelling():
    assert parse_arm(".3") == parse_arm("0.30")
    assert parse_arm("0.3").ratio == 0.3
