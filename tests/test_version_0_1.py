"""A store and runs that version 0.1 wrote are read, evaluated and resumed.

`made/version_0_1.tar.xz` holds what the unchanged code of version 0.1.0 wrote: a store of eight phantoms, a run
that ended and was evaluated on TensorFlow, and per backend a run that SIGTERM stopped after 27 of 40 iterations,
beside the weights with which the same run ended when it was not stopped.
"""

import shutil
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
from made.commands import invoke
from made.runs import MODEL

import kerasbalance
from kerasbalance.data.store import SliceStore, Store, verify_store
from kerasbalance.experiments.runs.folder import RunFolder

ARCHIVE = Path(__file__).parent / "made" / "version_0_1.tar.xz"
ORGANS = ("liver", "spleen", "kidney")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "version-0.1"


def test_its_store_is_whole_and_read_voxel_by_voxel(old):
    assert verify_store(Store(old / "store")).faults == {}
    store = SliceStore(old / "store")
    assert [case.slices for case in store.cases] == [35, 42, 43, 46, 31, 36, 36, 58]
    x, y = store.source(ORGANS).read(store.refs(ORGANS))
    assert (x.shape, x.dtype) == ((327, 16, 16, 1), np.int16)
    assert x.sum(dtype=np.int64) == -41_038_570
    assert np.bincount(y.ravel()).tolist() == [79_764, 2_959, 429, 560]


def test_its_run_is_evaluated(old):
    printed = invoke(old, "eval", "run", "--store", "store", "--json")
    assert printed.exit_code == 0, printed.output
    table = np.genfromtxt(old / "run" / "eval" / "cases.csv", delimiter=",", names=True, dtype=None)
    assert table["case"].tolist() == ["2eb4f27e9b04df2b6337dfe0e542ed8a", "98b809b7aeacf1918f84ab0d34e5218b"]
    # Backends round differently: a voxel at the threshold may fall on either side.
    np.testing.assert_allclose(table["dice"], [0.08175914994096813, 0.0683850604944766], atol=5e-4)


def test_the_evaluation_of_an_interrupted_run_says_so(old):
    printed = invoke(old, "eval", keras.config.backend(), "--store", "store", "--json")
    assert printed.exit_code == 0, printed.output
    assert printed.stderr.splitlines()[0] == (
        "WARNING  the training of this run has not ended: these are the weights of iteration 27 of 40; train --resume "
        "goes on"
    )


def test_the_evaluation_of_a_diverged_run_says_so(old, monkeypatch):
    def diverge(*words, **options):
        raise kerasbalance.NonFiniteError("the loss is NaN at iteration 30")

    monkeypatch.setattr(kerasbalance, "fit", diverge)
    words = ["--organ", "liver", "--model", MODEL, "--iterations", "40"]
    printed = invoke(old, "train", "store", "--out", "diverged", *words)
    assert (printed.exit_code, "DIVERGED: the loss is NaN" in printed.stderr) == (1, True), printed.output
    shutil.copytree(
        old / keras.config.backend() / "checkpoint", old / "diverged" / "checkpoint", dirs_exist_ok=True
    )
    assert RunFolder(old / "diverged").shortcoming(40) == (
        "the training of this run diverged: these are the weights of iteration 27 of 40, before it did"
    )


def test_a_run_whose_store_was_moved_is_told_and_takes_its_new_place(old, tmp_path):
    run = shutil.copytree(old / "run", tmp_path / "run")
    for words in (["eval", "run"], ["mine", "run"], ["report", "run"], ["train", "--resume", "--out", "run"]):
        printed = invoke(tmp_path, *words)
        assert printed.exit_code == 1
        assert (
            "NO_STORE: a run whose store is no longer where it was; expected the store that the run was made"
            in (printed.stderr)
        )
        assert "name its present place: --store, or STORE of train" in printed.stderr
    assert "has not ended" not in RunFolder(run).shortcoming(1)


def test_its_interrupted_run_goes_on_to_the_weights_of_the_unbroken_one(old):
    backend = keras.config.backend()
    printed = invoke(old, "train", "store", "--out", backend, "--resume")
    assert printed.exit_code == 0, printed.output
    model = keras.models.load_model(old / backend / "model.keras", compile=False)
    weights = np.concatenate([np.ravel(variable.numpy()) for variable in model.variables])
    # With one thread on the processor that made them they are equal bit by bit; others add in another order.
    np.testing.assert_allclose(weights, np.load(old / backend / "expected.npy"), rtol=1e-3, atol=1e-4)
