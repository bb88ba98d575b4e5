"""Programs that a stranger writes from docs/any-model.md, and models of every make."""

import ast
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from made.training import arrays, same, variables

import kerasbalance as kb

PAGE = Path(__file__).parents[1] / "docs" / "any-model.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
PROGRAMS, (SCORE,) = BLOCKS[:3], BLOCKS[3:]


@pytest.mark.parametrize("number", range(3))
def test_a_program_of_ten_lines_from_the_docs_mines(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    statements = ast.parse(PROGRAMS[number]).body
    assert len([one for one in statements if not isinstance(one, ast.Import)]) <= 10
    names = {}
    exec(PROGRAMS[number], names)
    assert names["mining"].results[-1].hard.sum() in (75, 100, 15)


def test_the_score_function_of_the_docs_scores():
    names = {"np": np}
    exec(SCORE, names)
    model = keras.Sequential([keras.Input((3,)), keras.layers.UnitNormalization()])
    x = np.array([[3.0, 0, 0], [0, 2.0, 0]], "float32")
    y = np.array([[1.0, 0, 0], [0, -1.0, 0]], "float32")
    np.testing.assert_allclose(names["score"](model, kb.ArraySource(x, y), np.arange(2)), [1, 0], atol=1e-6)


def mined(model, source, score, tmp_path=None, **options):
    """Train with mining, and return the result of mining."""
    sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3))
    dataset = kb.IndexedDataset(source, sampler, batch_size=5, steps_per_epoch=2, seed=1)
    mining = kb.ScheduledMining(dataset, at=3, score=score)
    kb.fit(model, dataset, callbacks=[mining], run_dir=tmp_path, verbose=0, **options)
    return mining.results[-1]


class OwnStep(keras.Model):
    """Trains on a loss of its own making, through Keras' step."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def call(self, x):
        return self.layer(x)

    def train_step(self, *arguments):
        logs = super().train_step(*arguments)
        if keras.config.backend() != "jax":  # where a step returns its state and changes none
            self.steps.assign_add(1.0)
        return logs


def test_a_model_with_its_own_train_step_is_mined_and_resumes_exactly(tmp_path):
    def make():
        keras.utils.set_random_seed(0)
        model = OwnStep()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "binary_crossentropy")
        return model

    source = kb.ArraySource(*arrays())
    whole = make()
    result = mined(whole, source, "loss", iterations=6)
    assert result.hard.sum() == 6
    mined(make(), source, "loss", tmp_path, iterations=4)
    resumed = make()
    mined(resumed, source, "loss", tmp_path, iterations=6, resume=True)
    assert same(variables(whole), variables(resumed))


def test_only_the_adapters_of_a_model_with_lora_are_trained(tmp_path):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(8, activation="relu")
    model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(3, activation="softmax")])
    dense.enable_lora(2)
    model.layers[-1].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    frozen = np.array(keras.ops.convert_to_numpy(dense._kernel))
    adapter = np.array(keras.ops.convert_to_numpy(dense.lora_kernel_b))
    rng = np.random.default_rng(0)
    source = kb.ArraySource(rng.normal(size=(30, 4)).astype("float32"), np.arange(30) % 3)
    assert mined(model, source, "loss", tmp_path, iterations=6).hard.sum() == 6
    assert np.array_equal(keras.ops.convert_to_numpy(dense._kernel), frozen)
    assert not np.array_equal(keras.ops.convert_to_numpy(dense.lora_kernel_b), adapter)


@pytest.mark.skipif(os.environ["KERAS_BACKEND"] != "torch", reason="Keras wraps torch modules on torch only")
def test_a_torch_module_wrapped_by_keras_is_mined_and_resumes_exactly(tmp_path):
    import torch

    def make():
        keras.utils.set_random_seed(0)
        torch.manual_seed(0)
        inside = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        inputs = keras.Input((4,))
        outputs = keras.layers.Softmax()(
            keras.layers.TorchModuleWrapper(inside, output_shape=(None, 3))(inputs)
        )
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        return model

    rng = np.random.default_rng(0)
    source = kb.ArraySource(rng.normal(size=(30, 4)).astype("float32"), np.arange(30) % 3)
    whole = make()
    assert mined(whole, source, "loss", iterations=6).hard.sum() == 6
    mined(make(), source, "loss", tmp_path, iterations=4)
    resumed = make()
    mined(resumed, source, "loss", tmp_path, iterations=6, resume=True)
    assert same(variables(whole), variables(resumed))
