"""Two processes that train one model over the loopback: JAX alone can do so."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasbalance as kb
from kerasbalance.backend.processes import agreed, own_rows, process_share, together
from kerasbalance.training.follower import FollowedFolder

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="Keras trains in several processes on JAX alone"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("joined")


@pytest.fixture(scope="module")
def joined(folder):
    """What each of two processes ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "made" / "joined_training.py"
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1", "XLA_FLAGS": "",
                   "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                   "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment, "KERAS_DISTRIBUTION_PROCESS_ID": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [child.communicate() for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture(scope="module")
def alone(folder):
    """What one process ends with."""
    from made.joined_training import trained

    return trained(folder / "alone")


def test_both_processes_end_with_the_same_bits(joined):
    first, second = ({**found["whole"], "rows": 0} for found in joined)
    assert first == second


def test_two_processes_train_what_one_trains(joined, alone):
    whole = joined[0]["whole"]
    assert np.allclose(whole["loss"], alone["loss"], rtol=0, atol=1e-6)
    for mine, theirs in zip(whole["weights"], alone["weights"], strict=True):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-6)
    assert whole["index"] == alone["index"]
    assert whole["scores"] == alone["scores"]


def test_each_process_reads_its_half_of_every_batch(joined, alone):
    assert joined[0]["whole"]["rows"] < 0.6 * alone["rows"]


def test_a_signal_to_one_stops_both_at_the_end_of_the_epoch(joined):
    assert [found["stopped"] for found in joined] == [[8, 143], [8, 143]]


def test_one_process_goes_on_where_two_were_stopped(joined, alone, folder):
    from made.joined_training import trained

    resumed = trained(folder / "stopped", resume=True)
    assert np.allclose(resumed["loss"], alone["loss"], rtol=0, atol=1e-6)
    for mine, theirs in zip(resumed["weights"], alone["weights"], strict=True):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-6)


def test_processes_that_would_all_train_on_every_slice_are_refused(joined):
    for found in joined:
        assert (
            "received 2 processes that do not share their batches; expected a distribution"
            in found["refused"]
        )


def test_one_process_is_its_own_agreement(tmp_path):
    assert process_share() == (0, 1)
    assert own_rows(6) == slice(0, 6)
    assert agreed([3, 0]) == [3, 0]
    with pytest.raises(KeyError):
        together(lambda: {}["nothing"])


def test_a_failure_elsewhere_stops_this_process_too(monkeypatch):
    monkeypatch.setattr("kerasbalance.backend.processes.agreed", lambda numbers: [1])
    with pytest.raises(RuntimeError, match="another process failed; expected all to go on together"):
        together(lambda: None)


def test_a_process_that_does_not_write_reads_what_the_first_one_wrote(folder, joined, tmp_path):
    followed = FollowedFolder(folder / "whole" / "checkpoint")
    before = followed.entries()
    followed.save({}, {"iteration": 99})
    followed.close()
    assert followed.entries() == before
    assert followed.load().info["iteration"] == 12
    with pytest.raises(kb.CheckpointError, match="no valid checkpoint"):
        FollowedFolder(tmp_path).load()
