"""Saves checkpoints without an end; the tests of checkpoints kill it. Imports neither Keras nor a backend."""

import sys
from pathlib import Path

import numpy as np

from kerasbalance.training.checkpoint import CheckpointFolder


def content(iteration):
    """Arrays that can be told apart by iteration in every byte that matters."""
    rng = np.random.default_rng(iteration)
    return {"model/0": rng.normal(size=40_000), "index": np.full(100, iteration)}


def main():
    with CheckpointFolder(Path(sys.argv[1])) as folder:
        iteration = folder.load().info["iteration"] if folder.entries() else 0
        while True:
            iteration += 1
            folder.save(content(iteration), {"iteration": iteration})
            print(iteration, flush=True)  # noqa: T201  # acknowledges to the test that kills this process


if __name__ == "__main__":
    main()
