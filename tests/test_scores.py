"""The scores by loss, by disagreement, by a function and from outside, against NumPy and Keras."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from made.training import arrays, same, segmenter, variables

import kerasbalance as kb
from kerasbalance.backend import random_state
from kerasbalance.backend.compiled_loss import sample_losses

RNG = np.random.default_rng(0)
ALL = np.arange(7)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def linear(inputs, units, activation=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(inputs), keras.layers.Dense(units, activation=activation)])


def losses_of(model, x, y):
    """What Keras computes for each sample as a batch of its own."""
    found = []
    for row in range(7):
        one, target = (
            keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[row : row + 1]), part)  # noqa: B023
            for part in (x, y)
        )
        loss = model.compute_loss(x=one, y=target, y_pred=model(one, training=False), training=False)
        found.append(float(ops.convert_to_numpy(loss)))
    return np.array(found)


def check_loss(model, x, y, batch_size=4, rtol=1e-5):
    scores = kb.score_by_loss(model, kb.ArraySource(x, y), ALL, batch_size)
    np.testing.assert_allclose(1 / scores - 1, losses_of(model, x, y), rtol=rtol, atol=1e-6)


CLASSES = np.arange(7) % 3
MASKS = RNG.integers(0, 3, (7, 6, 6))


@pytest.mark.parametrize(
    ("loss", "units", "x", "y"),
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3, normal(7, 5), CLASSES),
        ("mse", 2, normal(7, 5), normal(7, 2)),
        ("mae", 1, normal(7, 9, 5), normal(7, 9, 1)),
        (keras.losses.MeanSquaredError(reduction="sum"), 2, normal(7, 9, 5), normal(7, 9, 2)),
        (keras.losses.BinaryCrossentropy(from_logits=True), 1, normal(7, 2, 3, 4, 5), normal(7, 2, 3, 4, 1) > 0),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3, normal(7, 6, 6, 1), MASKS),
        (kb.DiceLoss(from_logits=True), 3, normal(7, 6, 6, 1), MASKS),
        (kb.DiceLoss(from_logits=True, batch=False), 3, normal(7, 6, 6, 1), MASKS),
        (lambda y, p: ops.mean(ops.square(y - p)), 2, normal(7, 5), normal(7, 2)),
    ],
    ids=["classes", "regression", "signal", "sum", "volume", "masks", "batch-dice", "dice", "scalar"],
)  # fmt: skip
def test_the_loss_of_a_sample_is_that_of_a_batch_of_it_alone(loss, units, x, y):
    model = linear(x.shape[1:], units)
    model.compile("sgd", loss)
    check_loss(model, x, y)


def test_a_loss_that_defines_only_its_call_is_computed_sample_by_sample():
    class Bare(keras.losses.Loss):
        def __call__(self, y_true, y_pred, sample_weight=None):
            return ops.max(ops.abs(ops.cast(y_true, "float32") - y_pred))

    model = linear((5,), 2)
    model.compile("sgd", Bare())
    check_loss(model, normal(7, 5), normal(7, 2))


def two_headed(as_dict):
    keras.utils.set_random_seed(2)
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    both = keras.layers.Concatenate()([a, b])
    heads = [keras.layers.Dense(3, name="kind")(both), keras.layers.Dense(1, name="size")(both)]
    outputs = {"kind": heads[0], "size": heads[1]} if as_dict else heads
    return keras.Model({"a": a, "b": b}, outputs)


@pytest.mark.parametrize("as_dict", [True, False])
def test_losses_of_several_outputs_are_summed_with_their_weights(as_dict):
    model = two_headed(as_dict)
    kind = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if as_dict:
        model.compile("sgd", {"kind": kind, "size": "mse"}, loss_weights={"kind": 0.3, "size": 2.0})
    else:
        model.compile("sgd", [kind, "mse"], loss_weights=[0.3, 2.0])
    x = {"a": normal(7, 4), "b": normal(7, 3)}
    y = {"kind": CLASSES, "size": normal(7, 1)} if as_dict else (CLASSES, normal(7, 1))
    check_loss(model, x, y)


def test_masked_steps_of_a_sequence_do_not_count():
    keras.utils.set_random_seed(0)
    words = keras.Input((6,), dtype="int32")
    model = keras.Model(words, keras.layers.Dense(2)(keras.layers.Embedding(9, 4, mask_zero=True)(words)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = RNG.integers(1, 9, (7, 6))
    x[:, 4:] = 0
    check_loss(model, x.astype("int32"), RNG.integers(0, 2, (7, 6)))


def test_sample_weights_do_not_change_the_score():
    model = linear((5,), 2)
    model.compile("sgd", "mse")
    x, y = normal(7, 5), normal(7, 2)
    weighted = kb.score_by_loss(model, kb.ArraySource(x, y, np.arange(7.0)), ALL)
    np.testing.assert_array_equal(weighted, kb.score_by_loss(model, kb.ArraySource(x, y), ALL))


def test_the_order_of_losses_is_kept_from_tiny_to_huge():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    model.compile(loss="mae")
    x = np.array([[0], [1e-6], [1], [1e3], [1.01e3], [1e12], [1.01e12]], "float32")
    scores = kb.score_by_loss(model, kb.ArraySource(x, np.zeros((7, 1))), ALL)
    assert scores[0] == 1
    assert (np.diff(scores) < 0).all()
    assert scores[-1] > 0


def test_scoring_by_loss_leaves_model_metrics_and_random_state_as_they_were():
    model, source = segmenter(), kb.ArraySource(*arrays())
    model.fit(source.x, source.y, epochs=1, verbose=0)
    before, state = variables(model), random_state.get_state()
    metrics = [ops.convert_to_numpy(v.value) for v in model.metrics_variables]
    kb.score_by_loss(model, source, np.arange(30), 8)
    kb.score_by_disagreement(model, source, np.arange(30), 8)
    assert same(before, variables(model))
    assert same(metrics, [ops.convert_to_numpy(v.value) for v in model.metrics_variables])
    assert all(np.array_equal(random_state.get_state()[name], state[name]) for name in state)


def test_a_model_that_is_compiled_anew_is_scored_by_its_new_loss():
    model, x, y = linear((5,), 2), normal(7, 5), normal(7, 2)
    for loss in ("mse", "mae"):
        model.compile("sgd", loss)
        check_loss(model, x, y)


class OwnLoss(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(y_pred)


def test_what_has_no_compiled_loss_is_refused_with_the_remedy():
    source = kb.ArraySource(normal(7, 5), normal(7, 1))
    model = OwnLoss()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"a model with its own compute_loss; .*; pass score= a function"):
        kb.score_by_loss(model, source, ALL)
    with pytest.raises(
        ValueError, match=r"a model without a compiled loss; expected a loss passed to model.compile"
    ):
        kb.score_by_loss(linear((5,), 1), source, ALL)
    model = linear((5,), 1)
    model.compile("sgd", keras.losses.CosineSimilarity())
    with pytest.raises(
        ValueError, match=r"losses down to -1 for \d samples, .*; pass score= a function .* that maps"
    ):
        kb.score_by_loss(model, source, ALL)
    with pytest.raises(
        ValueError, match=r'a source without targets; .*; pass y to the source, or score="disagreement"'
    ):
        kb.score_by_loss(model, kb.ArraySource(normal(7, 5)), ALL)


def test_a_loss_that_is_nan_names_its_samples():
    x = normal(7, 5)
    x[3] = np.nan
    model = linear((5,), 1)
    model.compile("sgd", "mse")
    with pytest.raises(
        kb.NonFiniteError, match=r"in the score of 1 samples, first refs \[3\]; .*; check the weights"
    ):
        kb.score_by_loss(model, kb.ArraySource(x, normal(7, 1)), ALL)


def dice(a, b):
    size = a.sum() + b.sum()
    return 2 * (a & b).sum() / size if size else 1.0


def test_disagreement_is_the_dice_of_masks_predicted_for_an_image_and_its_mirror_images():
    model, (x, _) = segmenter(), arrays(7)
    predicted = lambda images: model.predict_on_batch(images)[..., 0] > 0.5  # noqa: E731
    plain = predicted(x)
    wanted = np.zeros(7)
    for axes in ((2,), (1,), (1, 2)):
        other = np.flip(predicted(np.flip(x, axes)), axes)
        wanted += [dice(a, b) / 3 for a, b in zip(plain, other, strict=True)]
    scores = kb.score_by_disagreement(
        model, kb.ArraySource(x), ALL, 4, flips=("horizontal", "vertical", "both")
    )
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    assert 0 < scores.min() < scores.max()


def test_disagreement_on_several_organs_is_that_of_the_worst_one():
    model, (x, _) = segmenter(classes=3), arrays(7)
    one, other = (
        model.predict_on_batch(x).argmax(-1),
        model.predict_on_batch(x[:, :, ::-1]).argmax(-1)[:, :, ::-1],
    )
    wanted = [min(dice(a == organ, b == organ) for organ in (1, 2)) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(kb.score_by_disagreement(model, kb.ArraySource(x), ALL, 4), wanted, atol=1e-6)


@pytest.mark.parametrize(("units", "activation"), [(3, "softmax"), (1, "sigmoid")])
def test_disagreement_on_classes_is_the_share_of_probability_that_moves(units, activation):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]
    model, (x, _) = keras.Sequential([keras.Input((8, 8, 1)), *layers]), arrays(7)
    one, other = (np.asarray(model.predict_on_batch(images), float) for images in (x, x[:, :, ::-1]))
    if units == 1:
        one, other = (np.hstack([p, 1 - p]) for p in (one, other))
    wanted = np.minimum(one, other).sum(1)
    np.testing.assert_allclose(kb.score_by_disagreement(model, kb.ArraySource(x), ALL), wanted, atol=1e-6)


def test_disagreement_turns_logits_into_probabilities_where_the_loss_takes_them():
    source = kb.ArraySource(arrays(7)[0])
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ended = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Softmax()])
    wanted = kb.score_by_disagreement(ended, source, ALL)
    np.testing.assert_allclose(kb.score_by_disagreement(model, source, ALL), wanted, atol=1e-6)


def test_what_cannot_be_compared_with_its_mirror_image_is_refused():
    images = kb.ArraySource(arrays(7)[0])
    with pytest.raises(ValueError, match=r'inputs of shape \(7, 5\); .*; pass score="loss", or a function'):
        kb.score_by_disagreement(linear((5,), 1), kb.ArraySource(normal(7, 5)), ALL, 7)
    flat = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Rescaling(9.0)])
    with pytest.raises(
        ValueError, match=r"outputs as far as \d+.* outside 0 to 1; .*; end the model with sigmoid"
    ):
        kb.score_by_disagreement(flat, images, ALL)
    with pytest.raises(ValueError, match=r"flips=\('none',\); expected flips other than .none.; pass flips"):
        kb.score_by_disagreement(flat, images, ALL, flips=("none",))
    odd = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Reshape((64, 1))])
    with pytest.raises(
        ValueError, match=r"an output of shape \(7, 64, 1\).*; wrap a model with several outputs"
    ):
        kb.score_by_disagreement(odd, images, ALL, 7)


def test_scores_of_no_samples_are_empty():
    model, source = segmenter(), kb.ArraySource(*arrays(7))
    assert kb.score_by_loss(model, source, []).shape == (0,)
    assert kb.score_by_disagreement(model, source, []).shape == (0,)


def mining_by(score, rule=None, **options):
    sampler = kb.HardSliceSampler(range(10), range(10, 30), rule or kb.lowest(0.3))
    dataset = kb.IndexedDataset(kb.ArraySource(*arrays()), sampler, batch_size=4)
    return kb.ScheduledMining(dataset, at=3, score=score, **options)


def far_refs(model, source, refs):
    return 1 - refs / len(source)


@pytest.mark.parametrize(
    "score",
    ["loss", "disagreement", far_refs, functools.partial(kb.score_by_disagreement, flips=("vertical",)),
     1 - np.arange(30) / 30, list(1 - np.arange(30) / 30)],
    ids=["loss", "disagreement", "function", "partial", "array", "list"],
)  # fmt: skip
@pytest.mark.parametrize("fit", ["ours", "plain"])
def test_mining_takes_any_score_in_any_fit(score, fit):
    mining, model = mining_by(score), segmenter()
    if fit == "ours":
        kb.fit(model, mining.dataset, 6, callbacks=[mining], verbose=0)
    else:
        model.fit(mining.dataset, epochs=2, shuffle=False, callbacks=[mining], verbose=0)
    (result,) = mining.results
    assert result.hard.sum() == 6 or "disagreement" in str(score)  # nothing may be left to disagree on
    if score is far_refs or isinstance(score, (list, np.ndarray)):
        assert result.ref[result.hard].tolist() == [24, 25, 26, 27, 28, 29]
    assert mining.dataset.index == mining.sampler.index


def test_mining_by_loss_selects_the_largest_losses():
    mining, model = mining_by("loss"), segmenter()
    result = mining.mine(model, 0)
    losses = ((model.predict_on_batch(arrays()[0]) - arrays()[1]) ** 2).mean((1, 2, 3))[10:]
    assert set(result.ref[result.hard]) == set(10 + np.argsort(losses)[-6:])


def test_a_function_that_draws_random_numbers_does_not_disturb_the_training():
    def drawing(model, source, refs):
        return np.asarray(ops.convert_to_numpy(keras.random.uniform((len(refs),))))

    before = random_state.get_state()
    mining_by(drawing).mine(segmenter(), 0)
    after = random_state.get_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_scores_from_a_csv_are_those_that_were_written(tmp_path):
    first = mining_by("loss")
    result = first.mine(segmenter(), 0)
    result.to_csv(tmp_path / "slices.csv")
    scores = kb.scores_from_csv(tmp_path / "slices.csv")
    assert scores.shape == (30,)
    assert np.isnan(scores[:10]).all()
    again = mining_by(scores).mine(segmenter(), 0)
    assert again.ref[again.hard].tolist() == result.ref[result.hard].tolist()


def test_a_csv_with_other_names_and_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "quality.csv").write_text("row,label_quality\n2,0.25\n0,1\n", encoding="utf-8-sig")
    scores = kb.scores_from_csv(tmp_path / "quality.csv", ref="row", score="label_quality")
    np.testing.assert_array_equal(scores, [1, np.nan, 0.25])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,score\n1,1\n", r"columns \['id', 'score'\]; expected the columns 'ref' and 'score'; name them"),
        ("ref,score\n1,1.5\n", r"a CSV of 1 rows with 1 refs and scores that are not all .*; keep one row"),
        ("ref,score\n1,0.5\n1,0.7\n", "a CSV of 2 rows with 1 refs"),
        ("ref,score\n", "a CSV of 0 rows"),
        ("ref,score\n1,good\n", r"a value that is no number \(.*good.*\); expected numbers; correct that value"),
        ("ref,score\n1\n", "a value that is no number"),
    ],
)  # fmt: skip
def test_a_csv_that_holds_no_scores_is_refused(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        kb.scores_from_csv(tmp_path / "s.csv")


def test_scores_that_leave_candidates_out_are_refused_when_mining():
    with pytest.raises(
        ValueError, match=r"scores for 25 rows, of which 5 of 20 candidates have none; .*; add the miss"
    ):
        mining_by(np.linspace(0, 1, 25)).mine(segmenter(), 0)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("accuracy", r"score='accuracy'; expected one of dice, loss, disagreement, a function .*; choose one of these"),
        ([0.5, 2], r"scores of shape \(2,\), not all from 0 to 1; .*; scale them, for instance with 1 / \(1 \+ loss\)"),
        ([], r"scores of shape \(0,\)"),
    ],
)  # fmt: skip
def test_a_score_that_is_none_is_refused(score, message):
    with pytest.raises(ValueError, match=message):
        mining_by(score)


def test_a_function_that_returns_no_scores_is_refused():
    with pytest.raises(
        ValueError, match=r"scores of shape \(3,\).*; return one number for each candidate, scaled"
    ):
        mining_by(lambda model, source, refs: [0.1, 0.2, 0.3]).mine(segmenter(), 0)


def test_a_rule_about_whole_cases_needs_dice():
    with pytest.raises(
        ValueError, match=r"score='loss' with a rule that compares with whole cases; .* use another rule"
    ):
        mining_by("loss", kb.below_worst_case(range(10), np.arange(10) // 5))


def test_mining_without_a_sampler_is_refused():
    dataset = kb.IndexedDataset(kb.ArraySource(*arrays()), kb.Index(range(10)), batch_size=4)
    with pytest.raises(
        ValueError, match=r"a dataset that was made with an index; .*; make the dataset with the sampler"
    ):
        kb.ScheduledMining(dataset, at=3)


def test_flips_of_the_sampler_that_the_source_cannot_make_are_refused_at_once():
    sampler = kb.HardSliceSampler(range(3), range(3, 7), kb.lowest(0.5), flips=("none", "vertical"))
    dataset = kb.IndexedDataset(kb.ArraySource(normal(7, 9, 5), CLASSES), sampler, batch_size=2)
    with pytest.raises(ValueError, match="flips of samples that are not images"):
        kb.ScheduledMining(dataset, at=3, score="loss")


def test_dice_of_what_has_no_single_mask_is_refused():
    source = kb.ArraySource({"a": normal(7, 8, 8, 1)}, MASKS)
    with pytest.raises(ValueError, match=r"samples of 2 arrays in 2 parts; expected one image and one mask"):
        kb.score_slices(segmenter(), source, ALL)


def test_the_names_that_the_loss_of_a_sample_takes_from_keras_exist():
    model = linear((5,), 2)
    model.compile("sgd", "mse")
    found = sample_losses(model, (normal(4, 5), normal(4, 2)))
    assert tuple(found(np.zeros((4, 2), "float32"), np.ones((4, 2), "float32")).shape) == (4,)
