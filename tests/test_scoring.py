import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from made.training import arrays, same, segmenter, variables

import kerasbalance as kb
from kerasbalance.backend import random_state
from kerasbalance.mining import scoring
from kerasbalance.mining.counts import dice_from_counts


def oracle(predicted, true, organs):
    """NumPy counts of label maps `(slices, height, width)`."""
    pairs = [(predicted == organ, true == organ) for organ in organs]
    columns = [[(p & t).sum((1, 2)), p.sum((1, 2)), t.sum((1, 2))] for p, t in pairs]
    return np.moveaxis(np.array(columns), -1, 0)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_counts_of_one_organ_equal_numpys_for_any_batch_size(batch_size):
    x, y = arrays(11)
    model, refs = segmenter(), np.array([10, 3, 3, 0, 7])
    scores = kb.score_slices(model, kb.ArraySource(x, y), refs, batch_size)
    predicted = np.asarray(model.predict_on_batch(x))[refs, ..., 0] > 0.5
    assert np.array_equal(scores.counts, oracle(predicted.astype(int), y[refs, ..., 0], [1]))
    assert scores.counts.dtype == np.int64
    assert scores.dice.dtype == np.float64


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", "(n, h, w)"), ("int64", "(n, h, w, 1)"), ("float32", "(n, h, w)")]
)
def test_counts_of_several_organs_equal_numpys(dtype, shape):
    x, _ = arrays(9)
    y = np.random.default_rng(0).integers(0, 4, (9, 8, 8)).astype(dtype)
    model = segmenter(classes=4)
    source = kb.ArraySource(x, y if shape == "(n, h, w)" else y[..., None])
    scores = kb.score_slices(model, source, np.arange(9), 4)
    predicted = np.asarray(model.predict_on_batch(x)).argmax(-1)
    assert np.array_equal(scores.counts, oracle(predicted, y, [1, 2, 3]))
    assert scores.dice.shape == (9, 3)


def test_counts_at_several_thresholds_equal_numpys_and_come_from_one_pass():
    x, y = arrays(11)
    read, source = [], kb.ArraySource(x, y)
    plain = source.read
    source.read = lambda refs, flips: read.append(len(refs)) or plain(refs, flips)
    model, thresholds = segmenter(), (0.2, 0.45, 0.5, 0.9)
    scores = kb.score_at_thresholds(model, source, np.arange(11), 4, thresholds=thresholds)
    probability = np.asarray(model.predict_on_batch(x))[..., 0]
    expected = [oracle((probability > t).astype(int), y[..., 0], [1]) for t in np.float32(thresholds)]
    assert np.array_equal(scores.counts, expected)
    assert len({int(counts.sum()) for counts in expected}) > 1
    assert sum(read) == 11
    assert np.array_equal(scores.at(0.5).counts, kb.score_slices(model, source, np.arange(11), 4).counts)


def test_a_threshold_weighs_the_most_probable_organ_against_the_background():
    x, _ = arrays(9)
    y = np.random.default_rng(0).integers(0, 4, (9, 8, 8)).astype("uint8")
    model, thresholds = segmenter(classes=4), (0.2, 0.5, 0.55)
    scores = kb.score_at_thresholds(model, kb.ArraySource(x, y), np.arange(9), 4, thresholds=thresholds)
    p = np.asarray(model.predict_on_batch(x)).astype("float64")
    organ = p[..., 1:].argmax(-1) + 1
    share = np.take_along_axis(p, organ[..., None], -1)[..., 0]
    share = share / (share + p[..., 0])
    expected = [oracle(np.where(share > t, organ, 0), y, [1, 2, 3]) for t in thresholds]
    assert np.array_equal(scores.counts, expected)
    assert np.array_equal(expected[1], oracle(p.argmax(-1), y, [1, 2, 3]))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -3.0])
def test_a_threshold_that_is_no_share_is_refused_for_several_classes(threshold):
    source = kb.ArraySource(*arrays(4))
    with pytest.raises(ValueError, match=r"threshold=.* for 3 classes; expected a share between 0 and 1"):
        kb.score_slices(segmenter(classes=3), source, np.arange(4), 4, threshold=threshold)


def test_no_threshold_at_all_is_refused():
    with pytest.raises(ValueError, match=r"received no threshold; expected at least one"):
        kb.score_at_thresholds(segmenter(), kb.ArraySource(*arrays(4)), np.arange(4), thresholds=())


