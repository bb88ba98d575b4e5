import keras
import numpy as np
import pytest
from keras import ops

import kerasbalance as kb
from kerasbalance.backend.torch_layout import lay_out_kernels, spared_layout_copies

on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="patches Keras' torch backend only")
OPERATIONS = {
    "convolution": lambda x, k: ops.conv(x, k, padding="same"),
    "strided convolution": lambda x, k: ops.conv(x, k, strides=2, padding="same"),
    "valid convolution": lambda x, k: ops.conv(x, k, padding="valid"),
    "transposed convolution": lambda x, k: ops.conv_transpose(x, k, strides=2, padding="same"),
    "depthwise convolution": lambda x, k: ops.depthwise_conv(x, k[:, :, :, :1], padding="same"),
    "largest of a pool": lambda x, k: ops.max_pool(x, 2),
    "mean of an uneven pool": lambda x, k: ops.average_pool(x, 3, strides=2, padding="same"),
}


@pytest.fixture
def torch_nn():
    """Keras' module of torch operations."""
    from keras.src.backend.torch import nn

    return nn


def output_and_gradients(operation):
    import torch

    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(2, 8, 10, 3)), requires_grad=True)
    kernel = torch.tensor(rng.normal(size=(3, 3, 3, 3)), requires_grad=True)
    output = operation(x, kernel)
    (output * torch.tensor(rng.normal(size=tuple(output.shape)))).sum().backward()
    parts = (output.detach(), x.grad, torch.zeros(1) if kernel.grad is None else kernel.grad)
    return [part.numpy() for part in parts]


@on_torch
@pytest.mark.parametrize("name", OPERATIONS)
def test_outputs_and_gradients_are_those_of_keras(torch_nn, name):
    expected = output_and_gradients(OPERATIONS[name])
    with spared_layout_copies() as in_place:
        found = output_and_gradients(OPERATIONS[name])
    assert in_place
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@on_torch
def test_a_2d_input_is_viewed_and_not_copied(torch_nn):
    import torch

    x = torch.zeros((2, 4, 4, 3))
    assert torch_nn._transpose_spatial_inputs(x).data_ptr() != x.data_ptr()
    with spared_layout_copies():
        view = torch_nn._transpose_spatial_inputs(x)
    assert view.data_ptr() == x.data_ptr()
    assert view.is_contiguous(memory_format=torch.channels_last)


@on_torch
def test_1d_and_3d_inputs_go_to_the_function_of_keras(torch_nn):
    import torch

    with spared_layout_copies():
        for shape, moved in (((2, 4, 3), (2, 3, 4)), ((2, 4, 5, 6, 3), (2, 3, 4, 5, 6))):
            assert tuple(torch_nn._transpose_spatial_inputs(torch.zeros(shape)).shape) == moved


@on_torch
def test_a_block_within_another_changes_nothing_and_the_outer_one_puts_keras_function_back(torch_nn):
    original = torch_nn._transpose_spatial_inputs
    with spared_layout_copies():
        first = torch_nn._transpose_spatial_inputs
        with spared_layout_copies() as in_place:
            assert in_place
            assert torch_nn._transpose_spatial_inputs is first
        assert torch_nn._transpose_spatial_inputs is first
    assert torch_nn._transpose_spatial_inputs is original


@on_torch
def test_an_error_in_the_block_puts_keras_function_back(torch_nn):
    original = torch_nn._transpose_spatial_inputs
    with pytest.raises(KeyError), spared_layout_copies():
        raise KeyError
    assert torch_nn._transpose_spatial_inputs is original


@on_torch
def test_a_keras_that_no_longer_copies_is_left_alone(torch_nn, monkeypatch):
    def mended(inputs):
        return inputs

    monkeypatch.setattr(torch_nn, "_transpose_spatial_inputs", mended)
    with spared_layout_copies() as in_place:
        assert not in_place
        assert torch_nn._transpose_spatial_inputs is mended


@on_torch
def test_a_keras_without_the_function_is_left_alone(torch_nn, monkeypatch):
    monkeypatch.delattr(torch_nn, "_transpose_spatial_inputs")
    with spared_layout_copies() as in_place:
        assert not in_place


@on_torch
def test_building_a_model_leaves_keras_as_it_is_and_fit_and_scoring_spare_the_copies(torch_nn):
    original = torch_nn._transpose_spatial_inputs
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(torch_nn._transpose_spatial_inputs.__module__)

    model = kb.models.unet((16, 16, 1), base_filters=1)
    assert torch_nn._transpose_spatial_inputs is original
    model.compile("sgd", kb.DiceLoss())
    source = kb.ArraySource(np.zeros((4, 16, 16, 1), np.int16), np.zeros((4, 16, 16), np.uint8))
    dataset = kb.IndexedDataset(source, kb.Index(range(4)), batch_size=2, steps_per_epoch=1)
    kb.fit(model, dataset, 1, callbacks=[Look()], verbose=0)
    kb.score_slices(
        model,
        source,
        [0],
        progress=lambda *done: seen.append(torch_nn._transpose_spatial_inputs.__module__),
    )
    assert seen == ["kerasbalance.backend.torch_layout"] * 2
    assert torch_nn._transpose_spatial_inputs is original


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="on torch there is something to do")
def test_on_another_backend_nothing_is_done():
    with spared_layout_copies() as in_place:
        assert not in_place


def small_network(optimizer):
    inputs = keras.Input((8, 8, 1))
    inner = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, padding="same"), keras.layers.ReLU()]
    )
    features = keras.layers.Conv2DTranspose(4, 2, strides=2)(keras.layers.MaxPooling2D()(inner(inputs)))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(features))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    model.compile(optimizer, loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_kernels_laid_out_for_torch_train_as_they_did(optimizer, tmp_path):
    x, y = np.random.default_rng(2).normal(size=(2, 6, 8, 8, 1))
    models = [small_network(optimizer) for _ in range(2)]
    before = models[0].get_weights()
    lay_out_kernels(models[0])
    for weight, old in zip(models[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    for model in models:
        model.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    models[0].save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), models[0].predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


@on_torch
def test_kernels_and_their_moments_lie_as_torch_convolves_them():
    import torch

    model = small_network("adam")
    lay_out_kernels(model)
    four = [v for v in (*model.variables, *model.optimizer.variables) if len(v.shape) == 4]
    assert len(four) == 9
    for variable in four:
        assert variable.value.permute(3, 2, 0, 1).is_contiguous(memory_format=torch.channels_last)
