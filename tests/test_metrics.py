import keras
import numpy as np
import pytest

from kerasbalance.losses.metrics import DiceScore

EMPTY = np.zeros((2, 3, 3, 1), "float32")


def score(y_true, y_pred, sample_weight=None, **options):
    metric = DiceScore(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return float(metric.result())


def oracle(true, predicted):
    """Return Dice of two boolean arrays in float64."""
    return 2 * np.sum(true & predicted) / (np.sum(true) + np.sum(predicted))


def test_one_organ_equals_the_numpy_oracle():
    rng = np.random.default_rng(0)
    truth, probability = rng.integers(0, 2, (3, 8, 8)), rng.random((3, 8, 8, 1)).astype("float32")
    assert score(truth, probability) == pytest.approx(oracle(truth == 1, probability[..., 0] > 0.5), abs=1e-6)


@pytest.mark.parametrize("include_background", [True, False])
@pytest.mark.parametrize("form", ["labels", "channels"])
def test_several_organs_equal_the_numpy_oracle(include_background, form):
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 3, (3, 8, 8)), rng.normal(size=(3, 8, 8, 3)).astype("float32")
    truth = labels if form == "labels" else np.eye(3)[labels]
    organs = [0, 1, 2] if include_background else [1, 2]
    expected = np.mean([oracle(labels == organ, logits.argmax(-1) == organ) for organ in organs])
    assert score(truth, logits, include_background=include_background) == pytest.approx(expected, abs=1e-6)


def test_counts_are_summed_so_that_batches_and_empty_slices_change_nothing():
    rng = np.random.default_rng(2)
    truth, probability = rng.integers(0, 2, (5, 4, 4)), rng.random((5, 4, 4, 1))
    metric = DiceScore()
    for start in (0, 2, 4):
        metric.update_state(truth[start : start + 2], probability[start : start + 2])
    metric.update_state(EMPTY, EMPTY)
    assert float(metric.result()) == pytest.approx(score(truth, probability), abs=1e-6)


def test_empty_against_empty_scores_one():
    assert score(EMPTY, EMPTY) == 1.0
    assert float(DiceScore().result()) == 1.0


def test_a_false_positive_on_empty_masks_scores_zero():
    prediction = EMPTY.copy()
    prediction[0, 1, 1] = 0.6
    assert score(EMPTY, prediction) == 0.0


def test_the_threshold_itself_is_background():
    assert score(EMPTY, EMPTY + 0.5) == 1.0
    assert score(EMPTY, EMPTY, from_logits=True) == 1.0


def test_logits_are_thresholded_at_zero():
    assert score(EMPTY + 1, EMPTY + 0.1, from_logits=True) == 1.0


def test_an_absent_organ_scores_one_beside_a_missed_one():
    labels = np.array([[[1, 1], [0, 0]]])
    background = np.eye(3)[np.zeros((1, 2, 2), int)]
    assert score(labels, background) == 0.5


def test_a_weight_is_a_number_of_copies():
    rng = np.random.default_rng(3)
    truth, probability = rng.integers(0, 2, (3, 4, 4)), rng.random((3, 4, 4, 1))
    copied = np.array([0, 0, 2])
    weighted = score(truth, probability, np.array([2.0, 0.0, 1.0]))
    assert weighted == pytest.approx(score(truth[copied], probability[copied]), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_not_annotated_count_in_neither(channels):
    rng = np.random.default_rng(5)
    truth, probability = rng.integers(0, max(2, channels), (3, 6, 6)), rng.random((3, 6, 6, channels))
    kept = rng.random(truth.shape) < 0.6
    predicted = (probability[..., 0] > 0.5) if channels == 1 else probability.argmax(-1)
    organs = range(1, max(2, channels))
    expected = np.mean([oracle((truth == organ)[kept], (predicted == organ)[kept]) for organ in organs])
    marked = np.where(kept, truth, 255).astype("uint8")
    assert score(marked, probability, ignore_label=255) == pytest.approx(expected, abs=1e-6)


def test_a_reset_forgets_the_counts():
    metric = DiceScore()
    metric.update_state(EMPTY + 1, EMPTY)
    metric.reset_state()
    assert float(metric.result()) == 1.0


def test_weights_for_pixels_are_refused():
    with pytest.raises(ValueError, match=r"sample_weight of shape \(2, 3, 3\)"):
        score(EMPTY, EMPTY, np.ones((2, 3, 3)))


def test_it_reports_in_fit_and_reloads_with_the_model(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.random((6, 4, 4, 1)).astype("float32")
    truth = (x[..., 0] > 0.7).astype("uint8")
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.layers[0].set_weights([np.ones((1, 1, 1, 1)), np.array([-0.5])])
    model.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=[DiceScore()])
    history = model.fit(x, truth[..., None], batch_size=4, verbose=0).history
    expected = oracle(truth == 1, x[..., 0] > 0.5)
    assert history["dice_score"] == pytest.approx([expected], abs=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    report = again.evaluate(x, truth[..., None], verbose=0, return_dict=True)
    assert report["dice_score"] == pytest.approx(expected, abs=1e-6)


def test_the_metric_survives_serialisation():
    metric = DiceScore(include_background=True, from_logits=True, name="liver")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, DiceScore)
    assert again.get_config() == metric.get_config()
