"""This package through its command line: a store, a training of so many CPU seconds, predictions."""

import csv
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contenders.cases import UNSEEN

PROBES = (40, 160)
"""Iterations of the two short trainings that tell what an iteration costs."""
BASE = ("--no-mining", "--ratio", "1", "--test-share", "0.02")
"""All cases are trained on; one case is left out, since a run needs a test case of its own."""


@dataclass(frozen=True)
class Way:
    """One way of training with this package.

    Args:
        words: What stands in the table.
        train: Options of `train`.
        ingest: Options of `ingest`.
        predict: Options of `predict`.
    """

    words: str
    train: tuple[str, ...] = ()
    ingest: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()


RESIZED = ("--resize", "64")
"""As 0.1 brings cases to one plane."""
SPACED = ("--spacing", "6", "--crop", "72")

WAYS = {
    "plain": Way("ours, as 0.1: all data, --resize 64", BASE, RESIZED),
    "augment": Way("ours, and --augment light", (*BASE, "--augment", "light"), RESIZED),
    "spacing": Way("ours, and --spacing 6 --crop 72 instead", BASE, SPACED),
    "validation": Way(
        "ours, and --keep best", (*BASE, "--validation-share", "0.15", "--keep", "best"), RESIZED
    ),
    "defaults": Way("ours, the defaults of train", (), SPACED),
}
"""The first is the baseline; each of the others changes one thing."""


def run(way: Way, dataset: Path, budget: float, seed: int, out: Path) -> dict[str, float]:
    """Train for `budget` CPU seconds and predict the unseen cases into `out`.

    Returns:
        `iterations`, and `cpu_s` that the training took beside its start.
    """
    store = dataset.parent / "-".join(["store", *(word.strip("-") for word in way.ingest)])
    if not (store / "done").exists():
        _command("ingest", dataset, "--out", store, *way.ingest)
        (store / "done").touch()
    with tempfile.TemporaryDirectory() as scratch:
        costs = [_train(way, store, n, seed, Path(scratch) / str(n)) for n in PROBES]
    each = (costs[1] - costs[0]) / (PROBES[1] - PROBES[0])
    start = costs[0] - each * PROBES[0]
    iterations = max(2, int(budget / each))
    spent = _train(way, store, iterations, seed, out / "run") - start
    predicted = out / "predicted"
    _command(
        "predict", out / "run", dataset.parent / UNSEEN[0], "--out", predicted, "--show-paths", *way.predict
    )
    with (predicted / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            (predicted / row["file"]).rename(out / Path(row["path"]).name.replace("_0000.nii.gz", ".nii.gz"))
    return {"iterations": iterations, "cpu_s": spent}


def _train(way: Way, store: Path, iterations: int, seed: int, run_folder: Path) -> float:
    return _command("train", store, "--out", run_folder, "--organ", "liver", "--seed", seed, "--iterations",
                    iterations, *way.train)  # fmt: skip


def _command(*words: object) -> float:
    """Run one command on one core; return the CPU seconds it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "kerasbalance.cli", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
