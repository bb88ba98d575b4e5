import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import kerasbalance
from kerasbalance.losses.dice import DiceLoss
from kerasbalance.losses.metrics import DiceScore
from kerasbalance.losses.schedules import PolyDecay
from kerasbalance.models import HUWindow, fcn_vgg16, unet
from kerasbalance.models.convolution import SeededHeNormal

BACKEND = keras.backend.backend()
MODULES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
OTHERS = [name for name, module in MODULES.items() if name != BACKEND and importlib.util.find_spec(module)]
SMALL = {"unet": (unet, (16, 32, 1), 2), "fcn": (fcn_vgg16, (32, 64, 1), 2)}
both = pytest.mark.parametrize("network", SMALL)


def small(network, num_classes=1, **options):
    build, shape, base_filters = SMALL[network]
    return build(shape, num_classes, base_filters=base_filters, **options)


def slices(network, count=2):
    shape = SMALL[network][1]
    return np.random.default_rng(0).integers(-1024, 1500, (count, *shape)).astype("int16")


def disturb(model):
    """Move every weight, so that no layer hides behind an initial zero; variances stay positive."""
    rng = np.random.default_rng(0)
    moved = ((name.path, value, rng.normal(0, 0.1, value.shape)) for name, value in _paired(model))
    model.set_weights([value + np.abs(by) if "variance" in path else value + by for path, value, by in moved])


def _paired(model):
    return zip(model.weights, model.get_weights(), strict=True)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.fixture
def zero_weights(monkeypatch):
    """Skip drawing 134 million random numbers that no test looks at."""
    monkeypatch.setattr(SeededHeNormal, "__call__", lambda self, shape, dtype=None: ops.zeros(shape, dtype))


@pytest.fixture
def precision():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("zero_weights")
def test_the_plain_unet_has_the_weights_of_the_published_one():
    # Encoder 18,842,048 + decoder 12,188,480 + last 1 x 1 convolution 65. The same network is published with
    # 31,030,593 in many summaries; with two classes, as in the paper, it is 31,030,658.
    assert unet((16, 16, 1), batch_norm=False).count_params() == 31_030_593
    assert unet((16, 16, 1), 2, batch_norm=False).count_params() == 31_030_658


@pytest.mark.usefixtures("zero_weights")
def test_the_normalised_unet_has_the_weights_of_the_published_one():
    # Pytorch-UNet has 31,037,633 with three input channels, of which the second and third take 2 * 9 * 64.
    assert trainable(unet((16, 16, 1))) == 31_037_633 - 1_152


@pytest.mark.usefixtures("zero_weights")
def test_fcn_has_the_weights_of_vgg16_without_its_classifier_plus_the_scores():
    # VGG-16 138,357,544 less fc8 4,097,000; scores at 4096, 512 and 256 channels for the paper's 21 classes.
    vgg16 = 138_357_544 - 4_097_000
    assert fcn_vgg16((32, 32, 1), 21).count_params() == vgg16 + (4096 + 512 + 256 + 3) * 21 == 134_362_751


def test_the_window_clips_and_scales_hounsfield_units():
    hu = np.array([-1024, -150, 0, 50, 250, 3071], "int16").reshape(1, 1, 6, 1)
    window = ops.convert_to_numpy(HUWindow((-150, 250))(hu)).ravel()
    np.testing.assert_allclose(window, [0, 0, 0.375, 0.5, 1, 1], atol=1e-7)


def test_the_window_is_computed_in_float32_under_half_precision():
    window = HUWindow((0, 1000), dtype="mixed_bfloat16")(np.array([[[[501.0]]]], "float32"))
    assert keras.backend.standardize_dtype(window.dtype) == "bfloat16"
    # 0.501 is nearest to 0.5 in bfloat16; 501 HU rounded to bfloat16 first would be 502, and come out higher.
    assert float(ops.max(ops.cast(window, "float32"))) == 0.5


@pytest.mark.parametrize("window_hu", [(250, -150), (0, 0), (0, float("inf")), (0, 1, 2)])
def test_a_window_that_is_none_is_refused(window_hu):
    with pytest.raises(ValueError, match=r"window_hu=.*; expected two finite HU values, the lower one first"):
        HUWindow(window_hu)


