"""Units of a study on engines that are not ours: arrays with kills and requeues, executors, failures."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import keras
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.studies.gpus import gpu_of
from kerasbalance.experiments.studies.options import StudyRecord
from kerasbalance.experiments.studies.study import train_study
from kerasbalance.experiments.studies.unit_process import train_unit

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax",
    reason="these processes are the same on every backend, and JAX starts fastest",
)
MODEL = "made.runs:tiny_model"
WORDS = ["--organs", "liver", "--models", MODEL, "--seeds", "2", "--iterations", "12", "--batch-size", "4",
         "--learning-rate", "0.5", "--arms", "mined,random"]  # fmt: skip


def call(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed, 6) for seed in range(6)], organs=("liver",))
    return folder / "store"


def planned(store, out, *words):
    """Plan a study and return its folder."""
    code, output = call("study", store, "--out", out, *WORDS, *words, "--plan")
    assert code == 0, output
    return out


def block(out, own, seed):
    """Let every run of a seed fail: a file lies where its folder should be."""
    place = out / next(Path(name).parent.parent for name in final_digests(own))
    place.mkdir(parents=True)
    (place / f"seed-{seed}").write_text("in the way")


def final_digests(out):
    """SHA-256 of the newest checkpoint of each finished run, by its place in the study."""
    found = {}
    for folder in sorted(out.glob("runs/*/*/*/checkpoint")):
        if (folder.parent / "eval" / "summary.json").exists():
            newest = max(path for path in folder.iterdir() if path.is_dir())
            manifest = json.loads((newest / "manifest.json").read_text())
            found[str(folder.parent.relative_to(out))] = manifest["sha256"]
    return found


@pytest.fixture(scope="module")
def own(store):
    """The study trained without a break, in processes of its own: their number of cores decides how sums round."""
    out = planned(store, store.parent / "own", "--jobs", "2")
    finish(out)
    assert len(final_digests(out)) == 4
    return out


def started(out, number):
    """Start a unit as a scheduler does, and let it write a checkpoint."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "kerasbalance.cli",
        "study-unit",
        str(out),
        str(number),
        "--model",
        MODEL,
    ]
    before = set(out.glob("runs/*/*/*/checkpoint/0*"))
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    while child.poll() is None and not set(out.glob("runs/*/*/*/checkpoint/0*")) - before:
        time.sleep(0.01)
    return child


def finish(out):
    """Let every unit run to its end as a scheduler does."""
    for number in range(2):
        child = started(out, number)
        _, error = child.communicate()
        assert child.returncode == 0, error


def test_an_array_with_kills_requeues_and_doubles_ends_with_the_same_bits(store, own):
    out = planned(store, store.parent / "array", "--jobs", "2")
    first = started(out, 0)
    first.send_signal(signal.SIGSTOP)
    code, output = call("study-unit", out, 0, "--model", MODEL)
    assert code == 1
    assert "LOCKED" in output
    first.kill()
    first.communicate()
    second = started(out, 0)
    second.send_signal(signal.SIGTERM)
    error = second.communicate()[1]
    assert second.returncode == 143, error
    assert "run the same command again to go on" in error
    finish(out)
    assert final_digests(out) == final_digests(own)
    code, output = call("study-unit", out, 0, "--model", MODEL)
    assert code == 0, output


def test_results_are_read_while_units_run(store):
    out = planned(store, store.parent / "early", "--jobs", "2")
    code, output = call("report", out)
    assert code == 0, output
    assert "0 of 4 runs are finished" in output
    code, output = call("study-unit", out, 1, "--model", MODEL)
    assert code == 0, output
    code, output = call("report", out)
    assert code == 0
    assert "2 of 4 runs are finished" in output
    code, output = call("report", out, "--store", store)
    assert code == 2
    assert "leave out --store" in output


def check_executor(executor, store, out, own):
    planned(store, out, "--jobs", "2", "--seeds", "3")
    record = StudyRecord.read(out)
    block(out, own, seed=2)
    steps = []
    (failure,) = train_study(out, record, 1, lambda step, run: steps.append(step), executor)
    assert failure.code == "UNWRITABLE"
    assert "seed 2" in str(failure)
    assert sum(steps) == 2 * (12 + 6)
    assert final_digests(out) == final_digests(own)


