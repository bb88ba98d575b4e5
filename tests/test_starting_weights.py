"""A run that starts from weights of elsewhere, or that repeats another one's options; nothing foreign is executed."""

import dataclasses
import hashlib
import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.shaping import Shaping
from kerasbalance.experiments.runs import model as networks
from kerasbalance.experiments.runs.folder import RunRecord
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.starting_weights import StartingWeights, build_started
from kerasbalance.experiments.runs.train import Run

OPTIONS = TrainOptions(organs=(runs.ORGAN,), base_filters=1, iterations=4, batch_size=4, strategy="none")
PLANE = (32, 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(8)])
    return folder / "store"


@pytest.fixture(scope="module")
def donor(store):
    Run.create(store, store.parent / "donor", OPTIONS).train()
    return store.parent / "donor"


def values(model):
    return {v.path: np.asarray(v.numpy()) for v in model.variables}


def train(*words):
    return CliRunner().invoke(main, ["train", *map(str, words)])


def test_a_run_starts_from_another_where_name_and_shape_fit(donor):
    two = dataclasses.replace(OPTIONS, organs=("liver", "spleen"), seed=5)
    model, started = build_started(two, PLANE, StartingWeights(donor))
    taken = values(networks.load_model(OPTIONS, PLANE, donor / "checkpoint"))
    assert started.left == ("score/kernel", "score/bias")
    assert started.taken == len(taken) - 2
    now = values(model)
    assert all(np.array_equal(now[name], taken[name]) for name in taken if name not in started.left)
    assert now["score/kernel"].shape[-1] == 3


@pytest.mark.parametrize("name", ["model.keras", "own.weights.h5"])
def test_a_run_starts_from_a_file(donor, tmp_path, name):
    path = donor / name
    if name != "model.keras":
        path = tmp_path / name
        networks.load_model(OPTIONS, PLANE, donor / "checkpoint").save_weights(path)
    model, started = build_started(dataclasses.replace(OPTIONS, seed=5), PLANE, StartingWeights(path))
    assert started == type(started)(hashlib.sha256(path.read_bytes()).hexdigest(), len(values(model)), ())
    expected = values(networks.load_model(OPTIONS, PLANE, donor / "checkpoint"))
    assert all(np.array_equal(array, expected[name]) for name, array in values(model).items())


def test_what_a_file_lacks_keeps_its_random_start(donor):
    two = dataclasses.replace(OPTIONS, organs=("liver", "spleen"), seed=5)
    model, started = build_started(two, PLANE, StartingWeights(donor / "model.keras"))
    assert started.left == ("score/kernel", "score/bias")
    assert np.array_equal(
        values(model)["score/kernel"], values(networks.build_model(two, PLANE))["score/kernel"]
    )


