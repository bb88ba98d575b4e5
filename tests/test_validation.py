"""Validation on whole cases, the best epoch and early stopping, and both after a kill."""

import keras
import numpy as np
import pytest
from made.training import arrays, same, segmenter, training, variables

import kerasbalance as kb
from kerasbalance.evaluation.thresholds import best_threshold, mean_case_dice

CASES = ["b", "b", "a", "a", "a", "c", "c"]


class Failure(Exception):
    """Stands for a crash."""


def validation(**options):
    """Seven slices of three cases, in a batch size that leaves a remainder."""
    return kb.Validation(kb.ArraySource(*arrays(7, seed=9)), range(7), CASES, batch_size=4, **options)


def oracle(model, thresholds):
    """NumPy: the mean case Dice at the best threshold."""
    x, y = arrays(7, seed=9)
    probability = np.asarray(model.predict_on_batch(x))[..., 0]
    means = []
    for threshold in np.float32(thresholds):
        dice = []
        for case in ("a", "b", "c"):
            mine = [n for n, name in enumerate(CASES) if name == case]
            predicted, true = probability[mine] > threshold, y[mine, ..., 0] > 0
            size = predicted.sum() + true.sum()
            if size:
                dice.append(2 * (predicted & true).sum() / size)
        means.append(np.mean(dice) if dice else -1)
    return max(means)


def test_val_dice_is_the_mean_case_dice_at_the_best_threshold_of_each_epoch():
    class Expected(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            expected.append(oracle(self.model, (0.1, 0.3, 0.5)))
            seen.append(logs["val_dice"])

    expected, seen = [], []
    model, dataset, mining = training(iterations=7)
    callbacks = [mining, Expected(), validation(thresholds=(0.1, 0.3, 0.5))]
    history = kb.fit(model, dataset, 12, callbacks=callbacks, verbose=0)
    assert seen == history.history["val_dice"]
    assert seen == pytest.approx(expected, abs=1e-12)
    assert len(set(seen)) == 3


def test_in_a_plain_fit_early_stopping_behind_it_sees_val_dice():
    model = segmenter()
    stopping = keras.callbacks.EarlyStopping("val_dice", mode="max", patience=1, min_delta=5)
    x, y = arrays(8)
    history = model.fit(x, y, epochs=9, shuffle=False, callbacks=[validation(), stopping], verbose=0)
    assert len(history.history["val_dice"]) == 2


def test_validating_changes_no_step_of_the_training():
    ends = []
    for callbacks in ([validation()], []):
        model, dataset, mining = training(iterations=6)
        kb.fit(model, dataset, 9, callbacks=[mining, *callbacks], verbose=0)
        ends.append(variables(model))
    assert same(*ends)


def test_a_case_without_the_organ_in_either_mask_counts_in_no_mean():
    counts = np.array([[[[2, 4, 4]], [[0, 0, 0]], [[0, 0, 0]]], [[[3, 4, 4]], [[0, 9, 0]], [[0, 0, 0]]]])
    scores = kb.ThresholdScores(np.arange(3), (0.4, 0.6), counts)
    assert mean_case_dice(scores, np.array([7, 8, 9])).tolist() == [[0.5], [0.375]]


@pytest.mark.parametrize(
    ("means", "place"), [([0.1, 0.9, 0.2], 1), ([0.9, 0.1, 0.9], 2), ([np.nan, 0, 0], 1), ([0.5, 0, 0.5], 2)]
)
def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_the_best(means, place):
    assert best_threshold((0.1, 0.4, 0.6), np.array(means)) == place


def test_validation_cases_without_any_organ_are_refused():
    x, y = arrays(4)
    model, dataset, _ = training()
    empty = kb.Validation(kb.ArraySource(x, y * 0), range(4), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="received validation cases whose masks are all empty"):
        kb.fit(model, dataset, 5, callbacks=[empty], verbose=0)


@pytest.mark.parametrize(("refs", "cases"), [([], []), ([0, 1], [0])])
def test_validation_needs_a_case_for_each_slice(refs, cases):
    with pytest.raises(ValueError, match=r"expected at least one slice, and one case for each"):
        kb.Validation(kb.ArraySource(*arrays(4)), refs, cases)


class Crash(keras.callbacks.Callback):
    """Crashes at the n-th call of a hook; a counter in a list is no state that would be saved."""

    def __init__(self, hook, number):
        super().__init__()
        left = [number]

        def count(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                raise Failure

        setattr(self, hook, count)


def best_and_patience():
    return keras.callbacks.EarlyStopping(
        "val_dice", mode="max", patience=2, restore_best_weights=True, start_from_epoch=2
    )


def run(crash=(), resume=False, **options):
    model, dataset, mining = training(iterations=7)
    if resume:  # another process begins with other weights
        for weight in model.weights:
            weight.assign(weight * 0 + 0.5)
    kept = best_and_patience()
    callbacks = [mining, *crash, kept, validation()]
    history = kb.fit(
        model, dataset, 80, callbacks=callbacks, checkpoint_s=0, resume=resume, verbose=0, **options
    )
    return variables(model), history.history, kept


@pytest.fixture(scope="module")
def unbroken():
    return run()


def test_the_best_epochs_weights_are_the_models_when_the_run_has_stopped(unbroken):
    _, history, kept = unbroken
    assert 2 <= kept.best_epoch == int(np.argmax(history["val_dice"][2:])) + 2 == len(history["loss"]) - 3
    model, dataset, mining = training(iterations=7)
    kb.fit(model, dataset, 5 * (kept.best_epoch + 1), callbacks=[mining], verbose=0)
    assert same(model.get_weights(), kept.model.get_weights())


def test_killed_in_each_epoch_and_at_the_end_the_best_epoch_is_kept_bit_by_bit(unbroken, tmp_path):
    crashes = [("on_epoch_end", 3), ("on_train_batch_begin", 8), ("on_train_end", 1)]
    for number, crash in enumerate(crashes):
        with pytest.raises(Failure):
            run([Crash(*crash)], resume=number > 0, run_dir=tmp_path)
    # the last checkpoint was written at the end of the last epoch, before the best weights were put back
    weights, history, _ = run([Crash("on_train_batch_begin", 1)], resume=True, run_dir=tmp_path)
    assert same(weights, unbroken[0])
    assert history == unbroken[1]
    again, _, _ = run([Crash("on_train_batch_begin", 1)], resume=True, run_dir=tmp_path)
    assert same(again[: len(weights)], weights)
