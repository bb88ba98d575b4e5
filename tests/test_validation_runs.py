"""Runs with validation cases: the epoch that is kept, and what is chosen on those cases."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from made.commands import invoke
from made.runs import MODEL, ORGAN, made_stack, store_of_stacks
from made.training import same
from scipy import ndimage

from kerasbalance.evaluation.clean_up import clean_labels, clean_up
from kerasbalance.experiments.report.contents import read_contents
from kerasbalance.experiments.report.prose import summary
from kerasbalance.experiments.runs.evaluation_files import read_cases
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.history import read_history
from kerasbalance.experiments.runs.keeping import Kept, kept_epoch
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint, OrganPoint, read_operating_point
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.train import Run


class Failure(Exception):
    """Stands for a crash."""


class Watch(keras.callbacks.Callback):
    """Copies the weights at the end of each epoch, and may crash at the end of one."""

    def __init__(self, crash_at=-1):
        super().__init__()
        self.weights, self.crash_at = {}, [crash_at]

    def on_epoch_end(self, epoch, logs=None):
        if epoch in self.crash_at:
            raise Failure
        self.weights[epoch] = self.model.get_weights()


OPTIONS = TrainOptions(
    organs=(ORGAN,), model=MODEL, batch_size=4, learning_rate=0.9, iterations=24, validation_share=0.25,
    keep="best", patience=6, mine_at=0.25, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store of twelve small stacks, and a run that kept its best epoch."""
    root = tmp_path_factory.mktemp("validated")
    store_of_stacks(root / "store", [made_stack(seed, slices=8) for seed in range(12)])
    watch = Watch()
    result = Run.create(root / "store", root / "run", OPTIONS).train([watch])
    return root, result, watch.weights


def weights_of(folder):
    return load_model(OPTIONS, (32, 32), folder / "checkpoint").get_weights()


def test_the_run_holds_the_weights_of_the_best_epoch_since_the_mining(home):
    root, result, weights = home
    history = read_history(root / "run" / "history.csv")
    best = 6 + int(np.argmax(history["val_dice"][6:]))
    assert result.kept.epoch == best
    assert result.kept.val_dice == history["val_dice"][best]
    assert same(weights_of(root / "run"), weights[best])
    model = keras.models.load_model(root / "run" / "model.keras", compile=False)
    assert same(model.get_weights(), weights[best])


def test_patience_counts_epochs_since_the_best_one(home):
    _, result, weights = home
    assert len(weights) == min(24, result.kept.epoch + 1 + 6)
    assert result.kept.stopped_early == (len(weights) < 24)


def test_run_json_and_the_words_of_train_name_the_epoch_and_the_reason(home):
    root, result, weights = home
    plain = json.loads((root / "run" / "run.json").read_text())["kept"]
    assert plain["epoch"] == result.kept.epoch
    assert RunRecord.read(RunFolder(root / "run").record_file).kept == result.kept
    expected = f"weights of epoch {result.kept.epoch + 1} of {len(weights)}"
    assert result.kept.text().startswith(expected)
    assert ": the best since the mining; mean Dice of the validation cases 0." in result.kept.text()


def test_a_run_that_crashed_keeps_the_same_epoch_and_the_same_bits(home, tmp_path):
    root, result, _ = home
    with pytest.raises(Failure):
        Run.create(root / "store", tmp_path / "run", OPTIONS).train([Watch(crash_at=9)])
    resumed = Run.open(tmp_path / "run", model=MODEL).train()
    assert resumed.kept == result.kept
    assert same(weights_of(tmp_path / "run"), weights_of(root / "run"))
    for name in ("run.json", "history.csv", "operating_point.json"):
        assert (tmp_path / "run" / name).read_bytes() == (root / "run" / name).read_bytes()


