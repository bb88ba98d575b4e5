"""Several devices in one process, which are virtual ones of this CPU; one subprocess makes all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from made import runs
from made.training import segmenter

import kerasbalance as kb
from kerasbalance.backend.devices import describe, device_names, several_devices
from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.train import Run

BACKEND = keras.config.backend()
RESUMED = "2>4>1" if BACKEND == "jax" else "2>1>2"
COUNTS = ["1", "2", "8", RESUMED] if BACKEND == "jax" else ["1", "2", RESUMED]


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """What trainings on several numbers of devices ended with, by number."""
    if BACKEND == "torch":
        pytest.skip("Keras 3.15 trains on one device with torch")
    script = Path(__file__).parent / "made" / "spread_training.py"
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    words = [sys.executable, str(script), str(tmp_path_factory.mktemp("spread")), ",".join(COUNTS)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("count", COUNTS[1:])
def test_a_training_on_several_devices_is_that_on_one(spread, count):
    one, several = spread["1"], spread[count]
    assert several["replicas"] == int(count.split(">")[-1])
    assert np.allclose(several["loss"], one["loss"], rtol=0, atol=1e-5)
    assert np.allclose(several["metric"], one["metric"], rtol=0, atol=1e-5)
    assert several["index"] == one["index"]
    for mine, theirs in zip(several["weights"], one["weights"], strict=True):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_the_scores_are_those_of_one_device(spread, count):
    assert spread[count]["scores"] == spread["1"]["scores"]


def test_a_run_that_is_stopped_twice_goes_on_with_other_numbers(spread):
    assert spread[RESUMED]["stops"] == [4, 5]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="its replicas see their share of the batch only")
def test_dice_with_focal_loss_is_that_of_one_device(spread):
    one, two = spread["focal"]
    assert np.allclose(two["loss"], one["loss"], rtol=0, atol=1e-5)
    assert all(
        np.allclose(a, b, rtol=0, atol=1e-4) for a, b in zip(two["weights"], one["weights"], strict=True)
    )


@pytest.mark.skipif(BACKEND != "jax", reason="XLA counts the operations")
def test_two_devices_score_half_a_batch_each(spread):
    alone, together = spread["flops"]
    assert together / alone == pytest.approx(0.5, rel=0.01)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"received devices=99; expected a number from 1 to .*more devices"):
        several_devices(99).__enter__()
    with several_devices("all") as names:
        assert list(names) == device_names()
    assert describe(["cpu:0", "cpu:1"]) == "2 devices (cpu:0, cpu:1)"


@pytest.mark.skipif(len(device_names()) > 1, reason="needs a machine with one device")
def test_the_command_line_names_the_device_and_refuses_more_and_fractions(tmp_path):
    runs.store_of_stacks(
        tmp_path / "store", [runs.made_stack(seed, 6) for seed in range(6)], organs=("liver",)
    )
    words = ["train", str(tmp_path / "store"), "--out", str(tmp_path / "run"), "--organ", "liver", "--model",
             "made.runs:tiny_model", "--iterations", "4", "--batch-size", "4"]  # fmt: skip
    for devices, message in [
        ("2", "received devices=2"),
        ("0", "expected a number of devices"),
        ("x", "or all"),
    ]:
        refused = CliRunner().invoke(main, [*words, "--devices", devices])
        assert refused.exit_code == 2, refused.output
        assert message in refused.output
    assert not (tmp_path / "run").exists()
    trained = CliRunner().invoke(main, [*words, "--devices", "all"])
    assert trained.exit_code == 0, trained.output
    assert f"backend {BACKEND} on 1 device ({device_names()[0]}" in trained.output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"] == 1


def test_torch_refuses_several_devices_with_the_reason(monkeypatch):
    monkeypatch.setattr("kerasbalance.backend.devices.device_names", lambda: ["cuda:0", "cuda:1"])
    monkeypatch.setattr("keras.config.backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"Keras 3.15 has no training on several devices with torch"):
        several_devices("all").__enter__()


def test_a_run_whose_batch_the_devices_do_not_divide_is_refused_before_anything_is_written(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("kerasbalance.experiments.runs.train.replicas", lambda: 4)
    options = TrainOptions(organs=("liver",), batch_size=6)
    with pytest.raises(
        DataError, match="batches of 6 on 4 devices; expected a multiple of 4; pass --batch-size 8"
    ):
        Run.create(tmp_path / "store", tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_devices_do_not_divide_is_refused_early(monkeypatch):
    monkeypatch.setattr("kerasbalance.training.preconditions.replicas", lambda model: 4)
    source = kb.ArraySource(np.zeros((6, 8, 8, 1), "float32"), np.zeros((6, 8, 8), np.uint8))
    dataset = kb.IndexedDataset(source, kb.Index(range(6)), batch_size=6, steps_per_epoch=2)
    with pytest.raises(
        ValueError, match=r"batch_size=6 on 4 devices; .*pass batch_size=8, or use fewer devices"
    ):
        kb.fit(segmenter(), dataset, 2, verbose=0)
