"""`kerasbalance train`: the paper's protocol on a store."""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli.backend import backend_option, choose_backend, devices_option, use_devices
from kerasbalance.cli.common import (
    CONTEXT,
    EVERYDAY,
    GroupedCommand,
    GroupedOption,
    progress,
    reports_errors,
    stated_options,
    table,
)
from kerasbalance.cli.new_run import create_run, first_weights, new_options
from kerasbalance.cli.processes import folder_to_write
from kerasbalance.cli.train_cost import show_cost
from kerasbalance.cli.train_options import CASES, NETWORK, STEPS, training_options
from kerasbalance.experiments.runs.strategies import STRATEGIES

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.folder import RunRecord
    from kerasbalance.experiments.runs.started import Started
    from kerasbalance.experiments.runs.train import Run, TrainResult
    from kerasbalance.mining.result import MiningResult


_WITH_RESUME = {
    "out",
    "resume",
    "model",
    "callbacks",
    "backend",
    "show_paths",
    "debug",
    "tensorboard",
    "devices",
}
"""Options by parameter that --resume takes."""


@click.command(
    cls=GroupedCommand,
    context_settings=CONTEXT,
    epilog="Example:  kerasbalance train store --out run --organ liver",
)
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, exactly.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what the run will take, from a few measured steps, and write nothing.",
)
@click.option(
    "--like",
    cls=GroupedOption,
    group=EVERYDAY,
    type=click.Path(exists=True, path_type=Path),
    help="A run's folder or its run.json, whose options are repeated. Options that are given here win. Callbacks, "
    "slices left out and first weights are not repeated, and a network of your own must be named again.",
)
@training_options()
@click.option(
    "--init-from",
    cls=GroupedOption,
    group=NETWORK,
    type=click.Path(exists=True, path_type=Path),
    help="The run's folder, .keras file or file of weights to start from, where name and shape fit.",
)
@click.option(
    "--encoder-weights",
    cls=GroupedOption,
    group=NETWORK,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The weights of VGG-16 for the encoder of fcn, as Keras keeps them in ~/.keras/models.",
)
@click.option(
    "--exclude",
    cls=GroupedOption,
    group=CASES,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV with the columns case and slice: slices not to train on, as mine suggests them.",
)
@click.option(
    "--tensorboard",
    cls=GroupedOption,
    group=STEPS,
    is_flag=True,
    help="Also write TensorBoard logs. This needs the package tensorboard.",
)
@backend_option
@devices_option
@reports_errors
def train(
    store: Path | None,
    out: Path,
    resume: bool,
    dry_run: bool,
    like: Path | None,
    init_from: Path | None,
    encoder_weights: Path | None,
    exclude: Path | None,
    tensorboard: bool,
    backend: str | None,
    devices: int | str | None,
    show_paths: bool,
    **given: Any,
) -> None:
    """Split the cases of STORE, pre-train on part B, score part A, add its hard slices, train to the end.

    Patients stay on one side of the split. The run's folder holds all that eval, predict and mine need.
    """
    if tensorboard:
        _check_tensorboard()
    if resume:
        _refuse_new_options()
        record = _record_of(out)
        backend = choose_backend(backend or record.backend)
        used = use_devices(devices, record.devices)
        out = folder_to_write(out, resume)
        run = _open(out, store, given["model"], given["callbacks"])
    else:
        options = new_options(store, given, like)
        start = first_weights(init_from, encoder_weights)
        backend = choose_backend(backend)
        used = use_devices(devices)
        if dry_run:
            click.echo(f"backend {backend} on {used}, {options.model}")
            show_cost(lambda scratch: create_run(store, scratch, options, exclude, start))
            return
        out = folder_to_write(out, resume)
        run = create_run(store, out, options, exclude, start)
    click.echo(f"backend {backend} on {used}, {run.options.model}, {run.options.iterations} iterations")
    if run.options.loss == "dice+topk" and backend == "tensorflow" and devices not in (None, 1):
        click.echo("note: on TensorFlow each device chooses the hardest pixels of its own share of the batch")
    _show_split(run)
    result = _train(run, tensorboard)
    _show_result(result, run.options.strategy)


def _check_tensorboard() -> None:
    """Refuse before anything is written; Keras would import the package when the training begins."""
    if importlib.util.find_spec("tensorboard") is None:
        raise click.UsageError(
            "--tensorboard without the package tensorboard; expected it to be installed; "
            "pip install 'kerasbalance[tensorboard]', or leave out --tensorboard"
        )


