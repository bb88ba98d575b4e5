"""`--augment`: named strengths, in run.json and as an arm of a study, refused in time where OpenCV is missing."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.augmentations import STRENGTHS, make_augmentation
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.train import Run
from kerasbalance.experiments.studies.arms import NAMED, parse_arm
from kerasbalance.experiments.studies.options import StudyOptions

SHORT = ("--organ", "liver", "--iterations", "6", "--model", runs.MODEL, "--batch-size", "4")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of six cases."""
    path = tmp_path_factory.mktemp("strengths") / "store"
    runs.store_of_stacks(path, [runs.made_stack(seed, slices=4) for seed in range(6)], ("liver",))
    return path


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_strengths_are_these_and_none_is_the_default():
    assert list(STRENGTHS) == ["none", "light", "nnunet"]
    assert TrainOptions(organs=("liver",)).augment == "none"
    assert make_augmentation("none", (-150.0, 250.0)) is None


def test_an_unknown_strength_is_refused_with_those_that_are_known():
    with pytest.raises(
        DataError, match="augment 'wild'; expected one of none, light, nnunet; correct --augment"
    ):
        TrainOptions(organs=("liver",), augment="wild")


@pytest.mark.parametrize("name", ["light", "nnunet"])
def test_a_strength_bends_values_inside_the_window_of_the_run_and_mirrors_nothing(name):
    pytest.importorskip("cv2", reason="opencv-python-headless (extra augment) is not installed")
    augmentation = make_augmentation(name, (0.0, 80.0))
    assert augmentation.window == (0.0, 80.0)
    x = np.full((16, 32, 32, 1), -1024, np.int16)
    x[:, 12:20, 12:20] = 60
    new_x, new_y = augmentation(x, (x > 0).astype(np.uint8), np.random.default_rng(0))
    assert (new_x.shape, new_x.dtype, new_y.dtype) == (x.shape, np.int16, np.uint8)
    assert not np.array_equal(new_x, x)
    assert set(np.unique(new_y)) == {0, 1}


def test_an_augmented_run_says_so_and_resumes_to_the_same_weights(store, tmp_path):
    pytest.importorskip("cv2", reason="opencv-python-headless (extra augment) is not installed")
    result = call("train", store, "--out", tmp_path / "run", *SHORT, "--augment", "light")
    assert result.exit_code == 0, result.output
    record = RunRecord.read(RunFolder(tmp_path / "run").record_file)
    assert record.options.augment == "light"
    broken = Run.create(store, tmp_path / "broken", record.options)
    runs.train_with_a_break(broken, 4)
    assert runs.final_arrays(broken) == runs.final_arrays(Run.open(tmp_path / "run", model=runs.MODEL))
    plain = Run.create(store, tmp_path / "plain", replace(record.options, augment="none"))
    plain.train()
    assert runs.final_arrays(plain) != runs.final_arrays(broken)


def test_without_opencv_an_augmented_run_is_refused_before_anything_is_written(store, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "cv2" else find(name, *more)
    )
    result = call("train", store, "--out", tmp_path / "run", *SHORT, "--augment", "nnunet")
    assert result.exit_code == 2
    assert (
        "--augment nnunet without the package opencv-python-headless; expected it to be installed"
        in result.output
    )
    assert "pip install 'kerasbalance[augment]'" in result.output
    assert not (tmp_path / "run").exists()
    words = ("--out", tmp_path / "study", "--organs", "liver", "--arms", "all,augment", "--seeds", 1)
    result = call("study", store, *words)
    assert "without the package opencv-python-headless" in result.output
    assert not (tmp_path / "study").exists()


def test_the_arm_augment_trains_on_all_cases_changed_lightly_and_shares_no_trunk_with_them():
    arm = parse_arm("augment")
    assert (arm.ratio, arm.strategy, arm.loss, arm.augment) == (1.0, "none", "dice", "light")
    assert arm.trunk != NAMED["all"].trunk
    base = TrainOptions(organs=("any",), iterations=10)
    options = StudyOptions(("liver",), ("unet",), ("all", "augment"), 1, base, {"unet": 0.1})
    told = [options.train_options(unit, one).augment for unit in options.units() for one in unit.arms]
    assert told == ["none", "light"]
