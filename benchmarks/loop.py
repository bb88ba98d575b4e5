"""Our `fit`, `train`, scoring and loading through Keras, each against the bare work that is in it."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader import make_arrays, make_store
from measure import Row, largest_memory, take_turns
from step import keras_model, make_slices


def run(size: int = 128, filters: int = 16, batch: int = 4, steps: int = 6, rounds: int = 5) -> Iterator[Row]:
    """Yield the figures of this process's backend."""
    import keras

    import kerasbalance as kb

    backend = keras.config.backend()
    x, y = make_slices(size, 4 * batch)
    source = kb.ArraySource(x, y)
    dataset = kb.IndexedDataset(source, kb.Index(np.arange(len(x))), batch_size=batch, steps_per_epoch=steps)
    model = keras_model("unet", size, filters, "float32")
    yield from _fits(backend, model, dataset, rounds)
    yield from _scoring(backend, model, source, batch, rounds)
    yield from _by_loss(backend, model, source, batch, rounds)
    yield _samples(rounds)
    yield _waiting(backend, model, dataset)
    yield _adapter(backend, size, steps, rounds)
    yield _whole(backend, filters, rounds)


def _fits(backend: str, model: Any, dataset: Any, rounds: int) -> list[Row]:
    """Our fit over two windows against plain `model.fit` of the same steps, with and without checkpoints."""
    import kerasbalance as kb

    total = 2 * len(dataset)

    def saving() -> None:
        with tempfile.TemporaryDirectory() as folder:
            kb.fit(model, dataset, total, verbose=0, run_dir=folder)

    spent = take_turns(
        {
            "plain": lambda: model.fit(dataset, epochs=2, shuffle=False, verbose=0),
            "ours": lambda: kb.fit(model, dataset, total, verbose=0),
            "saving": saving,
        },
        rounds,
    )
    unit = f"CPU seconds / plain model.fit ({1000 * spent['plain'] / total:.0f} ms a step)"
    return [
        Row(spent["ours"] / spent["plain"], f"loop: {backend}, our fit, {total} steps", unit, "<= 1.03"),
        Row(
            spent["saving"] / spent["plain"],
            f"loop: {backend}, the same with checkpoints at begin and end",
            unit,
        ),
    ]


def _scoring(backend: str, model: Any, source: Any, batch: int, rounds: int) -> list[Row]:
    """Scoring against bare forward passes over the same slices, and against what one would write by hand."""
    import kerasbalance as kb

    refs = np.arange(8 * batch) % len(source)
    batches = [
        (source.x[refs[n : n + batch]], source.y[refs[n : n + batch]]) for n in range(0, len(refs), batch)
    ]

    def by_hand() -> list[Any]:
        found = []
        for x, y in batches:
            predicted = model.predict_on_batch(x) > 0.5
            true = y > 0
            counts = [(m).sum(axis=(1, 2, 3)) for m in (predicted & true, predicted, true)]
            found.append(2 * counts[0] / np.maximum(1, counts[1] + counts[2]))
        return found

    spent = take_turns(
        {
            "bare": lambda: [model.predict_on_batch(x) for x, _ in batches],
            "scoring": lambda: kb.score_slices(model, source, refs, batch),
            "by hand": by_hand,
        },
        rounds,
    )
    before = largest_memory()
    kb.score_slices(model, source, np.resize(refs, 20 * len(refs)), batch)
    return [
        Row(
            spent["bare"] / spent["scoring"],
            f"scoring: {backend}",
            "speed / the bare forward pass",
            ">= 0.97",
        ),
        Row(
            spent["by hand"] / spent["scoring"],
            f"scoring: {backend}",
            "times as fast as predict and Dice in NumPy",
        ),
        Row(
            largest_memory() - before,
            f"scoring: {backend}, a pool 20 times as large",
            "MiB more memory",
            "~ 0",
        ),
    ]


def _by_loss(backend: str, model: Any, source: Any, batch: int, rounds: int) -> Iterator[Row]:
    """Scoring by loss against Keras' own forward pass with the loss, which has one number for a batch."""
    import kerasbalance as kb

    refs = np.arange(8 * batch) % len(source)
    x, y = source.read(refs, np.zeros(len(refs), np.uint8))
    for loss in ("binary_crossentropy", kb.DiceLoss()):
        model.compile("sgd", loss)
        spent = take_turns(
            {
                "bare": lambda: [
                    model.test_on_batch(x[n : n + batch], y[n : n + batch])
                    for n in range(0, len(refs), batch)
                ],
                "scoring": lambda: kb.score_by_loss(model, source, refs, batch),
            },
            rounds,
        )
        name = loss if isinstance(loss, str) else "batch Dice, each slice by itself"
        yield Row(
            spent["scoring"] / spent["bare"],
            f"scoring: {backend}, by loss ({name})",
            "CPU seconds / a forward pass with the loss",
            "<= 1.1",
        )