def test_a_run_that_keeps_the_last_epoch_says_so_and_one_without_validation_cases_says_nothing():
    options = dataclasses.replace(OPTIONS, keep="last", patience=None)
    history = {"loss": [0.3, 0.2, 0.1], "val_dice": [0.5, 0.9, 0.8]}
    kept = kept_epoch(options, [0, 1, 2], history)
    assert kept == Kept(2, 3, 0.8, "the last one", stopped_early=True)
    assert kept_epoch(options, [0, 1, 2], {"loss": [0.3, 0.2, 0.1]}) is None


def case_masks(root, part):
    """NumPy: probabilities and reference of each case of a part, by the model of the run."""
    run = Run.open(root / "run", model=MODEL)
    model = load_model(OPTIONS, (32, 32), root / "run" / "checkpoint")
    for row in run.rows:
        if row.part == part:
            number = [case.key for case in run.store.cases].index(row.case)
            x, y = run.store.source(ORGAN).read(run.store.refs(ORGAN, [number]))
            yield row.case, np.asarray(model.predict_on_batch(x))[..., 0], y[..., 0] > 0


def dice(predicted, reference):
    return 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())


def largest(mask):
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return parts == 1 + np.argmax([(parts == n).sum() for n in range(1, parts.max() + 1)])


def test_the_operating_point_is_the_best_of_its_tables_on_the_validation_cases_alone(home):
    root, result, _ = home
    plain = json.loads((root / "run" / "operating_point.json").read_text())
    cases = list(case_masks(root, "validation"))
    assert plain["validation_cases"] == len(cases) == 3
    tried = {trial["threshold"]: trial["dice"] for trial in plain["thresholds_tried"]}
    expected = {t: np.mean([dice(p > np.float32(t), y) for _, p, y in cases]) for t in tried}
    assert tried == pytest.approx(expected, abs=1e-12)
    (organ,) = plain["organs"]
    assert expected[organ["threshold"]] == max(expected.values())
    masks = [(p > np.float32(organ["threshold"]), y) for _, p, y in cases]
    cleaned = [(largest(p), y) for p, y in masks]
    filled = [(ndimage.binary_fill_holes(p), y) for p, y in cleaned]
    means = [np.mean([dice(*pair) for pair in pairs]) for pairs in (masks, cleaned, filled)]
    assert [trial["dice"] for trial in plain["clean_ups_tried"]] == pytest.approx(means, abs=1e-12)
    assert organ["clean_up"] == ["none", "largest", "largest+holes"][int(np.argmax(means))]
    assert result.point == read_operating_point(root / "run" / "operating_point.json", [ORGAN])


def test_eval_obeys_the_operating_point_and_says_so(home, tmp_path):
    root, _, _ = home
    shutil.copytree(root / "run", tmp_path / "run")
    point = OperatingPoint((OrganPoint(ORGAN, 0.25, "largest"),), 3)
    point.write(tmp_path / "run" / "operating_point.json")
    done = invoke(tmp_path, "eval", "run", "--model", MODEL)
    assert f"predicted: {point.text()}" in done.output, done.output
    found = {case.case: case.dice for case in read_cases(tmp_path / "run" / "eval")}
    expected = {key: dice(largest(p > 0.25), y) for key, p, y in case_masks(root, "test")}
    assert found == pytest.approx(expected, abs=1e-12)
    plain = json.loads((tmp_path / "run" / "eval" / "summary.json").read_text())
    assert plain["operating_point"]["organs"][0]["threshold"] == 0.25
    done = invoke(tmp_path, "eval", "run", "--model", MODEL, "--threshold", "0.75", "--no-clean-up", "--json")
    assert json.loads(done.stdout)["operating_point"]["organs"][0]["clean_up"] == "none"
    found = {case.case: case.dice for case in read_cases(tmp_path / "run" / "eval")}
    expected = {key: dice(p > 0.75, y) for key, p, y in case_masks(root, "test")}
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_threshold_for_two_masks_is_refused(tmp_path):
    words = ("eval", "--prediction", "p.nii", "--reference", "r.nii", "--threshold", "0.3")
    done = invoke(tmp_path, *words)
    assert done.exit_code == 2
    assert "two masks need no model and no store: leave out --threshold" in " ".join(done.output.split())


