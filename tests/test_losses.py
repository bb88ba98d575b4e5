import itertools

import keras
import numpy as np
import pytest
from keras import ops
from made.gradients import gradient

from kerasbalance.losses.dice import DiceLoss, dice_loss

TRUTH = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 1]]])
PROBABILITY = np.array([[[0.9, 0.2], [0.6, 0.3]], [[0.1, 0.4], [0.5, 0.8]]], "float32")[..., None]
LABELS = np.array([[[0, 1], [2, 1]], [[2, 0], [0, 0]]])
LOGITS = (np.arange(24, dtype="float32").reshape(2, 2, 2, 3) % 7) / 2 - 1


def value(*args, **kwargs):
    return float(ops.mean(dice_loss(*args, **kwargs)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": True}, 0.2954545),
        ({"batch": True, "smooth": 1e-5}, 0.3333329),
        ({"batch": False}, 0.2745614),
        ({"batch": False, "smooth": 1e-5}, 0.3542846),
    ],
)
def test_one_organ_gives_the_value_that_monai_gave(options, expected):
    assert value(TRUTH, PROBABILITY, **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": True, "include_background": True}, 0.6866058),
        ({"batch": True}, 0.6989312),
        ({"batch": False, "include_background": True}, 0.5992949),
        ({"batch": False}, 0.6061336),
    ],
)
def test_several_organs_give_the_value_that_monai_gave(options, expected):
    assert value(LABELS, LOGITS, from_logits=True, **options) == pytest.approx(expected, abs=1e-6)


def ignoring(labels, *places):
    """Mark the rows at some places as not annotated."""
    marked = labels.copy()
    for place in places:
        marked[place] = 255
    return marked


IGNORING = {"from_logits": True, "ignore_label": 255}


@pytest.mark.parametrize(
    ("y_true", "y_pred", "options", "expected"),
    [
        (TRUTH, PROBABILITY, {"squared": True}, 0.1576087),
        (LABELS, LOGITS, {"squared": True, "batch": False, "from_logits": True}, 0.4798243),
        (LABELS, LOGITS, {"class_weights": [3, 0.5], "from_logits": True}, 1.0920854),
        (
            LABELS,
            LOGITS,
            {"class_weights": [1, 3, 0.5], "include_background": True, "from_logits": True},
            0.9487085,
        ),
        (ignoring(LABELS, (0, 0, 1), (1, 1)), LOGITS, IGNORING, 0.6434802),
        (ignoring(LABELS, (0, 0, 1), (1, 1)), LOGITS, {**IGNORING, "batch": False}, 0.5200922),
        (ignoring(TRUTH, (0, 0, 0), (1, 0)), PROBABILITY, {"ignore_label": 255}, 0.3125),
    ],
)
def test_squares_weights_and_ignored_pixels_give_the_value_that_monai_gave(y_true, y_pred, options, expected):
    assert value(y_true, y_pred, **options) == pytest.approx(expected, abs=1e-6)
    assert float(DiceLoss(**options)(y_true, y_pred)) == pytest.approx(expected, abs=1e-6)


def test_a_share_of_the_slices_loss_is_mixed_in():
    # The values of the batch and of its slices are those of the first test of this file.
    assert value(TRUTH, PROBABILITY, slice_share=0.2) == pytest.approx(0.8 * 0.2954545 + 0.2 * 0.2745614)
    assert value(TRUTH, PROBABILITY, slice_share=1.0) == pytest.approx(0.2745614)


def test_a_weight_is_a_number_of_copies_in_the_slices_share_too():
    weighted = DiceLoss(slice_share=0.5)(TRUTH, PROBABILITY, sample_weight=np.array([3.0, 0.0]))
    copied = np.array([0, 0, 0])
    assert float(weighted) == pytest.approx(
        value(TRUTH[copied], PROBABILITY[copied], slice_share=0.5), abs=1e-6
    )


