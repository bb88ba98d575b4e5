"""Runs with validation cases: the epoch that is kept, and what is chosen on those cases."""

import json

import keras
import numpy as np
import pytest
from made.runs import MODEL, ORGAN, made_stack, store_of_stacks
from made.training import same

from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.history import read_history
from kerasbalance.experiments.runs.model import load_model
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
    for name in ("run.json", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (root / "run" / name).read_bytes()


def test_a_run_that_keeps_the_last_epoch_says_so(home, tmp_path):
    root, _, _ = home
    options = TrainOptions(**{**OPTIONS.__dict__, "keep": "last", "patience": None, "iterations": 3})
    kept = Run.create(root / "store", tmp_path / "run", options).train().kept
    assert (kept.epoch, kept.epochs, kept.why, kept.stopped_early) == (2, 3, "the last one", False)
