"""What the commands share: the choice of the backend, and progress for a log."""

import json
import os
import signal
import time

import click
import pytest

from kerasbalance.cli import backend, common


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which TensorFlow and PyTorch are installed and Keras' own configuration names PyTorch."""
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name: name in ("tensorflow", "torch") or None
    )
    monkeypatch.setattr(backend.importlib, "import_module", lambda name: None)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    return tmp_path


def test_the_option_beats_the_environment(machine):
    assert backend.choose_backend("torch") == "torch"
    assert os.environ["KERAS_BACKEND"] == "torch"


def test_the_environment_beats_the_configuration_of_keras(machine):
    assert backend.choose_backend(None) == "tensorflow"


def test_the_configuration_of_keras_beats_the_first_that_is_installed(machine, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")
    assert backend.choose_backend(None) == "torch"


@pytest.mark.parametrize(
    "text", ['{"backend": "jax"}', "{", None], ids=["not installed", "damaged", "missing"]
)
def test_the_first_that_is_installed_serves_where_the_configuration_does_not(machine, monkeypatch, text):
    monkeypatch.delenv("KERAS_BACKEND")
    (machine / "keras.json").unlink()
    if text is not None:
        (machine / "keras.json").write_text(text)
    assert backend.choose_backend(None) == "tensorflow"


def test_a_backend_that_was_asked_for_and_is_not_installed_is_refused(machine, monkeypatch):
    with pytest.raises(click.UsageError, match="the backend jax is not installed"):
        backend.choose_backend("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(click.UsageError, match="the backend jax is not installed"):
        backend.choose_backend(None)


def test_a_log_gets_a_line_a_minute_with_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    with common.progress(4_000, "Training") as bar:
        for second in range(1, 131):
            now[0] = float(second)
            bar.update(10)
    assert capsys.readouterr().err.splitlines() == [
        "Training: 600 of 4,000, about 6 min left",
        "Training: 1,200 of 4,000, about 5 min left",
    ]


def test_a_signal_that_comes_while_a_finalizer_runs_is_heeded_a_moment_later():
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work():
        Finalized()  # its end raises in there, where Python discards it
        time.sleep(20)

    with pytest.raises(common.Interrupted) as caught, common.interruptible():
        work()
    assert caught.value.code == 143
