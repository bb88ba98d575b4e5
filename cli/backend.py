"""Which Keras backend a command uses: asked for, configured, or the first that is installed."""

import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kerasbalance.cli.allocator import keep_freed_memory
from kerasbalance.cli.common import MACHINE, GroupedOption

BACKENDS = ("tensorflow", "jax", "torch")

backend_option = click.option(
    "--backend",
    cls=GroupedOption,
    group=MACHINE,
    type=click.Choice(BACKENDS),
    help="Default: KERAS_BACKEND, else Keras' own configuration, else the first that is installed.",
)


class Devices(click.ParamType["int | str"]):
    """A number of devices, or the word all."""

    name = "all|N"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """Return the number, or "all"."""
        if str(value) == "all":
            return "all"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value}: expected a number of devices from 1 on, or all", param, ctx)
        return int(value)


devices_option = click.option(
    "--devices",
    cls=GroupedOption,
    group=MACHINE,
    type=Devices(),
    help="On how many devices (GPUs) each batch is spread, or all of them. On JAX and TensorFlow.  [default: 1]",
)


def use_devices(asked: int | str | None, default: int = 1) -> str:
    """Spread batches over several devices until the running command ends, and describe these devices.

    Call it after `choose_backend` and before a model is built. Several processes are joined, and use all devices.

    Raises:
        click.UsageError: If there are not so many, or the backend cannot use several.
    """
    from kerasbalance.backend.devices import describe, several_devices
    from kerasbalance.backend.processes import join_processes, process_share

    join_processes()
    processes = process_share()[1]
    if processes > 1 and asked not in (None, "all"):
        raise click.UsageError(
            f"--devices {asked} with {processes} processes; expected all of each; leave it out"
        )
    number = "all" if processes > 1 else asked or default
    try:
        with _without_greetings():
            return describe(click.get_current_context().with_resource(several_devices(number)))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def choose_backend(asked: str | None) -> str:
    """Import Keras with the backend to use and return its name; call it before anything else imports Keras.

    Raises:
        click.UsageError: the backend that was asked for, or any, is not installed.
    """
    keep_freed_memory()
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_greetings():
        importlib.import_module("keras")
    return name


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Close stderr to native code: TensorFlow greets there on import, whatever its log level says."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def choose_backend_of(run: Path, asked: str | None) -> str:
    """Set the backend that was asked for, else the one that trained a run if it is installed, else any.

    Raises:
        DataError: there is no run (code `NO_RUN`).
    """
    from kerasbalance.experiments.runs.folder import RunFolder, RunRecord

    own = RunRecord.read(RunFolder(run).record_file).backend
    return choose_backend(asked or (own if importlib.util.find_spec(own) else None))


def _configured() -> str | None:
    home = Path(os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
