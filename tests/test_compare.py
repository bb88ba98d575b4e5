"""Runs against each other: paired by case, tested as SciPy does, refused by what differs."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.shaping import Shaping
from kerasbalance.evaluation.cases import evaluate_case, evaluate_slices
from kerasbalance.evaluation.summaries import summarise_cases
from kerasbalance.experiments.compare import compare_runs, open_judged
from kerasbalance.experiments.runs.evaluation_files import Evaluation, write_evaluation
from kerasbalance.experiments.runs.folder import RunRecord
from kerasbalance.experiments.runs.options import TrainOptions

CASES = [f"{n:08x}" for n in range(12)]


def reference():
    mask = np.zeros((5, 12, 12), bool)
    mask[1:4, 2:10, 2:10] = True
    return mask


def prediction(rows):
    """The reference without so many of its rows on slice 2."""
    mask = reference()
    mask[2, 2 : 2 + rows] = False
    return mask


def made_run(folder, missing, *, cases=CASES, organs=("liver",), digest="d", seed=0, truth=None):
    """An evaluated run whose prediction of each case lacks so many rows; None leaves the organ out of both masks."""
    folder.mkdir()
    options = TrainOptions(organs=organs, iterations=4, seed=seed)
    RunRecord(options, "store", digest, (12, 12), Shaping(), (1.0, 1.0), "jax", {}).write(folder / "run.json")
    rows, slices = [], []
    for case, count in zip(cases, missing, strict=False):
        right = reference() & (count is not None) if truth is None else truth
        found = right if count is None else prediction(count)
        for organ in organs:
            rows.append(evaluate_case(found, right, (2.0, 1.0, 1.0), case=case, organ=organ))
            slices += evaluate_slices(found, right, case=case, organ=organ)
    write_evaluation(folder / "eval", Evaluation(tuple(rows), tuple(slices), summarise_cases(rows)))
    return folder


def call(*words, code=0):
    done = CliRunner().invoke(main, ["compare", *map(str, words)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


WORSE, BETTER = [4, 3, 4, 5, 4, 3, 4, 4, 5, 3, 4, 4], [1, 0, 2, 1, 3, 0, 1, 1, 2, 0, 1, 1]


@pytest.fixture
def runs(tmp_path):
    return made_run(tmp_path / "first", WORSE), made_run(tmp_path / "second", BETTER, seed=1)


def test_the_difference_is_that_of_the_case_dice_and_its_test_scipys_paired_one(runs):
    from scipy import stats

    first, second = map(open_judged, runs)
    (found,) = compare_runs([first, second])
    ours, theirs = ([row.dice for row in run.cases] for run in (first, second))
    expected = stats.ttest_rel(theirs, ours)
    assert found.found.difference == pytest.approx(np.mean(theirs) - np.mean(ours))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.worst_tenth == pytest.approx(np.sort(theirs)[:2].mean() - np.sort(ours)[:2].mean())
    assert found.verdict == "better"
    assert compare_runs([second, first])[0].verdict == "worse"


def test_the_cases_and_slices_that_differ_most_come_first(runs):
    (found,) = compare_runs([*map(open_judged, runs)])
    differences = [case.difference for case in found.cases]
    assert differences == sorted(differences, reverse=True)
    largest = found.cases[0]
    (one,) = largest.slices  # the other slices are equal in both runs
    assert one.slice == 2
    number = CASES.index(largest.case)
    assert (one.first_wrong, one.second_wrong) == (8 * WORSE[number], 8 * BETTER[number])


def test_several_runs_are_compared_with_the_first_and_p_allows_for_their_number(runs, tmp_path):
    third = made_run(tmp_path / "third", [*BETTER[1:], 3])
    judged = [open_judged(path) for path in (*runs, third)]
    alone = [compare_runs([judged[0], other])[0].p for other in judged[1:]]
    together = [one.p for one in compare_runs(judged)]
    assert max(together) == pytest.approx(max(alone))
    assert min(together) == pytest.approx(min(2 * min(alone), max(together)))


def test_nothing_is_concluded_from_a_few_cases(tmp_path):
    judged = [
        open_judged(made_run(tmp_path / name, missing[:4])) for name, missing in (("a", WORSE), ("b", BETTER))
    ]
    assert compare_runs(judged)[0].verdict == "cannot tell"
    assert "cannot tell from fewer than 5 cases (mean case Dice +" in call(tmp_path / "a", tmp_path / "b")


def test_equal_runs_cannot_be_told_apart(runs):
    first = open_judged(runs[0])
    (found,) = compare_runs([first, first])
    assert (found.found.difference, found.p, found.verdict) == (0, 1, "cannot tell")


def test_an_absent_organ_makes_no_pair_and_is_counted(tmp_path):
    judged = [
        open_judged(made_run(tmp_path / name, [None, *missing[1:]]))
        for name, missing in (("a", WORSE), ("b", BETTER))
    ]
    (found,) = compare_runs(judged)
    assert (found.found.seeds, found.left_out) == (11, 1)
    assert math.isnan(found.cases[-1].difference)


def test_the_command_prints_a_verdict_the_cases_and_what_it_does_not_mean(runs):
    lines = call(*runs).splitlines()
    assert lines[0] == "run 1: first (unet, strategy mined, seed 0)"
    assert lines[3].strip() == "predicted: liver above 0.5, no clean-up"
    assert lines[5].startswith("liver, run 2 against run 1: better (mean case Dice +")
    assert lines[5].endswith("higher in 12 of 12 cases)")
    assert lines[6].split()[:5] == ["case", "Dice", "1", "Dice", "2"]
    assert lines[7].split(maxsplit=4)[4] == "3 (40 to 8)"  # the third slice, eight pixels a row
    assert "and 2 more cases; --json lists them all" in lines
    assert lines[-1].startswith("The test pairs cases: it holds for these trained models")


def test_json_holds_every_case_and_no_infinite_number(runs):
    found = json.loads(call(*runs, "--json"))
    assert [run["name"] for run in found["runs"]] == ["first", "second"]
    (one,) = found["comparisons"]
    assert found["runs"][0]["operating_point"]["organs"][0]["threshold"] == 0.5
    assert (one["verdict"], one["pairs"], len(one["cases"])) == ("better", 12, 12)
    assert one["cases"][0]["slices"][0]["slice"] == 2


OTHERS = {
    "cases of the store (store digest)": {"digest": "e"},
    "test cases (1 only in run 1, 1 only in the other)": {"cases": [*CASES[:-1], "other"]},
    "organs (liver; liver, spleen)": {"organs": ("liver", "spleen")},
    "references (or the grid on which they were judged)": {"truth": reference() & (np.arange(12) < 9)},
}


@pytest.mark.parametrize("named", OTHERS)
def test_runs_that_were_judged_on_something_else_are_refused_by_what_differs(runs, tmp_path, named):
    other = made_run(tmp_path / "third", WORSE, **OTHERS[named])
    message = " ".join(call(runs[0], other, code=1).split())
    assert "NOT_COMPARABLE: run 2, which differs from run 1 in " in message
    assert named in message


def test_a_run_that_was_not_evaluated_is_refused_with_the_remedy(runs, tmp_path):
    made = made_run(tmp_path / "third", WORSE)
    for file in (made / "eval").iterdir():
        file.unlink()
    assert "run kerasbalance eval on it first" in call(runs[0], made, code=1)
    assert "name two runs or more" in call(runs[0], code=2)
    with pytest.raises(DataError, match="NO_RUN"):
        open_judged(tmp_path)