def test_a_process_pool_ends_with_the_same_bits_and_a_failed_unit_stops_no_other(store, own):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        check_executor(executor, store, store.parent / "pool", own)


def test_dask_ends_with_the_same_bits(store, own):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        check_executor(client.get_executor(pure=False), store, store.parent / "dask", own)


def test_ray_ends_with_the_same_bits(store, own):
    ray = pytest.importorskip("ray")
    out = planned(store, store.parent / "ray", "--jobs", "2")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    task = ray.remote(max_calls=1)(train_unit)
    ray.get([task.remote(str(out), number, model=MODEL) for number in range(2)])
    ray.shutdown()
    assert final_digests(out) == final_digests(own)


def test_a_failed_unit_of_our_own_processes_is_told_and_stops_no_other(store, own):
    out = planned(store, store.parent / "failed", "--jobs", "2")
    block(out, own, seed=0)
    code, output = call("study", store, "--out", out, *WORDS, "--jobs", "2", "--no-estimate")
    assert code == 3
    assert "failed: UNWRITABLE" in output
    assert "seed 0: a run's folder on which the operating system gave up" in output
    expected = {name: digest for name, digest in final_digests(own).items() if "seed-1" in name}
    assert len(expected) == 2
    assert final_digests(out) == expected


def test_what_cannot_be_a_unit_is_refused(store):
    out = planned(store, store.parent / "refused")
    with pytest.raises(DataError, match=r"unit 2; expected a number from 0 to 1"):
        train_unit(out, 2)
    with pytest.raises(DataError, match="OWN_MODEL"):
        train_unit(out, 0)
    code, output = call("study", store, "--out", out, *WORDS, "--plan", "--dry-run")
    assert code == 2
    assert "--dry-run contradicts --plan" in output
    code, output = call("study", store, "--out", out, *WORDS, "--plan", "--json")
    assert json.loads(output) == {"units": 2, "left": [0, 1]}


def test_a_unit_needs_the_backend_of_its_study(store, monkeypatch):
    out = planned(store, store.parent / "backend")
    plain = json.loads((out / "study.json").read_text())
    other = "torch" if plain["backend"] != "torch" else "jax"
    (out / "study.json").write_text(json.dumps({**plain, "backend": other}))
    monkeypatch.setenv("KERAS_BACKEND", plain["backend"])
    with pytest.raises(
        DataError, match=f"BACKEND: a process that has imported Keras .*set KERAS_BACKEND to {other}"
    ):
        train_unit(out, 0, model=MODEL)
    (out / "study.json").write_text(json.dumps({**plain, "backend": "abacus"}))
    with pytest.raises(DataError, match="the backend abacus, which is not installed here"):
        train_unit(out, 0, model=MODEL)


def test_a_unit_whose_store_was_moved_is_refused_with_what_to_do(store):
    out = planned(store, store.parent / "moved")
    plain = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps({**plain, "store": str(store.parent / "gone")}))
    message = "NO_STORE: a study whose store is not where it was planned; .*; run the command study again with its pres"
    with pytest.raises(DataError, match=message):
        train_unit(out, 0, model=MODEL)


@pytest.mark.parametrize(
    ("slot", "environment", "installed", "expected"),
    [
        (0, {}, 0, None),
        (0, {}, 2, "0"),
        (3, {}, 2, "1"),
        (1, {"CUDA_VISIBLE_DEVICES": "3, 5"}, 8, "5"),
        (1, {"CUDA_VISIBLE_DEVICES": "GPU-8a1f"}, 8, "GPU-8a1f"),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, 8, None),
        (0, {"CUDA_VISIBLE_DEVICES": "-1"}, 8, None),
    ],
)
def test_each_process_gets_its_gpu_among_those_that_may_be_seen(slot, environment, installed, expected):
    assert gpu_of(slot, environment, installed) == expected
