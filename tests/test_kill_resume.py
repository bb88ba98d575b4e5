"""Killed with SIGKILL at any moment and resumed, a run ends with the same bits as one that was not."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TARGET = Path(__file__).parent / "made" / "killed_training.py"


def end_state(folder, lives):
    """Run lives in a folder; return the end state by name, and how many of them were killed."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(TARGET), str(folder), json.dumps(lives)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    killed = json.loads(done.stdout.splitlines()[-1])["killed"]
    with np.load(folder / "end.npz") as arrays:
        return {name: (arrays[name].dtype.str, arrays[name].tobytes()) for name in arrays.files}, killed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return end_state(tmp_path_factory.mktemp("unbroken"), [])[0]


def test_killed_before_during_and_after_steps_minings_and_saves_a_run_ends_with_the_same_bits(
    unbroken, tmp_path
):
    lives = ["save 1", "save 3", "step 3", "mining 1", "mined 1", "save 8", "epoch 1", "step 7", "write 9"]
    state, killed = end_state(tmp_path, [*lives, "mining 1", "mined 1", "step 9"])
    assert killed >= 8
    assert state == unbroken


def random_lives(seed, count):
    rng = random.Random(seed)
    moments = [
        lambda: f"step {rng.randint(1, 20)}",
        lambda: f"epoch {rng.randint(1, 3)}",
        lambda: "mining 1",
        lambda: "mined 1",
        lambda: f"save {rng.randint(1, 25)}",
        lambda: f"write {rng.randint(1, 40)}",
        lambda: rng.uniform(0.05, 4.0),
    ]
    return [rng.choice(moments)() for _ in range(count)]


@pytest.mark.large
@pytest.mark.parametrize("seed", range(20))
def test_chains_of_random_kills_end_with_the_same_bits(unbroken, tmp_path, seed):
    assert end_state(tmp_path, random_lives(seed, 10))[0] == unbroken