def test_pixels_that_are_not_annotated_get_no_gradient():
    y_true = ignoring(TRUTH, (0, 0, 0), (1, 0))
    options = {"ignore_label": 255, "slice_share": 0.5}
    slope = gradient(lambda array: ops.mean(dice_loss(y_true, array, **options)), PROBABILITY)
    assert np.array_equal(slope[..., 0] == 0, y_true == 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_share": 1.5}, r"slice_share=1.5 with batch=True; expected a share from 0 to 1"),
        (
            {"slice_share": 0.2, "batch": False},
            r"slice_share=0.2 with batch=False; .*; pass 0.2 with batch=True",
        ),
        ({"class_weights": [-1.0]}, r"class_weights=\[-1.0\]; expected finite numbers of at least 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    for build in (DiceLoss, lambda **options: dice_loss(TRUTH, PROBABILITY, **options)):
        with pytest.raises(ValueError, match=message):
            build(**options)


def test_other_weights_than_one_for_each_organ_are_refused():
    with pytest.raises(ValueError, match=r"received 3 class_weights for 2 organs; expected one for each"):
        dice_loss(LABELS, LOGITS, from_logits=True, class_weights=[1, 2, 3])
    with pytest.raises(ValueError, match=r"received 1 class_weights for 1 organ; .* leave them out"):
        dice_loss(TRUTH, PROBABILITY, class_weights=[2])


def test_a_result_of_half_precision_comes_from_sums_in_float32():
    ones = np.ones((1, 300, 300, 1), "float32")
    loss = DiceLoss(dtype="float16")(ones, ones)
    assert (keras.backend.standardize_dtype(loss.dtype), float(loss)) == ("float16", 0.0)


def monai_loss(y_true, y_pred, *, batch, include_background, smooth, from_logits, **options):
    """Return MONAI's loss and its gradient in the prediction, both channels-last."""
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    channels = y_pred.shape[-1]
    oracle = losses.DiceLoss(
        batch=batch,
        include_background=include_background or channels == 1,
        sigmoid=from_logits and channels == 1,
        softmax=from_logits and channels > 1,
        to_onehot_y=channels > 1,
        smooth_nr=smooth,
        smooth_dr=smooth,
        **options,
    )
    leaf = torch.tensor(y_pred, requires_grad=True)
    loss = oracle(leaf.movedim(-1, 1), torch.tensor(y_true, dtype=torch.float32)[:, None])
    loss.backward()
    return loss.item(), leaf.grad.numpy()


GRID = list(itertools.product([True, False], [True, False], [1.0, 1e-5], [False, True]))


@pytest.mark.parametrize("shape", [(4, 3, 5, 1), (3, 5, 2, 3), (1, 4, 4, 5)])
@pytest.mark.parametrize(("batch", "background", "smooth", "logits"), GRID)
def test_value_and_gradient_equal_monai(shape, batch, background, smooth, logits):
    rng = np.random.default_rng([*shape, batch, background])
    channels = shape[-1]
    y_true = rng.integers(0, max(channels, 2), shape[:-1])
    y_pred = rng.normal(0, 2, shape) if logits else rng.dirichlet(np.ones(channels + 1), shape[:-1])[..., 1:]
    y_pred = y_pred.astype("float32")
    options = {"batch": batch, "include_background": background, "smooth": smooth, "from_logits": logits}
    expected, expected_gradient = monai_loss(y_true, y_pred, **options)
    assert value(y_true, y_pred, **options) == pytest.approx(expected, abs=1e-6)
    ours = gradient(lambda array: ops.mean(dice_loss(y_true, array, **options)), y_pred)
    np.testing.assert_allclose(ours, expected_gradient, atol=1e-6)


@pytest.mark.parametrize("batch", [True, False])
def test_further_options_equal_monai(batch):
    rng = np.random.default_rng([7, batch])
    y_true, y_pred = rng.integers(0, 4, (3, 5, 4)), rng.normal(size=(3, 5, 4, 4)).astype("float32")
    y_true[rng.random(y_true.shape) < 0.3] = 255
    shared = {"batch": batch, "include_background": True, "smooth": 1.0, "from_logits": True}
    weights = [0.5, 1.0, 2.0, 4.0]
    ours = {**shared, "squared": True, "class_weights": weights, "ignore_label": 255}
    theirs = {**shared, "squared_pred": True, "weight": weights, "ignore_index": 255}
    expected, expected_gradient = monai_loss(y_true, y_pred, **theirs)
    assert value(y_true, y_pred, **ours) == pytest.approx(expected, abs=1e-6)
    found = gradient(lambda array: ops.mean(dice_loss(y_true, array, **ours)), y_pred)
    np.testing.assert_allclose(found, expected_gradient, atol=1e-6)


@pytest.mark.parametrize("batch", [True, False])
def test_empty_against_empty_costs_nothing(batch):
    empty = np.zeros((2, 4, 4, 1), "float32")
    assert np.asarray(ops.convert_to_numpy(dice_loss(empty, empty, batch=batch))).max() == 0.0


def test_on_an_empty_mask_the_gradient_pushes_every_false_positive_down():
    empty = np.zeros((1, 4, 4, 1), "float32")
    slope = gradient(lambda array: ops.mean(dice_loss(empty, array)), empty + np.float32(0.5))
    # d/dP of 1 - 1 / (P + 1) at a total prediction of P = 8 pixels.
    np.testing.assert_allclose(slope, 1 / 81, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32"])
@pytest.mark.parametrize("form", ["no last axis", "labels", "channels"])
def test_the_form_and_type_of_a_mask_do_not_matter(kind, form):
    y_true = {"no last axis": TRUTH, "labels": TRUTH[..., None], "channels": np.eye(2)[TRUTH]}[form]
    y_pred = np.concatenate([1 - PROBABILITY, PROBABILITY], axis=-1)
    assert value(y_true.astype(kind), y_pred) == pytest.approx(0.2954545, abs=1e-6)


def test_over_the_batch_a_weight_is_a_number_of_copies():
    copied = np.array([0, 0, 0])
    weighted = DiceLoss()(TRUTH, PROBABILITY, sample_weight=np.array([3.0, 0.0]))
    assert float(weighted) == pytest.approx(value(TRUTH[copied], PROBABILITY[copied]), abs=1e-6)


def test_per_slice_a_weight_multiplies_the_loss_of_its_slice():
    each = ops.convert_to_numpy(dice_loss(TRUTH, PROBABILITY, batch=False))
    weighted = DiceLoss(batch=False)(TRUTH, PROBABILITY, sample_weight=np.array([3.0, 0.5]))
    assert float(weighted) == pytest.approx((3 * each[0] + each[1] / 2) / 2, abs=1e-6)


def test_the_pure_function_weighs_as_the_class_does():
    weights = np.array([3.0, 0.5], "float32")
    for batch in (True, False):
        pure = value(TRUTH, PROBABILITY, batch=batch, sample_weight=weights)
        assert float(DiceLoss(batch=batch)(TRUTH, PROBABILITY, weights)) == pytest.approx(pure, abs=1e-6)


@pytest.mark.parametrize("batch", [True, False])
def test_a_weight_for_each_pixel_is_refused(batch):
    with pytest.raises(ValueError, match=r"sample_weight of shape \(2, 2, 2\).*expected one weight"):
        DiceLoss(batch=batch)(TRUTH, PROBABILITY, sample_weight=np.ones((2, 2, 2)))


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 2, 2), (1, 2, 2, 1), (2, 1, 2, 1)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"y_true of shape \(.*\) for y_pred of shape \(2, 2, 2, 1\); expected"
    ):
        dice_loss(np.zeros(shape), PROBABILITY)


@pytest.mark.parametrize("smooth", [0, -1.0, float("nan"), float("inf")])
def test_smoothing_that_leaves_the_empty_case_open_is_refused(smooth):
    for build in (DiceLoss, lambda smooth: dice_loss(TRUTH, PROBABILITY, smooth=smooth)):
        with pytest.raises(ValueError, match=r"smooth=.*; expected a finite number"):
            build(smooth=smooth)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_predictions_are_summed_in_float32(precision):
    ones = ops.ones((1, 300, 300, 1), dtype=precision)
    loss = dice_loss(np.ones((1, 300, 300, 1), "uint8"), ones)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(ops.mean(loss)) == 0.0


def test_the_class_survives_serialisation():
    loss = DiceLoss(
        include_background=True,
        smooth=0.5,
        from_logits=True,
        squared=True,
        class_weights=(1, 2),
        slice_share=0.2,
        ignore_label=255,
        reduction="sum",
        dtype="float16",
    )
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, DiceLoss)
    assert again.get_config() == loss.get_config()


def test_fit_trains_with_weights_and_the_saved_model_loads_without_custom_objects(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(1.0), loss=DiceLoss(smooth=0.5))
    before = model.evaluate(PROBABILITY, TRUTH, verbose=0)
    model.fit(PROBABILITY, TRUTH, sample_weight=np.array([1.0, 2.0]), epochs=3, verbose=0)
    after = model.evaluate(PROBABILITY, TRUTH, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert after < before
    assert again.evaluate(PROBABILITY, TRUTH, verbose=0) == pytest.approx(after, abs=1e-6)
    assert again.loss.get_config()["smooth"] == 0.5
