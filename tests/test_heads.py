"""Masks against what a network can say: loss, metric and score take the same ones and refuse the same ones."""

import keras
import numpy as np
import pytest
from made.training import same, segmenter, training, variables

import kerasbalance as kb

RNG = np.random.default_rng(0)
BINARY = RNG.integers(0, 2, (4, 8, 8, 1)).astype("uint8")
SEVERAL = RNG.integers(0, 3, (4, 8, 8, 1)).astype("uint8")
ONE_HOT = np.eye(3, dtype="float32")[SEVERAL[..., 0]]
LOGITS = RNG.normal(size=(4, 8, 8, 3)).astype("float32")
IMAGES = np.zeros((4, 8, 8, 1), "float32")


def identity(channels):
    """A model whose output is its input."""
    return keras.Sequential([keras.Input((8, 8, channels)), keras.layers.Identity()])


def output(channels, from_logits=False):
    logits = LOGITS[..., :channels]
    if from_logits:
        return logits
    powers = np.exp(logits)
    return 1 / (1 + 1 / powers) if channels == 1 else powers / powers.sum(-1, keepdims=True)


def score(masks, predicted, **options):
    """The Dice of all slices together, by the counts of `score_slices`."""
    model = identity(predicted.shape[-1])
    counts = kb.score_slices(model, kb.ArraySource(predicted, masks), np.arange(4), 4, **options).counts
    return float(kb.dice_from_counts(counts.sum(axis=0)).mean())


def metric(masks, predicted, **options):
    found = kb.DiceScore(**options)
    found.update_state(masks, predicted)
    return float(found.result())


def loss(masks, predicted, **options):
    return float(kb.DiceLoss(**options)(masks, predicted))


REFUSED = {
    "a picture of 0 and 255": (
        BINARY * 255,
        1,
        "divide a picture of 0 and 255 by 255, or pass ignore_label=255",
    ),
    "two organs for one channel": (
        SEVERAL,
        1,
        r"softmax over 3 channels, or choose one organ with mask == 1",
    ),
    "a label above the classes": (
        SEVERAL + 1,
        3,
        "labels from 1 to 3 .* 3 channels; .*give the model 4 channels",
    ),
    "255 for several channels": (
        SEVERAL * 255,
        3,
        "or pass ignore_label=255 if that value means not annotated",
    ),
    "a negative label": (
        SEVERAL.astype("int8") - 1,
        3,
        "labels from -1 to 1 .*; expected labels from 0 to 2",
    ),
    "soft labels": (
        SEVERAL / np.float32(2),
        3,
        "no whole numbers .*pass a soft mask with one channel for each",
    ),
    "one-hot masks of 255": (ONE_HOT * 255, 3, "divide a picture of 0 and 255 by 255"),
}


@pytest.mark.parametrize("read", [loss, metric, score], ids=["loss", "metric", "score"])
@pytest.mark.parametrize("case", REFUSED)
def test_masks_that_the_output_cannot_say_are_refused_with_the_remedy(case, read):
    masks, channels, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        read(masks, output(channels))


@pytest.mark.parametrize("case", ["two organs for one channel"])
def test_in_a_compiled_step_they_give_nan_and_leave_the_weights_alone(case):
    masks, channels, _ = REFUSED[case]
    model = segmenter(classes=channels)
    model.compile(keras.optimizers.SGD(0.1), kb.DiceLoss(), metrics=[kb.DiceScore()])
    before = model.layers[0].get_weights()
    history = model.fit(IMAGES + 1, masks, batch_size=4, verbose=0).history
    assert np.isnan([history["loss"], history["dice_score"]]).all()
    assert same(before, model.layers[0].get_weights())


TAKEN = {
    "labels": (SEVERAL, 3),
    "labels of another type": (SEVERAL.astype("float32"), 3),
    "one-hot": (ONE_HOT, 3),
    "soft, one channel for each class": (0.6 * ONE_HOT + 0.2, 3),
    "binary": (BINARY, 1),
    "soft": (BINARY * np.float32(0.6), 1),
    "boolean": (BINARY > 0, 1),
}


