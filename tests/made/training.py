"""Small data and models that the tests of the core share."""

import keras
import numpy as np
from keras import ops

import kerasbalance as kb


def arrays(slices=30, size=8, seed=0):
    """Images of noise, masks of what is bright in them; every fifth slice is empty."""
    x = np.random.default_rng(seed).normal(size=(slices, size, size, 1)).astype("float32")
    y = (x > 0.5).astype("uint8")
    y[::5] = 0
    return x, y


def tagged_source(slices=40):
    """A source whose masks hold each slice's own ref, so that what a step received can be told."""
    refs = np.arange(slices)
    x = np.broadcast_to(refs[:, None, None, None], (slices, 4, 4, 1)).astype("float32")
    return kb.ArraySource(np.ascontiguousarray(x), np.ascontiguousarray(x[..., 0]).astype("int32"))


def segmenter(size=8, classes=1, seed=1, dropout=0.3):
    """A compiled model with dropout, batch statistics and momentum: all the state that a step can have."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((size, size, 1)),
            keras.layers.Conv2D(3, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Conv2D(classes, 1, activation="sigmoid" if classes == 1 else "softmax"),
        ]
    )
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 0.01)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), loss="mse")
    return model


def training(iterations=17, seed=3, steps=5, dropout=0.3):
    """A model, its dataset of 10 base slices and 20 candidates, and mining at an iteration."""
    model = segmenter(dropout=dropout)
    sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3), flips=("none", "horizontal"))
    source = kb.ArraySource(*arrays())
    dataset = kb.IndexedDataset(source, sampler.index, batch_size=4, steps_per_epoch=steps, seed=seed)
    return model, dataset, kb.ScheduledMining(dataset, sampler, at=iterations)


def variables(model):
    """Copies of everything a training changes in a model."""
    every = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in every]


def same(first, second):
    """Whether two lists of arrays are equal bit by bit."""
    return len(first) == len(second) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True)
    )


class Received(keras.metrics.Metric):
    """Writes down, inside the train step, the refs of the batch that the step received."""

    def __init__(self, steps, batch_size, name="received"):
        super().__init__(name=name)
        self.log = self.add_weight(shape=(steps, batch_size), initializer="zeros", name="log", dtype="int32")
        self.step = self.add_weight(shape=(), initializer="zeros", name="step", dtype="int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        refs = ops.cast(y_true[:, 0, 0], "int32")
        log, step = ops.convert_to_tensor(self.log), ops.convert_to_tensor(self.step)
        here = ops.equal(ops.arange(self.log.shape[0], dtype="int32"), step)
        self.log.assign(ops.where(here[:, None], refs[None] + 1, log))  # 0 stands for nothing received
        self.step.assign(self.step + 1)

    def result(self):
        return ops.cast(self.step, "float32")

    def reset_state(self):
        pass  # one log over all epochs

    def rows(self):
        return ops.convert_to_numpy(self.log.value) - 1


class Recorder(keras.callbacks.Callback):
    """Writes down which hooks were called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"begin {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"end {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(batch)