def test_dice_of_counts_keeps_to_the_policy_of_empty_slices():
    counts = np.array([[0, 0, 0], [0, 3, 0], [0, 0, 3], [3, 3, 3], [1, 2, 4]])
    assert dice_from_counts(counts).tolist() == [1.0, 0.0, 0.0, 1.0, 1 / 3]


@given(st.lists(st.tuples(*[st.integers(0, 2**40)] * 3), min_size=1, max_size=20))
def test_dice_of_any_counts_is_finite(counts):
    assert np.isfinite(dice_from_counts(np.array(counts))).all()


def test_case_dice_comes_from_summed_counts():
    scores = kb.SliceScores(np.arange(3), np.array([[[5, 5, 5]], [[0, 5, 15]], [[1, 1, 1]]]))
    names, dice = scores.case_dice(np.array(["b", "b", "a"]))
    assert names.tolist() == ["a", "b"]
    assert dice.ravel().tolist() == [1.0, 10 / 30]


def test_few_bytes_a_slice_come_to_the_host():
    model = segmenter(classes=3)
    x, y = arrays(4)
    batch = (x, y[..., 0])
    table = scoring._scorer_of(model, scoring.SliceCounts((0.5,))).predict_on_batch(batch)
    assert table.dtype == np.int32
    assert table.nbytes / 4 <= 32


def test_no_refs_give_empty_scores():
    scores = kb.score_slices(segmenter(classes=3), kb.ArraySource(*arrays(2)), [])
    assert scores.dice.shape == (0, 2)


def test_logits_are_compared_with_a_threshold_of_zero():
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0)])
    x, y = arrays(6)
    scores = kb.score_slices(model, kb.ArraySource(x, y), np.arange(6), threshold=0.0)
    assert np.array_equal(scores.counts[:, 0, 1], (x[..., 0] > 0).sum((1, 2)))


def test_scoring_leaves_the_model_and_the_random_state_as_they_were():
    model, source = segmenter(), kb.ArraySource(*arrays())
    before, state = variables(model), random_state.get_state()
    layers, names = len(model.layers), [weight.path for weight in model.weights]
    kb.score_slices(model, source, np.arange(30), 8)
    assert same(before, variables(model))
    assert all(np.array_equal(random_state.get_state()[name], state[name]) for name in state)
    assert (len(model.layers), [weight.path for weight in model.weights]) == (layers, names)


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="only torch has random state outside of variables"
)
def test_a_model_that_draws_while_it_is_scored_does_not_disturb_the_training():
    class AlwaysDropping(keras.layers.Dropout):
        def call(self, x, training=False):
            return super().call(x, training=True)

    model = keras.Sequential([keras.Input((8, 8, 1)), AlwaysDropping(0.5)])
    before = random_state.get_state()
    kb.score_slices(model, kb.ArraySource(*arrays(4)), np.arange(4), threshold=0)
    assert np.array_equal(random_state.get_state()["cpu"], before["cpu"])


class ScoreDuringTraining(keras.callbacks.Callback):
    def __init__(self, source):
        super().__init__()
        self.source, self.seen = source, []

    def score(self):
        expected = np.asarray(self.model.predict_on_batch(self.source.x)) > 0.5
        counts = kb.score_slices(self.model, self.source, np.arange(30), 8).counts
        self.seen.append(np.array_equal(counts[:, 0, 1], expected[..., 0].sum((1, 2))))

    def on_epoch_begin(self, epoch, logs=None):
        self.score()

    def on_epoch_end(self, epoch, logs=None):
        self.score()

    def on_train_batch_begin(self, batch, logs=None):
        self.score()

    def on_train_batch_end(self, batch, logs=None):
        self.score()


