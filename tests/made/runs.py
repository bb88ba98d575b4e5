"""Small stores and a finished run for the tests of what is done with runs."""

import itertools
import os
import signal

import keras
import numpy as np
import pytest

from kerasbalance.data.ingest.organ_check import hu_spread
from kerasbalance.data.store import Pseudonyms, SliceStore, Store
from kerasbalance.data.store.sealed_case import CaseArrays
from made.stores import add_case, made_facts

ORGAN = 'liver <b>& "co'
MODEL = "made.runs:tiny_model"
SPACING = (4.0, 6.0, 6.0)


def made_stack(seed=0, slices=14, size=32):
    """HU and a mask: an ellipsoid of 100 HU, wider in the middle slices, in a body of fat, in air."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - size / 2
    hu = np.full((slices, size, size), -1000.0)
    hu[:, np.hypot(rows, columns) < size * 0.45] = -90
    centre, half = slices / 2 + rng.uniform(-0.5, 0.5), slices * 0.35
    radius = size * 0.26 * np.sqrt(np.maximum(0, 1 - ((np.arange(slices) - centre) / half) ** 2))
    shift = rng.uniform(-1.5, 1.5, 2)
    mask = np.hypot(rows - shift[0], columns + 2 - shift[1])[None] < radius[:, None, None]
    hu[mask] = 100
    return np.rint(hu + rng.normal(0, 8, hu.shape)).astype(np.int16), mask


def store_of_stacks(path, stacks, organs=(ORGAN,), notes=()):
    """A store of `(hu, labels)` pairs, without a detour over files; the first case gets the notes.

    `organs` are those of all cases, or a list with those of each case.
    """
    pseudonyms = Pseudonyms(b"k" * 32, path.parent)
    store = Store.create(path, pseudonyms)
    for number, (hu, labels) in enumerate(stacks):
        labels = labels.astype(np.uint8)
        own = organs[number] if isinstance(organs, list) else organs
        facts = _facts(pseudonyms, number, hu, labels, own, notes if number == 0 else ())
        add_case(store, facts, CaseArrays(hu, labels, SPACING[0] * np.arange(len(hu))))
    return SliceStore(path)


def _facts(pseudonyms, number, hu, labels, organs, notes):
    spreads = hu_spread(hu, labels, organs)
    return made_facts(
        pseudonyms.of("series", str(number)),
        hu.shape,
        organs,
        patient=pseudonyms.patient(f"P{number + 1}"),
        patient_spelling=pseudonyms.of("spelling", str(number)),
        spacing_mm=SPACING,
        organ_hu=tuple((s.q1, s.median, s.q3) if s.voxels else () for s in spreads),
        hu_percentiles=tuple(np.percentile(hu, (0.5, 50, 99.5)).tolist()),
        notes=tuple(notes),
        source_digest=f"{number:064x}",
        reader_version="0",
    )


def tiny_model(shape, num_classes):
    """A network that learns bright tissue in a few steps: what a run's model does matters to no test here."""
    x = inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 200)(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    activation = "sigmoid" if num_classes == 1 else "softmax"
    return keras.Model(inputs, keras.layers.Conv2D(num_classes, 1, activation=activation)(x))


def made_run(folder, stacks, *, iterations=40, organs=(ORGAN,), notes=(), **options):
    """Train on `folder/store` and evaluate; the run lies in `folder/run`."""
    from kerasbalance.experiments.runs.evaluate import evaluate_run
    from kerasbalance.experiments.runs.evaluation_files import write_evaluation
    from kerasbalance.experiments.runs.options import TrainOptions
    from kerasbalance.experiments.runs.train import Run

    store_of_stacks(folder / "store", stacks, organs, notes)
    settings = {"model": MODEL, "batch_size": 8, "learning_rate": 0.5, **options}
    chosen = TrainOptions(organs=organs, iterations=iterations, **settings)
    Run.create(folder / "store", folder / "run", chosen).train()
    run = Run.open(folder / "run", model=settings["model"])
    write_evaluation(run.folder.eval_folder, evaluate_run(run))
    return run


class StopAt(keras.callbacks.Callback):
    """Sends SIGTERM to this process in a step of the training, counted from 1."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        self.steps = itertools.count(1)  # a number or a list would be saved and come back with resume

    def on_train_batch_begin(self, batch, logs=None):
        if next(self.steps) == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def train_up_to(run, step):
    """Train a run until SIGTERM comes in a step."""
    from kerasbalance import Interrupted

    with pytest.raises(Interrupted):
        run.train([StopAt(step)])
    assert run.folder.saved_iteration == step


def train_with_a_break(run, step, **named):
    """Train a run up to a step, open it anew and train it to the end; the last result."""
    from kerasbalance.experiments.runs.train import Run

    train_up_to(run, step)
    return Run.open(run.folder.path, model=run.options.model, **named).train()


def final_arrays(run):
    """The bytes of every array of a run's last checkpoint, by name."""
    from kerasbalance.training.checkpoint_reading import read_newest

    arrays = read_newest(run.folder.path / "checkpoint").arrays
    return {name: array.tobytes() for name, array in arrays.items()}
