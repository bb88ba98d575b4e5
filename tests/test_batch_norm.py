import keras
import numpy as np
import pytest
from keras import ops
from made.gradients import gradient

from kerasbalance.models.normalization import FastBatchNormalization

X = np.random.default_rng(0).normal(3, 2, (3, 5, 4, 6)).astype("float32")
PULL = np.random.default_rng(1).normal(size=X.shape).astype("float32")


def layer_of(kind, **options):
    layer = kind(momentum=0.9, **options)
    layer.build(X.shape)
    rng = np.random.default_rng(2)
    layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return layer


@pytest.fixture(params=[True, False], ids=["training", "inference"])
def pair(request):
    return layer_of(FastBatchNormalization), layer_of(keras.layers.BatchNormalization), request.param


def test_outputs_and_moving_statistics_are_those_of_keras(pair):
    ours, theirs, training = pair
    for _ in range(2):
        outputs = [ops.convert_to_numpy(layer(X, training=training)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, atol=2e-6)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=5e-6)


def test_gradients_are_those_of_keras(pair):
    ours, theirs, training = pair
    slopes = [
        gradient(lambda x, f=layer: ops.sum(f(x, training=training) * ops.convert_to_tensor(PULL)), X)
        for layer in (ours, theirs)
    ]
    np.testing.assert_allclose(*slopes, atol=5e-6)


def weight_gradients(layer):
    if keras.backend.backend() == "torch":
        ops.sum(layer(X, training=True) * ops.convert_to_tensor(PULL)).backward()
        return [weight.value.grad.numpy() for weight in (layer.gamma, layer.beta)]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        total = ops.sum(layer(X, training=True) * ops.convert_to_tensor(PULL))
    return [slope.numpy() for slope in tape.gradient(total, [layer.gamma.value, layer.beta.value])]


def test_gradients_of_scale_and_offset_are_those_of_keras():
    if keras.backend.backend() == "jax":
        pytest.skip("there it is Keras' layer")
    layers = [layer_of(FastBatchNormalization), layer_of(keras.layers.BatchNormalization)]
    for ours, theirs in zip(*(weight_gradients(layer) for layer in layers), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"scale": False}, {"center": False}, {"trainable": False}, {"renorm": True}, {"dtype": "float64"}],
)
def test_what_the_backends_own_operation_does_not_cover_goes_to_keras(options):
    if options == {"dtype": "float64"} and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless asked for")
    ours, theirs = (
        layer_of(FastBatchNormalization, **options),
        layer_of(keras.layers.BatchNormalization, **options),
    )
    outputs = [ops.convert_to_numpy(layer(X, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_normalised_in_float32(precision):
    ours, theirs = (
        layer_of(kind, dtype=f"mixed_{precision}")
        for kind in (FastBatchNormalization, keras.layers.BatchNormalization)
    )
    outputs = [layer(1000 * X, training=True) for layer in (ours, theirs)]
    assert keras.backend.standardize_dtype(outputs[0].dtype) == precision
    outputs = [ops.convert_to_numpy(ops.cast(output, "float32")) for output in outputs]
    np.testing.assert_allclose(*outputs, rtol=2e-2, atol=2e-2)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-2)