def test_scoring_inside_any_hook_sees_the_weights_of_the_moment_and_changes_no_step():
    source = kb.ArraySource(*arrays())
    ends = []
    for callbacks in ([ScoreDuringTraining(source)], []):
        model = segmenter()
        model.fit(source.x, source.y, batch_size=10, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
        ends.append(variables(model))
        assert all(callback.seen == [True] * 16 for callback in callbacks)
    assert same(*ends)


def test_a_captured_model_can_be_scored_during_an_epoch():
    source, model = kb.ArraySource(*arrays()), segmenter()

    class Captured(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kb.score_slices(model, source, np.arange(5))

    model.fit(source.x, source.y, batch_size=10, callbacks=[Captured()], verbose=0)


def test_the_scorer_is_kept_and_neither_saved_nor_traced_again(tmp_path):
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), Traced(), keras.layers.Conv2D(1, 1, activation="sigmoid")]
    )
    source = kb.ArraySource(*arrays())
    kb.score_slices(model, source, np.arange(30), 8)
    first = len(traces)
    kb.score_slices(model, source, np.arange(7), 8)
    assert len(traces) == first + 1 if keras.config.backend() == "torch" else len(traces) == first
    model.save_weights(tmp_path / "m.weights.h5")
    other = keras.Sequential(
        [keras.Input((8, 8, 1)), Traced(), keras.layers.Conv2D(1, 1, activation="sigmoid")]
    )
    other.load_weights(tmp_path / "m.weights.h5")
    assert same(variables_of(other), variables_of(model))


def variables_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_scores_are_exact_under_mixed_precision(policy):
    x, y = arrays(8)
    try:
        keras.config.set_dtype_policy(policy)
        model = segmenter()
    finally:
        keras.config.set_dtype_policy("float32")
    predicted = np.asarray(model.predict_on_batch(x)).astype("float32")[..., 0] > 0.5
    scores = kb.score_slices(model, kb.ArraySource(x, y), np.arange(8), 8)
    assert np.array_equal(scores.counts, oracle(predicted.astype(int), y[..., 0], [1]))


def test_hounsfield_units_as_int16_are_scored():
    x, y = arrays(6)
    hu = (x * 1000).astype("int16")
    model = keras.Sequential([keras.Input((8, 8, 1), dtype="int16"), keras.layers.Rescaling(1 / 2**16, 0.5)])
    scores = kb.score_slices(model, kb.ArraySource(hu, y), np.arange(6))
    assert np.array_equal(scores.counts[:, 0, 1], (hu[..., 0] > 0).sum((1, 2)))


def test_a_model_that_gives_nan_is_refused_and_its_slices_are_named():
    x, y = arrays(6)
    x[4, 0, 0] = np.nan
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Activation("sigmoid")])
    with pytest.raises(kb.NonFiniteError, match=r"output for 1 slices, first refs \[4\]") as caught:
        kb.score_slices(model, kb.ArraySource(x, y), np.arange(6), 4)
    assert caught.value.refs == (4,)


def test_a_mask_of_another_size_is_refused():
    x, y = arrays(4)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.MaxPooling2D()])
    with pytest.raises(
        ValueError, match=r"received an output of shape .*4, 4, 1.* for masks of shape .*8, 8"
    ):
        kb.score_slices(model, kb.ArraySource(x, y), np.arange(4), 4)


@pytest.mark.parametrize("refs", [[4], [-1], [0.5]])
def test_refs_outside_the_source_are_refused(refs):
    with pytest.raises(ValueError, match=r"received|whole numbers"):
        kb.score_slices(segmenter(), kb.ArraySource(*arrays(4)), refs)


def test_progress_is_told_and_may_end_the_scoring():
    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 8:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        kb.score_slices(segmenter(), kb.ArraySource(*arrays()), np.arange(30), 4, progress=progress)
    assert seen == [(4, 30), (8, 30)]


@pytest.mark.parametrize("change", ["lora", "int8"])
def test_a_model_whose_variables_were_exchanged_is_scored_as_it_is(change):
    dense = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same"), dense])
    x, y = arrays(4)
    source = kb.ArraySource(x, y)
    kb.score_slices(model, source, np.arange(4), 4)
    if change == "lora":
        dense.enable_lora(1)
        dense.lora_kernel_b.assign(np.full((1, 1), 5.0))
    else:
        dense.quantize("int8")
    model.layers[0].kernel.assign(-model.layers[0].kernel)
    expected = ops.convert_to_numpy(model(x))[..., 0] > 0.5
    found = kb.score_slices(model, source, np.arange(4), 4).counts
    assert np.array_equal(found[:, 0, 1], expected.sum((1, 2)))


def test_a_model_that_would_be_scored_without_its_preprocessor_is_refused():
    model = segmenter()
    model.preprocessor = keras.layers.Rescaling(2.0)
    with pytest.raises(ValueError, match=r"a preprocessor \(Rescaling\).*set model.preprocessor = None"):
        kb.score_slices(model, kb.ArraySource(*arrays(4)), np.arange(4), 4)
