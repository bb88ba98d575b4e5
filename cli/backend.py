"""Which Keras backend a command uses: asked for, configured, or the first that is installed."""

import importlib.util
import json
import os
from pathlib import Path

import click

BACKENDS = ("tensorflow", "jax", "torch")

backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Default: KERAS_BACKEND, else Keras' own configuration, else the first that is installed.",
)


def choose_backend(asked: str | None) -> str:
    """Set the backend for this process and return it; call it before anything imports Keras.

    Raises:
        click.UsageError: the backend that was asked for, or any, is not installed.
    """
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    name = asked or os.environ.get("KERAS_BACKEND") or _configured() or next(iter(installed), None)
    if not asked and not os.environ.get("KERAS_BACKEND") and name not in installed:
        name = next(iter(installed), None)  # Keras' configuration names TensorFlow unless somebody changed it
    if name is None or (name in BACKENDS and name not in installed):
        raise click.UsageError(
            f"the backend {name or 'of Keras'} is not installed; expected one of {', '.join(BACKENDS)}; "
            "pip install 'kerasbalance[tensorflow]', [jax] or [torch]"
        )
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow would greet on stderr
    return name


def _configured() -> str | None:
    home = Path(os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
