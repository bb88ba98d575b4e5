"""Trains on several virtual devices of one process, once for each number, and prints as JSON what came of it.

Usage: spread_training.py FOLDER NUMBERS, where NUMBERS are those of the devices, such as 1,2,8, and 2>4>1 for a
training that is stopped twice and resumed on another number. The backend is that of KERAS_BACKEND; JAX needs
XLA_FLAGS=--xla_force_host_platform_device_count=8.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import kerasbalance as kb
from kerasbalance.backend.devices import host_value, replicas, several_devices
from kerasbalance.losses import DiceFocalLoss
from kerasbalance.models.normalization import FastBatchNormalization
from made.training import arrays

VIRTUAL = 8
STEPS, MINED_AT, BATCH = 12, 6, 8


class StopAt(keras.callbacks.Callback):
    """Sends SIGTERM to its own process before some steps."""

    def __init__(self, iterations):
        super().__init__()
        self.iterations, self.count = iterations, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1
        if self.count in self.iterations:
            os.kill(os.getpid(), signal.SIGTERM)


def parts(loss):
    """A model with batch statistics and a loss of the whole batch, its dataset, and mining."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(3, 3, padding="same", activation="relu"),
        FastBatchNormalization(),
        keras.layers.Conv2D(1, 1, activation="sigmoid"),
    ])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), loss=loss, metrics=[kb.DiceScore(name="dice")])
    sampler = kb.HardSliceSampler(range(12), range(12, 30), kb.lowest(0.3), flips=("none", "horizontal"))
    dataset = kb.IndexedDataset(kb.ArraySource(*arrays()), sampler.index, batch_size=BATCH, steps_per_epoch=4)
    return model, dataset, kb.ScheduledMining(dataset, sampler, at=MINED_AT)


def trained(number, run_dir=None, resume=False, stop=(), loss=kb.DiceLoss):
    """Train on so many devices; return what can be compared, or where a signal stopped the run."""
    with several_devices(number):
        model, dataset, mining = parts(loss())
        try:
            history = kb.fit(
                model, dataset, STEPS, callbacks=[mining, StopAt(stop)], run_dir=run_dir, resume=resume, checkpoint_s=0,
                verbose=0,
            )  # fmt: skip
        except kb.Interrupted as interruption:
            return {"stopped": interruption.iteration}
        scores = kb.score_slices(model, dataset.source, np.arange(13), 6)
        return {
            "replicas": replicas(model),
            "loss": history.history["loss"],
            "metric": history.history["dice"],
            "index": hashlib.sha256(dataset.index.refs.tobytes()).hexdigest(),
            "weights": [host_value(variable).ravel().tolist() for variable in model.variables],
            "scores": scores.counts.ravel().tolist(),
        }


def flops_of_scoring(number):
    """Return the floating point operations that XLA compiles for each device to score one batch."""
    import jax

    from kerasbalance.backend.devices import spread
    from kerasbalance.mining import scoring

    with several_devices(number):
        model, dataset, _ = parts(kb.DiceLoss())
        kb.score_slices(model, dataset.source, np.arange(8), 8)
        (scorer,) = model.__dict__["_kerasbalance_scorers"].scorers.values()
        x, y = dataset.source.read(np.arange(8), np.zeros(8, np.uint8))
        variables = [
            [v.value for v in vs] for vs in (scorer.trainable_variables, scorer.non_trainable_variables)
        ]
        count = jax.jit(lambda vs, x, y: scorer.stateless_call(*vs, (x, y), training=False)[0])
        lowered = count.lower(variables, *spread((x, scoring._masks(y)), model))
        return lowered.compile().cost_analysis()["flops"]


def resumed(numbers, folder):
    """Train on the first number, be stopped twice, and go on with the others."""
    first, second, third = numbers
    stops = [
        trained(first, folder, stop=(4,)),
        trained(second, folder, resume=True, stop=(5,)),
    ]
    return {**trained(third, folder, resume=True), "stops": [stop["stopped"] for stop in stops]}


def main():
    folder, words = Path(sys.argv[1]), sys.argv[2].split(",")
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * VIRTUAL)
    found = {}
    for word in words:
        numbers = [int(number) for number in word.split(">")]
        found[word] = trained(numbers[0]) if len(numbers) == 1 else resumed(numbers, folder / word)
    if keras.config.backend() == "tensorflow":
        found["focal"] = [trained(number, loss=DiceFocalLoss) for number in (1, 2)]
    if keras.config.backend() == "jax":
        found["flops"] = [flops_of_scoring(number) for number in (1, 2)]
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