def _record_of(out: Path) -> "RunRecord":
    from kerasbalance.experiments.runs.folder import RunFolder, RunRecord

    return RunRecord.read(RunFolder(out).record_file)


def _refuse_new_options() -> None:
    stated = stated_options(but=_WITH_RESUME)
    if stated:
        raise click.UsageError(
            f"--resume continues with the run's own options: leave out {', '.join(stated)}"
        )


def _open(out: Path, store: Path | None, model: str | None, callbacks: Sequence[str]) -> "Run":
    from kerasbalance.experiments.runs.train import Run

    run = Run.open(out, store, model=model)
    run.record.check_callbacks(callbacks)
    return run


def _show_split(run: "Run") -> None:
    from kerasbalance.experiments.runs.split import describe_split

    rows = [[part, cases, patients, slices, f"{100 * share:.1f}%"]
            for part, cases, patients, slices, share in describe_split(run.rows)]  # fmt: skip
    click.echo(table(["part", "cases", "patients", "slices", "positive"], rows))
    if len(run.options.organs) > 1:
        _show_partial(run)


def _show_partial(run: "Run") -> None:
    """Say what becomes of cases that annotate only some of the organs."""
    from kerasbalance.data.store import SliceStore
    from kerasbalance.data.store.source import annotates

    organs, used = run.options.organs, run.options.partial_labels
    cases = run.store.cases if used else SliceStore(run.store.path).cases
    partly = sum(annotates(c, organs, partial=True) and not annotates(c, organs) for c in cases)
    if partly and used:
        click.echo(
            f"{partly} of {len(cases)} cases annotate only some of the organs; their other pixels count nowhere"
        )
    elif partly:
        click.echo(f"{partly} cases that annotate only some of the organs are left out; "
                   "--partial-labels uses them too")  # fmt: skip


def _train(run: "Run", tensorboard: bool) -> "TrainResult":
    import keras

    from kerasbalance import Interrupted, NonFiniteError
    from kerasbalance.experiments.runs.own_code import make_callbacks

    callbacks = make_callbacks(run.options.callbacks, run)
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(run.folder.path / "tensorboard", write_graph=False))
    with progress(run.options.iterations, "Training") as bar:
        callbacks.append(_bar_callback(bar, run))
        try:
            return run.train(callbacks)
        except Interrupted as interruption:
            click.echo(f"\ninterrupted after iteration {interruption.iteration}, which is saved; go on with: "
                       f"kerasbalance train --resume --out {run.folder.path}", err=True)  # fmt: skip
            raise SystemExit(interruption.exit_code) from None
        except NonFiniteError as error:
            raise click.ClickException(f"DIVERGED: {error}") from None


def _started(started: "Started") -> str:
    left = f"; these start at random: {', '.join(started.left)}" if started.left else ""
    return f"started from {started.taken} of {started.taken + len(started.left)} arrays of weights{left}"


def _bar_callback(bar: Any, run: "Run") -> Any:
    import keras

    class Progress(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
        """Moves the bar about once a second and shows loss and learning rate of the last epoch."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.steps, self.shown = 0, time.monotonic()
            if run.record.started is not None and not run.resumed:
                click.echo(_started(run.record.started), err=True)

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            if time.monotonic() - self.shown >= 1:
                self._show()

        def _show(self) -> None:
            bar.update(self.steps)
            self.steps, self.shown = 0, time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            bar.label = f"Training, loss {(logs or {}).get('loss', float('nan')):.4f}, rate {rate:.2g}"
            self._show()

    return Progress()


def _show_result(result: "TrainResult", strategy: str) -> None:
    click.echo(f"loss of the last epoch {result.loss:.4f}")
    if result.mining is not None:
        click.echo(_mined(result.mining, strategy))
    if result.kept is not None:
        click.echo(result.kept.text())
    if result.point is not None:
        click.echo(f"operating point: {result.point.text()}")
    click.echo(f"next: kerasbalance eval {result.folder.path}")


def _mined(mining: "MiningResult", strategy: str) -> str:
    at = f"at iteration {mining.iteration}"
    if not mining.hard.any():
        return f"scored {len(mining)} slices {at}" + (
            ", drawn by 1 - score since" if mining.copies.any() else ""
        )
    worst = f"Dice up to {mining.score[mining.hard].max():.3f}"
    return (
        f"added {int(mining.hard.sum())} {STRATEGIES[strategy].kind} slices of {len(mining)} candidates "
        f"({worst}) {at}"
    )