def test_a_strangers_keras_file_is_never_deserialised(donor, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('ran the planted code')")
    monkeypatch.syspath_prepend(tmp_path)
    with zipfile.ZipFile(donor / "model.keras") as old, zipfile.ZipFile(tmp_path / "x.keras", "w") as new:
        for name in old.namelist():
            plain = {"module": "planted", "class_name": "f", "config": {}, "registered_name": None}
            new.writestr(name, json.dumps(plain) if name == "config.json" else old.read(name))
    _, started = build_started(OPTIONS, PLANE, StartingWeights(tmp_path / "x.keras"))
    assert started.left == ()
    assert "planted" not in sys.modules


@pytest.mark.parametrize(("name", "options", "message"), [
    ("model.keras", {"model": "fcn"}, "none has a name and a shape"),
    ("run.json", {}, "weights cannot be read"), ("nothing.keras", {}, "a file that cannot be read"),
])  # fmt: skip
def test_weights_that_do_not_fit_or_are_none_are_refused(donor, name, options, message):
    with pytest.raises(DataError, match=f"START: .*{message}"):
        build_started(dataclasses.replace(OPTIONS, **options), PLANE, StartingWeights(donor / name))


def test_a_run_with_a_network_of_ones_own_must_be_named_to_start_from(store, tmp_path):
    own = dataclasses.replace(OPTIONS, model=runs.MODEL)
    first = Run.create(store, tmp_path / "own", own)
    first.train()
    with pytest.raises(DataError, match="OWN_MODEL"):
        build_started(OPTIONS, PLANE, StartingWeights(tmp_path / "own"))
    _, started = build_started(own, PLANE, StartingWeights(tmp_path / "own"))
    assert started.left == ()


def test_the_record_tells_the_start_and_resume_does_not_need_it_any_more(store, donor, tmp_path):
    source = shutil.copytree(donor, tmp_path / "source")
    whole, broken = (
        Run.create(
            store, tmp_path / name, dataclasses.replace(OPTIONS, seed=1), start=StartingWeights(source)
        )
        for name in ("whole", "broken")
    )
    whole.train()
    runs.train_up_to(broken, 2)
    shutil.rmtree(source)
    Run.open(broken.folder.path).train()
    assert runs.final_arrays(broken) == runs.final_arrays(whole)
    started = RunRecord.read(whole.folder.record_file).started
    assert (len(started.sha256), started.left) == (64, ())
    assert RunRecord.read(broken.folder.record_file).started == started


def test_train_tells_what_it_started_from(store, donor, tmp_path):
    words = [store, "--out", tmp_path / "run", "--like", donor, "--init-from", donor, "--iterations", 2]
    done = train(*words)
    assert done.exit_code == 0, done.output
    assert "started from 100 of 100 arrays of weights\n" in done.output


def test_the_encoder_of_fcn_takes_weights_of_vgg16(tmp_path, monkeypatch):
    (tmp_path / "vgg.h5").write_bytes(b"weights")
    build, given = networks.fcn_vgg16, []

    def spy(shape, classes, *, weights, base_filters, **options):
        given.append((weights, base_filters))
        return build(shape, classes, base_filters=1, **options)

    monkeypatch.setattr(networks, "fcn_vgg16", spy)
    options = dataclasses.replace(OPTIONS, model="fcn", base_filters=64)
    _, started = build_started(options, PLANE, StartingWeights(tmp_path / "vgg.h5", encoder=True))
    assert given == [(tmp_path / "vgg.h5", 64)]
    assert started.taken == 26  # kernel and bias of 13 convolutions
    assert started.left[0] == "fc6/kernel"


def test_an_encoder_that_cannot_take_the_weights_is_refused(tmp_path):
    (tmp_path / "vgg.h5").write_bytes(b"no weights")
    start = StartingWeights(tmp_path / "vgg.h5", encoder=True)
    with pytest.raises(DataError, match="the network unet with the weights of an encoder"):
        build_started(OPTIONS, PLANE, start)
    with pytest.raises(DataError, match="does not fill the encoder of fcn with 1 filters"):
        build_started(dataclasses.replace(OPTIONS, model="fcn"), PLANE, start)


def options_like(tmp_path, options, *words):
    """The options of a run that repeats others, read from its record before it trains."""
    record = RunRecord(options, "s", "d", PLANE, Shaping(), (1.0, 1.0), "jax", {})
    record.write(tmp_path / "run.json")
    return CliRunner().invoke(main, ["train", str(tmp_path / "no-store"), "--out", str(tmp_path / "out"), "--like",
                                     str(tmp_path / "run.json"), *words])  # fmt: skip


def test_options_are_repeated_and_those_that_are_given_win(tmp_path, monkeypatch):
    taken = []

    def create(store, out, options, *rest):
        taken.append(options)
        raise DataError("STOP", "", "", "")

    monkeypatch.setattr(sys.modules["kerasbalance.cli.train"], "create_run", create)
    told = dataclasses.replace(
        OPTIONS, mine_every=3, strategy="mined", rule="below:0.5", callbacks=("planted:f",), seed=9
    )
    options_like(tmp_path, told, "--seed", "4", "--mine-at", "0.25", "--optimizer", "adamw")
    expected = dataclasses.replace(
        told, seed=4, mine_at=0.25, mine_every=None, optimizer="adamw", learning_rate=0.003, callbacks=()
    )
    assert taken == [expected]


@pytest.mark.parametrize(("model", "words", "message"), [
    ("planted:f", [], "if you trust it, pass --model planted:f"),
    ("unet", ["--preset", "paper"], "--like and --preset contradict each other"),
    ("unet", ["--init-from", ".", "--encoder-weights", __file__], "contradict each other"),
])  # fmt: skip
def test_what_cannot_be_repeated_is_refused(tmp_path, model, words, message):
    done = options_like(tmp_path, dataclasses.replace(OPTIONS, model=model), *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "planted" not in sys.modules
    assert not (tmp_path / "out").exists()