def test_a_segmenter_decides_each_organ_at_its_own_threshold_in_the_graph_as_on_the_host():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1), dtype="int16")
    outputs = keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(
        keras.layers.Rescaling(0.01)(inputs)
    )
    point = OperatingPoint((OrganPoint("a", 0.3), OrganPoint("b", 0.8)))
    segmenter = Segmenter(keras.Model(inputs, outputs), 4, point)
    x = np.random.default_rng(0).normal(0, 90, (4, 8, 8, 1)).astype(np.int16)
    p = segmenter.probabilities(x).astype(np.float64)
    organ = np.where(p[..., 2] > p[..., 1], 2, 1)
    share = np.where(organ == 2, p[..., 2] / (p[..., 2] + p[..., 0]), p[..., 1] / (p[..., 1] + p[..., 0]))
    expected = np.where(share > np.array([0.0, 0.3, 0.8])[organ], organ, 0)
    assert {0, 1, 2} == set(expected.ravel())
    assert np.array_equal(segmenter.labels(x), expected)
    assert np.array_equal(segmenter.labels_of(segmenter.probabilities(x)), expected)


def test_a_filled_hole_takes_no_voxel_of_another_organ():
    labels = np.zeros((5, 8, 8), np.uint8)
    labels[1:4, 2:6, 2:6] = 1
    labels[2, 3, 3], labels[2, 3, 4], labels[0, 0, 0] = 0, 2, 1
    cleaned = clean_labels(labels, ("largest+holes", "none"))
    assert (cleaned[2, 3, 3], cleaned[2, 3, 4], cleaned[0, 0, 0]) == (1, 2, 0)
    with pytest.raises(ValueError, match="received the clean-up 'all'; expected one of none, largest"):
        clean_up(labels == 1, "all")


def test_the_report_says_which_epoch_the_run_holds_and_what_counts_as_predicted(home):
    root, result, _ = home
    words = summary(read_contents(RunFolder(root / "run")))
    assert f"It holds the {result.kept.text()}." in words
    assert f"What counts as predicted: {result.point.text()}." in words


def test_several_organs_get_a_threshold_each_from_one_pass(tmp_path):
    stacks = []
    for seed in range(8):
        hu, mask = made_stack(seed, slices=6)
        labels = mask.astype(np.uint8)
        labels[:, :, :15] *= 2  # the left half is another organ
        stacks.append((hu, labels))
    store_of_stacks(tmp_path / "store", stacks, ("right", "left"))
    options = TrainOptions(
        organs=("right", "left"),
        model=MODEL,
        batch_size=4,
        learning_rate=0.9,
        iterations=6,
        validation_share=0.25,
    )
    result = Run.create(tmp_path / "store", tmp_path / "run", options).train()
    run = Run.open(tmp_path / "run", model=MODEL)
    refs, cases = run.case_slices("validation")
    x, y = run.store.source(options.organs).read(refs)
    p = np.asarray(
        load_model(options, (32, 32), tmp_path / "run" / "checkpoint").predict_on_batch(x), np.float64
    )
    winner = p[..., 1:].argmax(-1) + 1
    for value, organ in enumerate(options.organs, 1):
        share = p[..., value] / (p[..., value] + p[..., 0])
        for trial in (one for one in result.point.thresholds_tried if one.organ == organ):
            predicted = (winner == value) & (share > trial.threshold)
            pairs = [
                (predicted[cases == case], y[cases == case, ..., 0] == value) for case in np.unique(cases)
            ]
            assert trial.dice == pytest.approx(np.mean([dice(*pair) for pair in pairs]), abs=1e-3)
    tried = result.point.thresholds_tried
    best = [max(trial.dice for trial in tried if trial.organ == organ) for organ in options.organs]
    assert result.kept.val_dice == pytest.approx(np.mean(best), abs=1e-12)
