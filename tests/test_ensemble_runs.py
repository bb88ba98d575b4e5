"""Several runs as one: what eval and predict make of them, and what is refused."""

import csv
import dataclasses

import nibabel
import numpy as np
import pytest
from made.commands import invoke
from made.runs import MODEL, made_stack, store_of_stacks

from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.ensemble import Ensemble
from kerasbalance.experiments.runs.evaluate import evaluate_runs
from kerasbalance.experiments.runs.model import load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint, OrganPoint, mean_point
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.train import Run

ORGAN = "liver"
OPTIONS = TrainOptions(
    organs=(ORGAN,), model=MODEL, batch_size=4, learning_rate=0.9, iterations=4, test_seed=3,
    flips=("none", "horizontal"), ratio=1.0, strategy="none",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store of eight small stacks, and two runs with the same test cases."""
    root = tmp_path_factory.mktemp("ensemble")
    store_of_stacks(root / "store", [made_stack(seed, slices=6) for seed in range(8)], (ORGAN,))
    for seed in (1, 2):
        options = dataclasses.replace(OPTIONS, seed=seed)
        Run.create(root / "store", root / f"run{seed}", options).train()
    return root


def opened(home):
    return [Run.open(home / name, model=MODEL) for name in ("run1", "run2")]


def expected_dice(home, threshold):
    """NumPy: the case Dice of the mean of both networks, on the slices as they are and mirrored."""
    models = [load_model(OPTIONS, (32, 32), home / name / "checkpoint") for name in ("run1", "run2")]
    run = opened(home)[0]
    found = {}
    for number, case in enumerate(run.store.cases):
        x, y = run.store.source(ORGAN).read(run.store.refs(ORGAN, [number]))
        outputs = [np.asarray(model.predict_on_batch(x)) for model in models]
        outputs += [np.flip(model.predict_on_batch(np.flip(x, 2).copy()), 2) for model in models]
        predicted, reference = np.mean(outputs, axis=0)[..., 0] > threshold, y[..., 0] > 0
        found[case.key] = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
    return found


def test_runs_with_one_test_seed_have_the_same_test_cases_and_other_weights(home):
    first, second = opened(home)
    assert [r.case for r in first.rows if r.part == "test"] == [
        r.case for r in second.rows if r.part == "test"
    ]
    models = [load_model(OPTIONS, (32, 32), run.folder.path / "checkpoint") for run in (first, second)]
    assert not np.array_equal(models[0].get_weights()[0], models[1].get_weights()[0])


def test_eval_judges_the_mean_of_the_outputs_over_runs_and_flips(home):
    point = OperatingPoint((OrganPoint(ORGAN, 0.4),))
    found = evaluate_runs(opened(home), ("none", "horizontal"), point=point)
    expected = expected_dice(home, 0.4)
    assert len(found.cases) == 2
    assert {case.case: case.dice for case in found.cases} == pytest.approx(
        {case.case: expected[case.case] for case in found.cases}, abs=2e-3
    )
    assert found.notes == ()


def test_a_flip_that_a_run_was_not_trained_with_is_warned_of(home):
    ensemble = Ensemble.open([home / "run1"], MODEL, flips=("none", "vertical"))
    (note,) = ensemble.notes()
    assert (note.code, note.loud) == ("FLIPS", True)
    assert "also segmented vertical, which not every run was trained with" in note.text


def test_an_average_has_the_mean_threshold_and_the_clean_up_on_which_all_runs_agree():
    points = [OperatingPoint((OrganPoint("a", t, "largest"), OrganPoint("b", 0.5, c)), 4)
              for t, c in ((0.3, "largest"), (0.4, "none"))]  # fmt: skip
    mean = mean_point(points)
    assert mean == OperatingPoint((OrganPoint("a", 0.35, "largest"), OrganPoint("b", 0.5, "none")))
    assert mean_point(points[:1]) is points[0]


def test_runs_that_do_not_fit_together_are_refused(home, tmp_path):
    first, second = opened(home)
    other = dataclasses.replace(second.record, options=dataclasses.replace(OPTIONS, organs=("spleen",)))
    with pytest.raises(DataError, match="ENSEMBLE: runs that differ in organs"):
        Ensemble(((first.folder, first.record), (second.folder, other)))
    second.record = dataclasses.replace(second.record, store_digest="another")
    with pytest.raises(DataError, match="ENSEMBLE: runs on different cases"):
        evaluate_runs([first, second])


def test_runs_without_a_common_test_case_are_refused(home):
    first, second = opened(home)
    second.rows = tuple(row for row in second.rows if row.part != "test")
    with pytest.raises(DataError, match="SPLIT: runs without a common test case"):
        evaluate_runs([first, second])


def test_eval_with_several_runs_prints_their_mean_and_writes_its_tables_where_it_is_told(home):
    words = ("eval", "run1", "run2", "--model", MODEL, "--flips", "none,horizontal", "--threshold", "0.4")
    done = invoke(home, *words, "--csv", "cases.csv", "--slices-csv", "slices.csv")
    assert done.exit_code == 0, done.output
    assert f"predicted: {ORGAN} above 0.4, no clean-up" in done.output
    assert "2 test cases" in done.output
    with open(home / "cases.csv", newline="") as file:
        dice = {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}
    expected = expected_dice(home, 0.4)
    assert dice == pytest.approx({case: expected[case] for case in dice}, abs=2e-3)
    assert not (home / "run1" / "eval").exists()
    done = invoke(home, "eval", "run1", "--model", MODEL, "--flips", "vertical")
    assert "WARNING  FLIPS: slices are also segmented vertical" in done.output


def test_predict_with_several_runs_segments_by_the_mean_of_their_outputs(home):
    run = opened(home)[0]
    hu = run.store.source(ORGAN).read(run.store.refs(ORGAN, [0]))[0][..., 0]
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([6.0, 6.0, 4.0, 1.0])), home / "ct.nii")
    words = (
        "predict",
        "run1",
        "run2",
        "ct.nii",
        "--out",
        "p.nii",
        "--model",
        MODEL,
        "--flips",
        "none,horizontal",
    )
    done = invoke(home, *words)
    assert done.exit_code == 0, done.output
    found = np.asarray(nibabel.load(home / "p.nii").dataobj)
    models = [load_model(OPTIONS, (32, 32), home / name / "checkpoint") for name in ("run1", "run2")]
    x = open_ct(home / "ct.nii").read().hu[..., None]
    outputs = [np.asarray(model.predict_on_batch(x)) for model in models]
    outputs += [np.flip(model.predict_on_batch(np.flip(x, 2).copy()), 2) for model in models]
    assert (found > 0).sum() == (np.mean(outputs, axis=0) > 0.5).sum() > 0
