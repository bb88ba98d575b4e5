"""What a run will take, from a few steps on the devices that will be used."""

import math
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import kerasbalance as kb
from kerasbalance.backend.devices import peak_memory, scope_of
from kerasbalance.backend.torch_layout import spared_layout_copies
from kerasbalance.experiments.runs.model import build_model, compile_model
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.parts import PART_A, PART_B, VALIDATION
from kerasbalance.experiments.runs.train import Run

TIMED_STEPS = 5
STATES = 3
"""What a run's folder holds of the network and its optimizer: two checkpoints, and model.keras."""


@dataclass(frozen=True)
class Cost:
    """What was measured of a network on some devices.

    Args:
        step_s: Seconds of a training step.
        scored_batch_s: Seconds of a batch that is scored.
        state_bytes: Of the network's and the optimizer's variables.
        memory_bytes: The largest use of a GPU so far, the largest of them, or on a CPU of this process.
    """

    step_s: float
    scored_batch_s: float
    state_bytes: int
    memory_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Room for the files of one run."""
        return STATES * self.state_bytes


def measure_cost(run: Run) -> Cost:
    """Train a few steps of a run's network and score a batch; nothing is written.

    Args:
        run: A run that is created and not trained.
    """
    options, source, refs = run.options, run.source(), run.refs(PART_B)
    model = build_model(options, source.plane)
    compile_model(model, options, has_unknown=source.source.has_unknown)
    index = kb.Index(refs)
    dataset = kb.IndexedDataset(source, index, batch_size=options.batch_size, steps_per_epoch=TIMED_STEPS)
    with spared_layout_copies(), scope_of(model):
        _timed(lambda: _fit(model, dataset, 2))  # compiles
        step_s = _timed(lambda: _fit(model, dataset, TIMED_STEPS)) / TIMED_STEPS
    some = np.resize(refs, options.batch_size)
    kb.score_slices(model, source, some, options.batch_size)
    scored_batch_s = _timed(lambda: kb.score_slices(model, source, some, options.batch_size))
    variables = [*model.variables, *model.optimizer.variables]
    state_bytes = sum(4 * math.prod(variable.shape) for variable in variables)
    return Cost(step_s, scored_batch_s, state_bytes, peak_memory())


def scored_slices(run: Run) -> int:
    """Return how many slices a run scores in all, for mining and after each epoch for validation."""
    options: TrainOptions = run.options
    minings = len(options.mine_iterations) if options.mining else 0
    epochs = math.ceil(options.iterations / options.epoch_iterations)
    return minings * len(run.refs(PART_A)) + epochs * len(run.refs(VALIDATION))


def _fit(model: Any, dataset: kb.IndexedDataset, steps: int) -> None:
    model.fit(dataset.stream(0), steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    keras.ops.convert_to_numpy(model.optimizer.iterations)  # waits for the last step


def _timed(action: Any) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin
