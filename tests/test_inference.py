"""Inference in bounded memory: the same output, feature maps released, batches as small as they must be."""

import gc
import weakref
from typing import ClassVar

import keras
import numpy as np
import pytest

import kerasbalance as kb
from kerasbalance.backend import inference
from kerasbalance.backend.inference import call_releasing, predict_batch, slices_at_a_time


class Watch(keras.layers.Layer):
    """Passes its input on and counts how many of the watched feature maps are alive."""

    alive: ClassVar = []
    most = 0

    def call(self, x):
        gc.collect()
        Watch.alive.append(weakref.ref(x))
        Watch.most = max(Watch.most, sum(reference() is not None for reference in Watch.alive))
        return x * 1.0


def chain(length):
    x = inputs = keras.Input((4, 4, 1))
    for _ in range(length):
        x = Watch()(x)
    return keras.Model(inputs, x)


@pytest.fixture(params=["unet", "fcn", "shared", "dropout"])
def model(request):
    keras.utils.set_random_seed(1)
    if request.param in ("unet", "fcn"):
        build = {"unet": kb.models.unet, "fcn": kb.models.fcn_vgg16}[request.param]
        return build((32, 32, 1), 2, base_filters=2)
    inputs = keras.Input((32, 32, 1))
    layer = keras.layers.Conv2D(3, 3, padding="same")
    x = keras.layers.Concatenate()([layer(inputs), layer(inputs * 2), inputs])
    if request.param == "dropout":
        x = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))


def test_the_output_is_that_of_the_model_bit_by_bit(model):
    x = np.random.default_rng(0).normal(0, 100, (2, 32, 32, 1)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(call_releasing(model, x)), expected)
    np.testing.assert_allclose(predict_batch(model, x), expected, atol=2e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends compile the model")
def test_no_feature_map_outlives_its_last_use_on_torch():
    model = chain(6)
    Watch.alive, Watch.most = [], 0
    predict_batch(model, np.zeros((1, 4, 4, 1), "float32"))
    assert len(Watch.alive) == 6
    assert Watch.most == 1


def test_a_functional_model_is_known_as_one_to_this_keras():
    model = kb.models.unet((32, 32, 1), base_filters=1)
    assert len(inference._nodes(model)) == len(model.operations) - 1  # all but the input


def test_a_model_of_another_kind_is_called_as_it_is():
    class Own(keras.Model):
        def call(self, x, training=False):
            return x + (1.0 if training else 2.0)

    assert float(predict_batch(Own(), np.zeros((1, 1), "float32"))[0, 0]) == 2.0


@pytest.mark.parametrize(
    ("side", "filters", "expected"),
    [(64, 8, 16), (512, 4, 2), (512, 8, 1), (512, 64, 1), (256, 8, 4)],
)
def test_the_largest_feature_map_of_a_batch_takes_at_most_16_mib(side, filters, expected):
    assert slices_at_a_time(kb.models.unet((side, side, 1), base_filters=filters), 16) == expected