def _samples(rounds: int) -> Row:
    """Batches from single samples against batches from arrays of equal bytes."""
    import kerasbalance as kb

    x = np.zeros((64, 224, 224, 3), np.uint8)
    y = np.arange(64)
    refs, flips = np.random.default_rng(0).permutation(64), np.zeros(64, np.uint8)
    arrays, samples = kb.ArraySource(x, y), kb.DatasetSource(list(zip(x, y, strict=True)))
    spent = take_turns(
        {"arrays": lambda: arrays.read(refs, flips), "samples": lambda: samples.read(refs, flips)},
        10 * rounds,
    )
    return Row(
        spent["arrays"] / spent["samples"],
        "loader: single samples, 224 x 224 x 3",
        "speed / arrays of equal bytes",
        ">= 0.5",
    )


def _waiting(backend: str, model: Any, dataset: Any) -> Row:
    """Share of the wall time of a fit in which the step waits for its batch."""
    waited = []
    read = dataset._reader.get

    def timed(phase: Any, iteration: int) -> Any:
        begin = time.perf_counter()
        made = read(phase, iteration)
        waited.append(time.perf_counter() - begin)
        return made

    dataset._reader.get = timed
    begin = time.perf_counter()
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    share = sum(waited) / (time.perf_counter() - begin)
    dataset._reader.get = read
    return Row(100 * share, f"loop: {backend}, waiting for batches", "% of wall time", "<= 2")


def _adapter(backend: str, size: int, steps: int, rounds: int) -> Row:
    """What it costs to bring slices of a store through Keras to a network that looks at one pixel of each."""
    import keras

    import kerasbalance as kb

    size, steps = 4 * size, 20 * steps
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), make_arrays(32, size), 2)
        source, refs = store.source("liver"), store.refs("liver")
        dataset = kb.IndexedDataset(source, kb.Index(refs), batch_size=16, steps_per_epoch=steps)
        inputs = keras.Input((size, size, 1), dtype="int16")
        model = keras.Model(inputs, keras.layers.Cropping2D(((0, size - 1), (0, size - 1)))(inputs))
        model.compile(loss=_first_pixel)
        there = [keras.ops.convert_to_tensor(array) for array in dataset.batch(0)]
        spent = take_turns(
            {
                "store": lambda: model.evaluate(dataset, verbose=0),
                "there": lambda: [model.test_on_batch(*there) for _ in range(steps)],
            },
            rounds,
        )
    cost = (spent["store"] - spent["there"]) / (16 * steps) * 1000
    return Row(cost, f"loader: {backend}, store through Keras' adapter, {size} px",
               "CPU seconds per 1,000 slices more than with a batch that is there", "<= 0.5")  # fmt: skip


def _first_pixel(y_true: Any, y_pred: Any) -> Any:
    from keras import ops

    return ops.mean(ops.cast(y_pred, "float32"), axis=(1, 2, 3)) + ops.cast(y_true[:, 0, 0, 0], "float32")


def _whole(backend: str, filters: int, rounds: int) -> Row:
    """`train` on a store, all that it does to the disk included, against the bare steps of its network."""
    from kerasbalance.experiments.runs.model import build_model, compile_model
    from kerasbalance.experiments.runs.options import TrainOptions
    from kerasbalance.experiments.runs.train import Run

    iterations = 60 * rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_store(folder, make_arrays(32, 64), 6)
        options = TrainOptions(
            organs=("liver",), iterations=iterations, base_filters=filters, strategy="none", ratio=1.0
        )
        run = Run.create(folder / "store", folder / "run", options)
        twin = build_model(options, run.source().plane)
        compile_model(twin, options)
        x, y = run.source().read(run.refs("B")[: options.batch_size])
        twin.train_on_batch(x, y)
        clock = _turns(lambda: [twin.train_on_batch(x, y) for _ in range(options.epoch_iterations)])
        run.train([clock])
    steps = options.epoch_iterations * clock.windows
    label = (
        f"train: {backend}, U-Net, 64 px, {filters} filters, {steps} iterations in {clock.windows} windows"
    )
    unit = f"speed / the bare step ({1000 * clock.bare / steps:.0f} CPU ms), compilation left out of both"
    return Row(clock.bare / clock.ours, label, unit, ">= 0.97")


def _turns(bare: Callable[[], object]) -> Any:
    """Return a callback that lets bare steps take turns with the windows of a training, the first one left out."""
    import keras

    class Turns(keras.callbacks.Callback):
        ours = bare = 0.0
        windows = 0

        def on_train_begin(self, logs: Any = None) -> None:
            self.mark: float | None = None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            begin = time.process_time()
            if self.mark is not None:
                self.ours += begin - self.mark
                bare()
                self.bare += time.process_time() - begin
                self.windows += 1
            self.mark = time.process_time()

    return Turns()