@both
def test_the_window_is_an_option_that_reaches_the_graph(network):
    model = small(network, window_hu=(0, 200))
    window = keras.Model(model.inputs, model.get_layer("window").output)
    hu = np.full((1, *SMALL[network][1]), 50, "int16")
    assert np.unique(window.predict(hu, verbose=0)).tolist() == [0.25]


@both
@pytest.mark.parametrize(("num_classes", "activation"), [(1, "sigmoid"), (2, "softmax"), (4, "softmax")])
def test_one_organ_ends_in_a_sigmoid_and_several_in_a_softmax(network, num_classes, activation):
    model = small(network, num_classes)
    assert model.output_shape == (None, *SMALL[network][1][:2], num_classes)
    assert model.inputs[0].dtype == "int16"
    assert model.outputs[0].dtype == "float32"
    assert model.layers[-1].activation is keras.activations.get(activation)


@pytest.mark.parametrize(
    ("build", "shape", "stride"),
    [
        (unet, (40, 64, 1), 16),
        (unet, (None, None, 1), 16),
        (unet, (64, 64, 0), 16),
        (unet, (64, 64), 16),
        (fcn_vgg16, (48, 64, 1), 32),
    ],
)
def test_a_size_that_does_not_fit_is_refused(build, shape, stride):
    with pytest.raises(
        ValueError, match=rf"input_shape=\(.*expected \(height, .* divisible by {stride}\. Crop"
    ):
        build(shape, base_filters=1)


@both
@pytest.mark.parametrize("name", ["num_classes", "base_filters"])
def test_a_width_below_one_is_refused(network, name):
    build, shape, _ = SMALL[network]
    with pytest.raises(ValueError, match=f"{name}=0; expected an integer of at least 1"):
        build(shape, **{name: 0})


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1; expected an integer of at least 0"):
        small("unet", seed=-1)


@both
def test_the_seed_alone_determines_the_initial_weights(network):
    keras.utils.set_random_seed(1)
    first, other = small(network, seed=3), small(network, seed=4)
    keras.utils.set_random_seed(2)
    again = small(network, seed=3)
    for ours, same in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, same)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_every_backend_starts_from_the_same_weights():
    kernel = small("unet").get_layer("down1_conv1").get_weights()[0]
    assert kernel.ravel()[:3] == pytest.approx([-0.2907083, -0.3666655, -0.2147882], abs=1e-6)


def test_layers_of_one_shape_start_from_different_weights():
    model = unet((16, 16, 1), base_filters=1)
    bottom, top = (model.get_layer(name).get_weights()[0] for name in ("down1_conv2", "up1_conv2"))
    assert bottom.shape == top.shape
    assert not np.array_equal(bottom, top)


def test_initial_weights_have_the_variance_of_he():
    kernel = unet((16, 16, 1), base_filters=16).get_layer("bottom_conv2").get_weights()[0]
    assert np.var(kernel) == pytest.approx(2 / (9 * 256), rel=0.01)
    assert np.mean(kernel) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("network", "policy"), [("unet", "mixed_float16"), ("fcn", "mixed_bfloat16")])
def test_half_precision_trains_and_still_ends_in_float32(network, policy, precision):
    precision(policy)
    model = small(network)
    model.compile(keras.optimizers.SGD(0.01), loss=DiceLoss())
    x = slices(network)
    loss = model.train_on_batch(x, (x > 0).astype("uint8"))
    assert np.isfinite(loss)
    assert keras.backend.standardize_dtype(model.outputs[0].dtype) == "float32"
    assert keras.backend.standardize_dtype(model.get_layer("window").compute_dtype) == policy.split("_")[1]


def test_unet_learns_to_find_what_is_bright():
    mask = np.zeros((4, 16, 32, 1), "uint8")
    mask[0, 2:9, 3:12] = mask[1, 5:14, 10:30] = mask[2, 3:6, 20:28] = 1
    x = np.random.default_rng(0).normal(np.where(mask, 100, 0), 20).astype("int16")
    model = unet((16, 32, 1), base_filters=4)
    model.compile(keras.optimizers.SGD(PolyDecay(0.2, 30), momentum=0.9), DiceLoss(), metrics=[DiceScore()])
    history = model.fit(x, mask, batch_size=4, epochs=30, verbose=0).history
    assert history["dice_score"][-1] > 0.9