@pytest.mark.parametrize("case", TAKEN)
def test_every_other_form_of_a_mask_scores_as_the_metric_does(case):
    masks, channels = TAKEN[case]
    predicted = output(channels)
    if channels == 1:
        pairs = [(predicted[..., 0] > 0.5, BINARY[..., 0] == 1)]
    else:
        pairs = [(predicted.argmax(-1) == organ, SEVERAL[..., 0] == organ) for organ in (1, 2)]
    expected = np.mean([2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in pairs])
    assert metric(masks, predicted) == pytest.approx(expected, abs=1e-6)
    assert score(masks, predicted) == pytest.approx(expected, abs=1e-12)


def test_logits_read_as_probabilities_are_refused():
    for read in (loss, metric, score):
        with pytest.raises(ValueError, match=r"expected probabilities.*from_logits=True"):
            read(BINARY, output(1, from_logits=True))


def test_a_model_compiled_with_a_loss_of_logits_is_scored_at_0():
    logits = output(1, from_logits=True)
    for compiled in (kb.DiceLoss(from_logits=True), keras.losses.BinaryCrossentropy(from_logits=True)):
        model = identity(1)
        model.compile("sgd", compiled)
        counts = kb.score_slices(model, kb.ArraySource(logits, BINARY), np.arange(4), 4).counts
        assert np.array_equal(counts[:, 0, 1], (logits[..., 0] > 0).sum((1, 2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_ignored_pixels_are_in_none_of_the_counts(channels):
    masks, predicted = (BINARY if channels == 1 else SEVERAL)[..., 0], output(channels)
    kept = RNG.random(masks.shape) < 0.6
    source = kb.ArraySource(predicted, np.where(kept, masks, 255).astype("uint8"))
    model = identity(channels)
    model.compile("sgd", kb.DiceLoss(ignore_label=255))  # scores follow the compiled loss
    found = kb.score_slices(model, source, np.arange(4), 4).counts
    labels = predicted[..., 0] > 0.5 if channels == 1 else predicted.argmax(-1)
    for organ in range(1, max(2, channels)):
        true, marked = (masks == organ) & kept, (labels == organ) & kept
        expected = [(true & marked).sum((1, 2)), marked.sum((1, 2)), true.sum((1, 2))]
        assert np.array_equal(found[:, organ - 1], np.stack(expected, axis=-1))
    model.compile("sgd", "mse")
    assert np.array_equal(kb.score_slices(model, source, np.arange(4), 4, ignore_label=255).counts, found)


def test_channels_that_come_first_are_refused_with_the_remedy():
    first = np.moveaxis(output(3), -1, 1)
    with pytest.raises(ValueError, match=r"Permute\(\(2, 3, 1\)\)"):
        loss(SEVERAL, first)
    for read in (loss, metric):
        for masks in (np.moveaxis(ONE_HOT, -1, 1), np.moveaxis(ONE_HOT, -1, 1)[:, 1:2]):
            with pytest.raises(ValueError, match=r"with more channels than rows.*Permute\(\(2, 3, 1\)\)"):
                read(masks, first[:, : masks.shape[1]])
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Permute((3, 1, 2))])
    with pytest.raises(ValueError, match=r"output of shape .*Permute\(\(2, 3, 1\)\)"):
        kb.score_slices(model, kb.ArraySource(IMAGES, BINARY), np.arange(4), 4)


def test_masks_of_other_channels_than_the_output_are_refused():
    with pytest.raises(ValueError, match=r"masks of 3 channels for an output of 1; expected labels"):
        score(ONE_HOT, output(1))


def plain_fit(model, dataset, iterations, **options):
    model.fit(dataset, epochs=iterations // len(dataset), **options)


@pytest.mark.parametrize("fit", [kb.fit, plain_fit])
def test_what_cannot_be_scored_is_refused_before_the_first_step(fit):
    model, dataset, mining = training(iterations=5)
    dataset.source.y *= 255
    before = variables(model)
    with pytest.raises(ValueError, match="a mask with values from 0 to 255 for an output of 1 channel"):
        fit(model, dataset, 10, callbacks=[mining], verbose=0)
    assert same(before, variables(model)[: len(before)])


def test_the_look_at_one_batch_changes_no_step():
    ends = []
    for looked in (True, False):
        model, dataset, mining = training(iterations=5)
        if not looked:
            mining.check_scoring = lambda model: None
        kb.fit(model, dataset, 10, callbacks=[mining], verbose=0)
        ends.append(variables(model))
    assert same(*ends)
