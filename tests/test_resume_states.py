"""What a resumed run must find again besides the weights, and what it is told to be other than before."""

import keras
import numpy as np
import pytest
from keras import ops
from made.training import arrays, same, training

import kerasbalance as kb

BACKEND = keras.config.backend()


class Crash(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("crash")


class TwoOptimizers(keras.Model):
    """Trains its two halves with an optimizer each, as a generative adversarial network does."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Conv2D(2, 3, padding="same")
        self.last = keras.layers.Conv2D(1, 1, activation="sigmoid")
        self.second_optimizer = keras.optimizers.Adam(0.01)

    def call(self, x, training=False):
        return self.last(self.first(x))

    def train_step(self, *args):
        x, y = args[0]
        for optimizer, half in ((self.optimizer, self.last), (self.second_optimizer, self.first)):
            weights = half.trainable_variables
            optimizer.apply(self.gradients_of(x, y, weights), weights)
        return {"loss": ops.mean(self.first.kernel), "halves": ops.ones(2)}

    def gradients_of(self, x, y, weights):
        if BACKEND == "torch":
            self.zero_grad()
            loss = ops.mean(ops.square(ops.cast(y, "float32") - self(x)))
            loss.backward()
            return [weight.value.grad for weight in weights]
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(ops.cast(y, "float32") - self(x)))
        return tape.gradient(loss, [weight.value for weight in weights])


def two_optimizers():
    keras.utils.set_random_seed(0)
    model = TwoOptimizers()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    return model


def wrapped_torch():
    import torch

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Permute((3, 1, 2)),
        keras.layers.TorchModuleWrapper(torch.nn.BatchNorm2d(1), output_shape=(None, 1, 8, 8)),
        keras.layers.Permute((2, 3, 1)),
        keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile(keras.optimizers.SGD(0.1), kb.DiceLoss())
    return model


def dataset():
    return kb.IndexedDataset(kb.ArraySource(*arrays()), kb.Index(range(20)), batch_size=4, steps_per_epoch=3)


def tensors(model):
    found = [ops.convert_to_numpy(variable.value) for variable in model.variables]
    if BACKEND == "torch":
        found += [buffer.numpy() for layer in model.layers for buffer in layer.buffers()]
    return found


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            two_optimizers, marks=pytest.mark.skipif(BACKEND == "jax", reason="its steps are stateless")
        ),
        pytest.param(wrapped_torch, marks=pytest.mark.skipif(BACKEND != "torch", reason="a torch module")),
    ],
)
def test_a_second_optimizer_and_buffers_of_torch_come_back(build, tmp_path):
    unbroken = build()
    kb.fit(unbroken, dataset(), 9, verbose=0)
    options = {"run_dir": tmp_path, "checkpoint_s": 0, "verbose": 0}
    with pytest.raises(RuntimeError, match="crash"):
        kb.fit(build(), dataset(), 9, callbacks=[Crash()], **options)
    resumed = build()
    history = kb.fit(resumed, dataset(), 9, resume=True, **options)
    assert same(tensors(resumed), tensors(unbroken))
    assert len(history.history["loss"]) == 3


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    model, data, mining = training(iterations=2)
    kb.fit(model, data, 5, callbacks=[mining], run_dir=folder, verbose=0)
    return folder


def resume(folder, model, data, mining):
    return kb.fit(model, data, 6, callbacks=[mining], run_dir=folder, resume=True, verbose=0)


def test_another_learning_rate_is_told_by_name(begun):
    model, data, mining = training(iterations=2)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.25, 100, 0.01)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), loss="mse")
    with pytest.warns(kb.CheckpointWarning, match=r"learning_rate.initial_learning_rate 0.25 instead of 0.1"):
        resume(begun, model, data, mining)


def test_other_data_are_told_by_name(begun):
    model, data, mining = training(iterations=2)
    data.source.x[0] += 1
    with pytest.warns(
        kb.CheckpointWarning, match="gives other data than when the run began; expected the same"
    ):
        resume(begun, model, data, mining)


def test_other_candidates_are_refused_by_name(begun):
    model, data, _ = training(iterations=2)
    sampler = kb.HardSliceSampler(range(10), range(10, 29), kb.lowest(0.3), flips=("none", "horizontal"))
    with pytest.raises(kb.CheckpointError, match=r"slices of mining.*expected .* settings that were saved"):
        resume(begun, model, data, kb.ScheduledMining(data, sampler, at=2))


class Logging(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["float32"] = np.float32(0.5)
        logs["organs"] = np.arange(2)


def test_logs_of_numpy_scalars_and_arrays_are_saved(tmp_path):
    model, data, _ = training()
    options = {"run_dir": tmp_path, "verbose": 0, "callbacks": [Logging()]}
    kb.fit(model, data, 5, **options)
    history = kb.fit(model, data, 5, resume=True, **options).history
    assert (history["float32"], history["organs"]) == ([0.5], [[0, 1]])


def test_an_average_of_the_weights_is_refused_under_mixed_float16_too():
    model, data, _ = training()
    inner = keras.optimizers.SGD(0.1, use_ema=True)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), loss="mse")
    with pytest.raises(ValueError, match="use_ema=True"):
        kb.fit(model, data, 5, verbose=0)


def test_checkpoints_do_not_grow_with_the_number_of_minings(tmp_path):
    sizes, results = [], []
    for name, total in (("few", 4), ("many", 12)):
        model, data, _ = training()
        sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3))
        mining = kb.ScheduledMining(data, sampler, every=2)
        kb.fit(model, data, total, callbacks=[mining], run_dir=tmp_path / name, verbose=0)
        newest = max((tmp_path / name / "checkpoint").glob("0*"))
        sizes.append((newest / "arrays.npz").stat().st_size)
        results = mining.results
    assert len(results) == 5
    assert sizes[1] - sizes[0] < 2000  # the metrics and the index may differ
    model, data, _ = training()
    again = kb.ScheduledMining(data, kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3)), every=2)
    kb.fit(model, data, 13, callbacks=[again], run_dir=tmp_path / "many", resume=True, verbose=0)
    assert len(again.results) == 6
    for before, after in zip(results, again.results, strict=False):
        assert before.score.tolist() == after.score.tolist()
        assert before.reason.tolist() == after.reason.tolist()


def test_a_missing_table_of_a_mining_is_named(begun):
    (table,) = (begun / "checkpoint").glob("mined-*.npz")
    content = table.read_bytes()
    table.write_bytes(content[:-1])
    model, data, mining = training(iterations=2)
    with pytest.raises(kb.CheckpointError, match="table of an earlier mining that is missing or damaged"):
        resume(begun, model, data, mining)
    table.write_bytes(content)
