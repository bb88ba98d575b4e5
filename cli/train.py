"""`kerasbalance train`: the paper's protocol on a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasbalance.cli import training
from kerasbalance.cli.backend import backend_option, choose_backend
from kerasbalance.cli.common import CONTEXT, progress, reports_errors, stated_options, table

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.train import Run, TrainResult
    from kerasbalance.mining.result import MiningResult

_OPTIONS = (
    click.option("--organ", "organs", multiple=True, help="What to segment; may be repeated. Needed for a new run."),
    click.option("--preset", type=click.Choice(["default", "paper"]), default="default", show_default=True,
                 help="paper: Zhang et al. 2019 to the letter (a million iterations of a full-width network)."),
    click.option("--model", help="unet, fcn, or package.module:function."),
    training.BASE_FILTERS,
    click.option("--iterations", type=int, help="Optimizer steps in all."),
    training.BATCH_SIZE,
    click.option("--learning-rate", type=float, help="At the beginning; it decays polynomially to 0. "
                 "Default: unet 0.1, fcn 0.003, your own model 0.01."),
    training.MOMENTUM,
    click.option("--no-mining", is_flag=True, help="Train on part B alone; with --ratio 1, on all the data."),
    click.option("--strategy", type=click.Choice(["mined", "mined-all", "weighted", "add-all", "random"]),
                 help="Once slices are scored: add the hard ones of A; repeat the hard ones of all the data; draw by "
                 "1 - score; add all of A; or add as many random ones of A (the control). Default: mined."),
    click.option("--loss", type=click.Choice(["dice", "dice+focal", "dice+topk"]), help="Default: dice."),
    training.MINE_AT,
    training.RULE,
    training.FLIPS,
    click.option("--ratio", type=float, help="Selection ratio: share of the training cases that is part B."),
    training.TEST_SHARE,
    click.option("--validation-share", type=float, help="Share of the cases evaluated while training."),
    click.option("--seed", type=int, help="Of the split, the weights and the order."),
    training.PRECISION,
)  # fmt: skip

_WITH_RESUME = {"out", "resume", "tensorboard", "backend", "show_paths", "debug"}
"""Options that do not belong to the run, so that they may stand beside --resume."""


@click.command(context_settings=CONTEXT, epilog="Example:  kerasbalance train store --out run --organ liver")
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, exactly.")
@click.option(
    "--exclude",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV with the columns case and slice: slices not to train on, as mine suggests them.",
)
@click.option(
    "--tensorboard", is_flag=True, help="Also write TensorBoard logs (needs the package tensorboard)."
)
@backend_option
@reports_errors
@training.add_options(_OPTIONS)
def train(
    store: Path | None,
    out: Path,
    resume: bool,
    exclude: Path | None,
    tensorboard: bool,
    backend: str | None,
    show_paths: bool,
    **given: Any,
) -> None:
    """Split the cases of STORE, pre-train on part B, score part A, add its hard slices, train to the end.

    Patients stay on one side of the split. The run's folder holds all that eval, predict and mine need.
    """
    backend = choose_backend(_backend_of(out) if resume and backend is None else backend)
    run = _resumed(out, store) if resume else _new(store, out, exclude, given)
    click.echo(f"backend {backend}, {run.options.model}, {run.options.iterations} iterations")
    _show_split(run)
    result = _train(run, tensorboard)
    _show_result(result, run.options.strategy)


def _backend_of(out: Path) -> str:
    from kerasbalance.experiments.runs.folder import RunFolder, RunRecord

    return RunRecord.read(RunFolder(out).record_file).backend


def _new(store: Path | None, out: Path, exclude: Path | None, given: dict[str, Any]) -> "Run":
    from kerasbalance.experiments.runs.options import ON_ALL, PRESETS, TrainOptions
    from kerasbalance.experiments.runs.train import Run

    if store is None:
        raise click.UsageError("a new run needs STORE")
    preset = PRESETS[given.pop("preset")]
    if given.pop("no_mining"):
        if given["strategy"] is not None:
            raise click.UsageError("--no-mining and --strategy contradict each other: leave one out")
        given["strategy"] = "none"
    if given["strategy"] in ON_ALL and given["ratio"] is None:
        given["ratio"] = 1.0
    stated = {name: value for name, value in _plain(given).items() if value is not None}
    if not stated.get("organs"):
        raise click.UsageError("a new run needs --organ")
    options = TrainOptions(**{**preset.options, **stated})
    return Run.create(store, out, options, exclude)


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    flips = given["flips"]
    split = None if flips is None else training.split_list(flips)
    return {**given, "flips": split, "organs": tuple(given["organs"]) or None}


def _resumed(out: Path, store: Path | None) -> "Run":
    from kerasbalance.experiments.runs.train import Run

    stated = stated_options(but=_WITH_RESUME)
    if stated:
        raise click.UsageError(
            f"--resume continues with the run's own options: leave out {', '.join(stated)}"
        )
    return Run.open(out, store)


def _show_split(run: "Run") -> None:
    from kerasbalance.experiments.runs.train import describe_split

    rows = [[part, cases, patients, slices, f"{100 * share:.1f}%"]
            for part, cases, patients, slices, share in describe_split(run.rows)]  # fmt: skip
    click.echo(table(["part", "cases", "patients", "slices", "positive"], rows))


def _train(run: "Run", tensorboard: bool) -> "TrainResult":
    import keras

    from kerasbalance import Interrupted, NonFiniteError

    callbacks: list[Any] = []
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


def _bar_callback(bar: Any, run: "Run") -> Any:
    import keras

    class Progress(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
        """Moves the bar at the end of each window and shows loss and learning rate."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.steps = 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.steps += 1

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            bar.label = f"loss {(logs or {}).get('loss', float('nan')):.4f}, rate {rate:.2g}"
            bar.update(self.steps)
            self.steps = 0

    return Progress()


def _show_result(result: "TrainResult", strategy: str) -> None:
    click.echo(f"loss of the last window {result.loss:.4f}")
    if result.mining is not None:
        click.echo(_mined(result.mining, strategy))
    click.echo(f"next: kerasbalance eval {result.folder.path}")


def _mined(mining: "MiningResult", strategy: str) -> str:
    at = f"at iteration {mining.iteration}"
    if not mining.hard.any():
        return f"scored {len(mining)} slices {at}" + (
            ", drawn by 1 - score since" if mining.copies.any() else ""
        )
    kind = {"mined": "hard", "mined-all": "hard", "random": "random", "add-all": "all"}[strategy]
    worst = f"Dice up to {mining.score[mining.hard].max():.3f}"
    return f"added {int(mining.hard.sum())} {kind} slices of {len(mining)} candidates ({worst}) {at}"
