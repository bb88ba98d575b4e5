"""A store and runs that version 0.1 wrote are read, evaluated and resumed.

`made/version_0_1.tar.xz` holds what the unchanged code of version 0.1.0 wrote: a store of eight phantoms, a run
that ended and was evaluated on TensorFlow, and per backend a run that SIGTERM stopped after 27 of 40 iterations,
beside the weights with which the same run ended when it was not stopped.
"""

import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
from made.commands import invoke

from kerasbalance.data.store import SliceStore, Store, verify_store

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


def test_its_interrupted_run_goes_on_to_the_weights_of_the_unbroken_one(old):
    backend = keras.config.backend()
    printed = invoke(old, "train", "store", "--out", backend, "--resume")
    assert printed.exit_code == 0, printed.output
    model = keras.models.load_model(old / backend / "model.keras", compile=False)
    weights = np.concatenate([np.ravel(variable.numpy()) for variable in model.variables])
    # With one thread on the processor that made them they are equal bit by bit; others add in another order.
    np.testing.assert_allclose(weights, np.load(old / backend / "expected.npy"), rtol=1e-3, atol=1e-4)
