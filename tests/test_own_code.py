"""Callbacks of the user's own by name: called with the run, named again to resume, never by a folder."""

import json
import sys
import textwrap

import keras
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.own_code import import_function
from kerasbalance.experiments.runs.train import Run

SEEN = []
NAME = "test_own_code:watch"


class Watch(keras.callbacks.Callback):
    """Notes the epochs, and stops in the second one if told to."""

    def on_epoch_end(self, epoch, logs=None):
        SEEN.append((epoch, sorted(logs)))


def watch(run):
    SEEN.append((run.options.iterations, run.folder.path.name, run.resumed))
    return Watch()


def stop(run):
    return runs.StopAt(5)


def wrong(run):
    return "no callback"


def failing(run):
    raise RuntimeError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("callbacks")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(8)])
    return folder / "store"


@pytest.fixture(autouse=True)
def forget():
    SEEN.clear()


def train(*words):
    return CliRunner().invoke(main, ["train", *map(str, words)])


def new_run(store, out, *callbacks):
    named = [word for name in callbacks for word in ("--callback", name)]
    return train(store, "--out", out, "--organ", runs.ORGAN, "--model", runs.MODEL, "--iterations", 6,
                 "--no-mining", *named)  # fmt: skip


def test_a_callback_is_called_with_the_run_and_in_every_epoch(store, tmp_path):
    done = new_run(store, tmp_path / "run", NAME)
    assert done.exit_code == 0, done.output
    assert SEEN[0] == (6, "run", False)
    assert SEEN[1:] == [(epoch, ["loss"]) for epoch in range(6)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["callbacks"] == [NAME]


def test_resume_takes_the_same_callbacks_and_no_others(store, tmp_path):
    out = tmp_path / "run"
    assert new_run(store, out, NAME, "test_own_code:stop").exit_code == 143
    SEEN.clear()
    for named in ((), ("--callback", NAME), ("--callback", NAME, "--callback", "planted:f")):
        done = train("--resume", "--out", out, "--model", runs.MODEL, *named)
        assert done.exit_code == 1
        assert "OWN_CALLBACK" in done.output
        assert "pass --callback test_own_code:watch --callback test_own_code:stop" in " ".join(
            done.output.split()
        )
    assert "planted" not in sys.modules
    assert SEEN == []
    named = ("--callback", "test_own_code:stop", "--callback", NAME)
    done = train("--resume", "--out", out, "--model", runs.MODEL, *named)
    assert done.exit_code == 0, done.output
    assert SEEN[0] == (6, "run", True)


def test_a_received_run_imports_no_callback(store, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise SystemExit('ran the planted code')")
    monkeypatch.syspath_prepend(tmp_path)
    options = TrainOptions(
        organs=(runs.ORGAN,), model=runs.MODEL, iterations=2, strategy="none", callbacks=("planted:f",)
    )
    Run.create(store, tmp_path / "run", options).train()
    for words in (
        ["eval", "run", "--model", runs.MODEL],
        ["train", "--resume", "--out", "run", "--model", runs.MODEL],
    ):
        done = CliRunner().invoke(main, [word.replace("run", str(tmp_path / "run")) if word == "run" else word
                                         for word in words])  # fmt: skip
        assert "ran the planted code" not in done.output
    assert done.exit_code == 1
    assert "planted" not in sys.modules


@pytest.mark.parametrize(("name", "message"), [
    ("test_own_code:wrong", "returned an object of type str; expected a Keras callback"),
    ("test_own_code:failing", "test_own_code:failing, which fails with RuntimeError"),
    ("no_such_module:f", "no_such_module:f, which fails with ModuleNotFoundError"),
    ("test_own_code:nothing", "which fails with AttributeError"),
    ("test_own_code:NAME", "which fails with TypeError"),
])  # fmt: skip
def test_what_makes_no_callback_is_refused_before_training(store, tmp_path, name, message):
    done = new_run(store, tmp_path / "run", name)
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_name_without_a_function_is_wrong_usage(store, tmp_path):
    done = new_run(store, tmp_path / "run", "tracking")
    assert done.exit_code == 2
    assert "expected package.module:function, each once; correct --callback" in " ".join(done.output.split())


def test_modules_of_the_current_folder_are_found_after_installed_ones(tmp_path, monkeypatch):
    (tmp_path / "own_tracking.py").write_text(textwrap.dedent("""
        def f(run):
            return 7
        """))  # fmt: skip
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert import_function("own_tracking:f")(None) == 7
    assert import_function("json:dumps")(1) == "1"
    assert sys.path == before
    with pytest.raises(DataError, match="each once"):
        TrainOptions(organs=("liver",), callbacks=("a:f", "a:f"))