def test_the_package_gives_its_models_on_first_use():
    assert kerasbalance.models.unet is unet
    assert "models" in kerasbalance.__all__


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA is TensorFlow's choice to make")
def test_on_tensorflow_without_a_gpu_xla_is_off():
    import tensorflow

    if tensorflow.config.list_physical_devices("GPU"):
        pytest.skip("with a GPU, Keras turns XLA on")
    model = small("unet")
    model.compile("sgd", loss=DiceLoss())
    assert model.jit_compile is False


LOAD = """
import json, sys
import numpy as np, keras, kerasbalance.models
folder = sys.argv[1]
for name in json.loads(sys.argv[2]):
    path = f"{folder}/{name}.keras"
    assert type(keras.saving.load_model(path).loss).__name__ == "DiceLoss"
    # A file compiled on JAX says jit_compile=True, for which torch would compile for a minute.
    model = keras.saving.load_model(path, compile=False)
    x = np.load(f"{folder}/{name}_x.npy")
    np.save(f"{folder}/{name}_{keras.backend.backend()}.npy", model.predict_on_batch(x))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with both networks as this backend saved them, and what it predicts with them."""
    folder = tmp_path_factory.mktemp("saved")
    for network, num_classes in (("unet", 1), ("fcn", 3)):
        model = small(network, num_classes)
        disturb(model)
        model.compile(keras.optimizers.SGD(PolyDecay(0.1, 10)), loss=DiceLoss(), metrics=[DiceScore()])
        model.save(folder / f"{network}.keras")
        np.save(folder / f"{network}_x.npy", slices(network))
        np.save(folder / f"{network}_here.npy", model.predict_on_batch(slices(network)))
    return folder


@both
def test_the_output_is_a_probability(saved, network):
    output = np.load(saved / f"{network}_here.npy")
    assert output.dtype == np.float32
    assert 0 <= output.min() < output.max() <= 1
    assert np.std(output) > 1e-3
    if network == "fcn":
        np.testing.assert_allclose(output.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("backend", OTHERS or [BACKEND])
def test_a_saved_model_gives_the_same_output_on_every_backend(saved, backend):
    # One thread: torch's wait for each other by spinning, for minutes if something else has the cores.
    environment = {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD, str(saved), json.dumps(list(SMALL))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for network in SMALL:
        here, there = (np.load(saved / f"{network}_{name}.npy") for name in ("here", backend))
        np.testing.assert_allclose(there, here, atol=1e-5)


@pytest.fixture(scope="module")
def vgg16():
    donor = keras.applications.VGG16(weights=None, include_top=False)
    rng = np.random.default_rng(0)
    donor.set_weights(
        [rng.normal(0, np.sqrt(2 / max(w.size / w.shape[-1], 9)), w.shape) for w in donor.get_weights()]
    )
    return donor


@pytest.mark.usefixtures("zero_weights")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["notop.h5", "notop.weights.h5"])
def test_a_file_of_vgg16_weights_gives_its_features(tmp_path, vgg16, name):
    (vgg16.save_weights if name.endswith(".weights.h5") else vgg16.save)(tmp_path / name)
    ours = fcn_vgg16((32, 32, 1), weights=tmp_path / name)
    features = keras.Model(ours.inputs, ours.get_layer("block5_pool").output)
    hu = np.random.default_rng(1).integers(-150, 251, (1, 32, 32, 1)).astype("int16")
    gray = (hu.astype("float32") + 150) / 400 * 255
    expected = vgg16.predict(keras.applications.vgg16.preprocess_input(np.repeat(gray, 3, -1)), verbose=0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features.predict(hu, verbose=0) / scale, expected / scale, atol=1e-5)


def test_weights_at_another_width_are_refused(tmp_path):
    with pytest.raises(ValueError, match="base_filters=32; expected base_filters=64"):
        fcn_vgg16((32, 32, 1), base_filters=1 + 31, weights=tmp_path / "vgg16.h5")


@pytest.mark.usefixtures("zero_weights")
def test_a_file_that_is_missing_or_no_vgg16_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file\. Check"):
        fcn_vgg16((32, 32, 1), weights=tmp_path / "vgg16.h5")
    (tmp_path / "vgg16.h5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="cannot load into VGG-16; expected a file with the weights"):
        fcn_vgg16((32, 32, 1), weights=tmp_path / "vgg16.h5")
