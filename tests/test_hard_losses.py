"""Losses that dwell on hard pixels, against MONAI and against numbers worked out by hand."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbalance as kb
from kerasbalance.losses.hard_pixels import focal_loss, top_k_loss


def made(channels, seed=0):
    """Labels and probabilities of two slices."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, max(2, channels), (2, 5, 4, 1)).astype("uint8")
    logits = rng.normal(size=(2, 5, 4, channels)).astype("float32")
    if channels == 1:
        return truth, 1 / (1 + np.exp(-logits)), logits
    powers = np.exp(logits)
    return truth, powers / powers.sum(axis=-1, keepdims=True), logits


def value(loss):
    return float(ops.convert_to_numpy(loss).item())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_the_focal_loss_of_one_organ_is_monais(gamma):
    monai, torch = pytest.importorskip("monai.losses"), pytest.importorskip("torch")
    truth, probability, logits = made(1)
    as_torch = [torch.from_numpy(np.moveaxis(a, -1, 1).astype("float32")) for a in (logits, truth)]
    expected = float(monai.FocalLoss(gamma=gamma)(*as_torch))
    assert value(focal_loss(truth, probability, gamma=gamma)) == pytest.approx(expected, abs=1e-6)


def test_the_focal_loss_of_several_organs_is_monais_summed_over_channels():
    monai, torch = pytest.importorskip("monai.losses"), pytest.importorskip("torch")
    truth, probability, logits = made(3)
    as_torch = [torch.from_numpy(np.moveaxis(a, -1, 1).astype("float32")) for a in (logits, truth)]
    expected = 3 * float(monai.FocalLoss(to_onehot_y=True, use_softmax=True)(*as_torch))
    assert value(focal_loss(truth, probability)) == pytest.approx(expected, abs=1e-6)


def test_the_focal_loss_of_numbers_worked_out_by_hand():
    truth = np.array([[[[1], [0]]]], "uint8")
    probability = np.array([[[[0.25], [0.1]]]])
    # (0.75^2 * -ln 0.25 + 0.1^2 * -ln 0.9) / 2
    assert value(focal_loss(truth, probability)) == pytest.approx(0.3904221, abs=1e-6)


@pytest.mark.parametrize(("share", "expected"), [(0.25, 2.3025851), (0.26, 1.8444397), (1.0, 1.1196344)])
def test_only_the_hardest_pixels_count_rounded_up(share, expected):
    truth = np.array([[[[1], [1], [0], [0]]]], "uint8")
    probability = np.array([[[[0.1], [0.25], [0.5], [0.092]]]])
    # costs: -ln 0.1 = 2.302585, -ln 0.25 = 1.386294, -ln 0.5 = 0.693147, -ln 0.908 = 0.096511
    assert value(top_k_loss(truth, probability, share=share)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_pixels_together_are_the_plain_cross_entropy(channels):
    truth, probability, _ = made(channels)
    plain = (
        keras.losses.BinaryCrossentropy() if channels == 1 else keras.losses.SparseCategoricalCrossentropy()
    )
    expected = value(plain(truth, probability))
    assert value(top_k_loss(truth, probability, share=1.0)) == pytest.approx(expected, abs=1e-5)
    assert value(focal_loss(truth, probability, gamma=0)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("build", [kb.DiceFocalLoss, kb.DiceTopKLoss])
def test_the_class_is_the_dice_loss_plus_its_own_and_survives_serialisation(build):
    truth, probability, _ = made(1)
    own = {kb.DiceFocalLoss: focal_loss, kb.DiceTopKLoss: top_k_loss}[build]
    loss = build()
    expected = value(kb.DiceLoss()(truth, probability)) + value(own(truth, probability))
    assert value(loss(truth, probability)) == pytest.approx(expected, abs=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize("build", [kb.DiceFocalLoss, kb.DiceTopKLoss])
def test_a_model_trains_with_it_whatever_the_batch(build, tmp_path):
    keras.utils.set_random_seed(0)
    truth, image, _ = made(1)
    model = keras.Sequential(
        [keras.Input((5, 4, 1)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    )
    model.compile(keras.optimizers.SGD(0.5), loss=build())
    before = model.evaluate(image, truth, verbose=0)
    model.fit(image, truth, batch_size=1, epochs=10, verbose=0)
    assert model.evaluate(image, truth, verbose=0) < before
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").loss.get_config() == build().get_config()


LABELS = np.array([[[0, 1], [2, 1]], [[2, 0], [0, 0]]])
LOGITS = (np.arange(24, dtype="float32").reshape(2, 2, 2, 3) % 7) / 2 - 1
IGNORING = np.array([[[0, 255], [2, 1]], [[2, 0], [255, 255]]])


def test_weights_and_ignored_pixels_give_the_value_that_monai_gave():
    weighted = focal_loss(LABELS, LOGITS, from_logits=True, class_weights=[3, 0.5])
    assert value(weighted) == pytest.approx(1.3282404, abs=1e-6)
    assert value(focal_loss(IGNORING, LOGITS, from_logits=True, ignore_label=255)) == pytest.approx(
        1.6691173, abs=1e-6
    )


def test_the_hardest_share_is_one_of_the_annotated_pixels():
    truth = np.array([[[[1], [1], [0], [255], [255], [255]]]], "uint8")
    probability = np.array([[[[0.1], [0.25], [0.5], [0.0], [1.0], [0.9]]]])
    # costs: -ln 0.1 = 2.302585, -ln 0.25 = 1.386294, -ln 0.5 = 0.693147
    for share, expected in ((0.3, 2.3025851), (0.6, 1.8444397), (1.0, 1.4606755)):
        found = top_k_loss(truth, probability, share=share, ignore_label=255)
        assert value(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("build", [kb.DiceFocalLoss, kb.DiceTopKLoss])
def test_the_options_of_dice_hold_for_both_parts_and_survive_serialisation(build):
    options = {"class_weights": [3.0, 0.5], "ignore_label": 255, "from_logits": True, "slice_share": 0.2}
    loss = build(**options)
    other = {kb.DiceFocalLoss: focal_loss, kb.DiceTopKLoss: top_k_loss}[build]
    shared = {name: options[name] for name in ("class_weights", "ignore_label", "from_logits")}
    expected = value(kb.DiceLoss(**options)(IGNORING, LOGITS)) + value(other(IGNORING, LOGITS, **shared))
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert value(again(IGNORING, LOGITS)) == pytest.approx(expected, abs=1e-5)
    assert again.get_config() == loss.get_config()
    assert (again.from_logits, again.ignore_label) == (True, 255)


def test_a_dice_of_slices_alone_is_refused():
    with pytest.raises(
        ValueError, match=r"batch=False; expected a Dice loss over the batch.*pass slice_share"
    ):
        kb.DiceFocalLoss(batch=False)


def test_a_sure_error_costs_a_finite_number():
    assert value(focal_loss(np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1)))) == pytest.approx(
        16.118093, abs=1e-4
    )


def test_weights_and_numbers_out_of_range_are_refused():
    truth, probability, _ = made(1)
    with pytest.raises(ValueError, match="sample_weight; expected none"):
        kb.DiceTopKLoss()(truth, probability, sample_weight=np.ones(2))
    with pytest.raises(ValueError, match=r"share=0; expected a share"):
        kb.DiceTopKLoss(share=0)
    with pytest.raises(ValueError, match=r"gamma=-1; expected"):
        kb.DiceFocalLoss(gamma=-1)
