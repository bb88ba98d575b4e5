"""Several networks on several flips as one model: the mean, in bounded memory, saved and exported."""

import keras
import numpy as np
import pytest

import kerasbalance as kb
from kerasbalance.backend.inference import call_releasing, predict_batch, slices_at_a_time

SIZE = 16


@pytest.fixture(scope="module")
def members():
    keras.utils.set_random_seed(1)
    shape = (SIZE, SIZE, 1)
    return [
        keras.Sequential(
            [
                keras.Input(shape, dtype="int16"),
                keras.layers.Rescaling(0.01),
                keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
            ],
            name="network",
        )
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(5).normal(0, 150, (3, SIZE, SIZE, 1)).astype(np.int16)


def mean(members, x, axes):
    """NumPy: each network on each mirrored image, mirrored back, averaged."""
    found = [np.flip(predict_batch(m, np.flip(x, a).copy()), a) for a in axes for m in members]
    return np.mean(found, axis=0, dtype=np.float64)


AXES = {"none": (), "horizontal": (2,), "vertical": (1,), "both": (1, 2)}


@pytest.mark.parametrize("flips", [("none",), ("none", "horizontal"), ("both", "vertical"), tuple(AXES)])
def test_the_output_is_the_mean_over_networks_and_flips(members, x, flips):
    averaged = kb.models.average(members, flips)
    expected = mean(members, x, [AXES[flip] for flip in flips])
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(predict_batch(averaged, x), expected, atol=1e-6)


def test_one_network_without_flips_is_that_network_bit_by_bit(members, x):
    np.testing.assert_array_equal(
        predict_batch(kb.models.average(members[:1]), x), predict_batch(members[0], x)
    )


def test_an_average_is_scored_saved_and_loaded_as_any_model(members, x, tmp_path):
    averaged = kb.models.average(members, ("none", "horizontal"))
    averaged.save(tmp_path / "averaged.keras")
    loaded = keras.models.load_model(tmp_path / "averaged.keras", compile=False)
    np.testing.assert_array_equal(predict_batch(loaded, x), predict_batch(averaged, x))
    threshold = float(np.median(predict_batch(averaged, x)))
    scores = kb.score_slices(loaded, kb.ArraySource(x, (x > 0).astype("uint8")), [0, 2], threshold=threshold)
    assert scores.counts[:, 0, 1].tolist() == [
        (predict_batch(averaged, x)[n] > threshold).sum() for n in (0, 2)
    ]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras exports this form from TensorFlow")
def test_an_exported_average_gives_what_prediction_gives(members, x, tmp_path):
    import tensorflow as tf

    averaged = kb.models.average(members, ("none", "vertical"))
    averaged.export(tmp_path / "exported", format="tf_saved_model", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(
        np.asarray(exported.serve(tf.constant(x))), predict_batch(averaged, x), atol=1e-6
    )


def test_an_average_takes_no_more_memory_than_its_members(members, x):
    wide = [kb.models.unet((512, 512, 1), base_filters=8, seed=seed) for seed in (0, 1)]
    assert slices_at_a_time(kb.models.average(wide), 16) == slices_at_a_time(wide[0], 16) == 1
    averaged = kb.models.average(members, ("none", "both"))
    expected = keras.ops.convert_to_numpy(averaged(x, training=False))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(call_releasing(averaged, x)), expected)


@pytest.mark.parametrize("build", [kb.models.unet, kb.models.fcn_vgg16])
def test_two_networks_of_one_kind_are_part_of_one_graph(build):
    inputs = keras.Input((32, 32, 1), dtype="int16")
    first, second = (build((32, 32, 1), base_filters=1) for _ in range(2))
    assert keras.Model(inputs, first(inputs) + second(inputs)).count_params() == 2 * first.count_params()


def test_loaded_networks_of_the_same_name_are_averaged(members, x, tmp_path):
    members[0].save(tmp_path / "m.keras")
    loaded = [keras.models.load_model(tmp_path / "m.keras", compile=False) for _ in range(2)]
    assert loaded[0].name == loaded[1].name
    np.testing.assert_allclose(
        predict_batch(kb.models.average(loaded), x), predict_batch(members[0], x), atol=1e-7
    )


@pytest.mark.parametrize(
    ("sizes", "flips", "message"),
    [((), ("none",), "at least one model"), ((16, 32), ("none",), "all of one shape"),
     ((16,), ("diagonal",), "distinct names out of"), ((16,), (), "distinct names out of")],
)  # fmt: skip
def test_what_cannot_be_averaged_is_refused(sizes, flips, message):
    models = [kb.models.unet((size, size, 1), base_filters=1) for size in sizes]
    with pytest.raises(ValueError, match=message):
        kb.models.average(models, flips)
