import keras
import numpy as np
import pytest
from made.training import Recorder, arrays, same, segmenter, training, variables

import kerasbalance as kb


def plain_fit(mining, dataset, model, epochs=4, **options):
    model.fit(dataset, epochs=epochs, callbacks=[mining], verbose=0, **options)


def test_the_table_is_that_of_the_model_at_the_moment_of_mining():
    model, dataset, mining = training(iterations=5)
    twin = segmenter()
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    twin.set_weights(model.get_weights())
    expected = kb.score_slices(twin, dataset.source, mining.sampler.candidates, 4)
    result = mining.mine(model, 5)
    assert np.array_equal(result.score, expected.dice[:, 0])
    assert dataset.index == mining.sampler.index
    assert result.hard.sum() == 6


def test_plain_fit_mines_at_the_first_epoch_at_or_after_the_iteration():
    for at, expected in ((0, [0]), (5, [5]), (6, [10]), ([4, 7], [5, 10]), ([6, 7], [10])):
        model, dataset, mining = training(iterations=at)
        plain_fit(mining, dataset, model)
        assert [result.iteration for result in mining.results] == expected


@pytest.mark.parametrize("at", [19, 5_000])
def test_a_plain_fit_in_which_nothing_is_mined_warns_when_it_begins(at):
    model, dataset, mining = training(iterations=at)
    with pytest.warns(UserWarning, match=f"next mining at {at}; expected mining at the beginning of one of"):
        plain_fit(mining, dataset, model)
    assert mining.results == []


def test_new_mining_on_a_dataset_that_was_trained_on_begins_at_0():
    model, dataset, mining = training(iterations=5)
    plain_fit(mining, dataset, model)
    again = kb.ScheduledMining(dataset, mining.sampler, at=5)
    plain_fit(again, dataset, model)
    assert [result.iteration for result in again.results] == [5]


def test_a_second_run_of_our_fit_with_the_same_objects_mines_again():
    model, dataset, mining = training(iterations=3)
    for _ in range(2):
        kb.fit(model, dataset, 6, callbacks=[mining], verbose=0)
        assert [result.iteration for result in mining.results] == [3]


def test_plain_fit_mines_every_so_many_steps():
    model, dataset, _ = training()
    sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.2))
    mining = kb.ScheduledMining(dataset, sampler, every=7)
    plain_fit(mining, dataset, model)
    assert [result.iteration for result in mining.results] == [10, 15]


def test_a_first_epoch_that_is_not_zero_counts_the_steps_before_it():
    model, dataset, mining = training(iterations=15)
    model.fit(dataset, initial_epoch=2, epochs=4, callbacks=[mining], verbose=0)
    assert [result.iteration for result in mining.results] == [15]


def test_our_fit_mines_at_the_exact_iterations_even_several_times_in_an_epoch():
    model, dataset, mining = training(iterations=[0, 3, 4, 9, 10])
    kb.fit(model, dataset, 12, callbacks=[mining], verbose=0)
    assert [result.iteration for result in mining.results] == [0, 3, 4, 9, 10]


def test_our_fit_does_not_mine_after_the_last_step():
    model, dataset, _ = training()
    sampler = kb.ProportionalSampler(range(30))
    mining = kb.ScheduledMining(dataset, sampler, every=4)
    kb.fit(model, dataset, 12, callbacks=[mining], verbose=0)
    assert [result.iteration for result in mining.results] == [4, 8]
    assert dataset.index.weights is not None


def test_two_kinds_of_mining_may_share_a_dataset():
    model, dataset, first = training(iterations=4)
    second = kb.ScheduledMining(dataset, kb.ProportionalSampler(range(30)), at=8)
    kb.fit(model, dataset, 10, callbacks=[first, second], verbose=0)
    assert (len(first.results), len(second.results)) == (1, 1)
    assert dataset.phase.number == 2


def test_a_rule_with_reference_slices_gets_them_scored():
    model, dataset, _ = training()
    rule = kb.below_worst_case(np.arange(20, 30), np.arange(10) // 5)
    mining = kb.ScheduledMining(dataset, kb.HardSliceSampler(range(10), range(10, 20), rule), at=0)
    result = mining.mine(model, 0)
    scores = kb.score_slices(model, dataset.source, rule.reference)
    assert result.threshold == scores.case_dice(rule.cases)[1].min()


def test_mining_that_finds_nothing_changes_no_step():
    ends = []
    for mined in (True, False):
        model, dataset, _ = training()
        sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.below(0))
        mining = kb.ScheduledMining(dataset, sampler, at=6) if mined else None
        if mined:
            dataset.swap = lambda index, iteration: None  # else a new phase begins, in another order
        kb.fit(model, dataset, 12, callbacks=[mining] if mined else [], verbose=0)
        ends.append(variables(model))
    assert same(*ends)


def test_mining_lives_with_keras_own_callbacks(tmp_path):
    model, dataset, mining = training(iterations=10)
    x, y = arrays(8, seed=5)
    recorder = Recorder()
    callbacks = [
        mining,
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.EarlyStopping(patience=50, monitor="val_loss"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        recorder,
    ]
    model.fit(dataset, epochs=4, validation_data=(x, y), callbacks=callbacks, verbose=0)
    assert [result.iteration for result in mining.results] == [10]
    assert (tmp_path / "log.csv").read_text().count("\n") == 5
    assert recorder.calls.count("train begin") == 1


def test_failed_scoring_changes_nothing():
    model, dataset, mining = training()
    before = dataset.index

    def stop(done, total):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        mining.mine(model, 3, stop)
    assert dataset.index is before
    assert mining.results == []
    assert mining.next_iteration() == 17


def test_state_brings_back_results_sampler_and_schedule():
    model, dataset, mining = training(iterations=[3, 8])
    mining.mine(model, 3)
    _, _, fresh = training(iterations=[3, 8])
    fresh.load_state(mining.state())
    assert fresh.next_iteration() == 8
    assert fresh.sampler.index == mining.sampler.index == dataset.index
    assert [repr(result) for result in fresh.results] == [repr(result) for result in mining.results]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "received at=None, every=None; expected exactly one"),
        ({"at": 1, "every": 2}, "received at=1, every=2"),
        ({"at": []}, r"received at=\[\]; expected at least one iteration"),
        ({"at": -1}, "received at=-1"),
        ({"every": 0}, "received every=0; expected a number of steps >= 1"),
    ],
)
def test_a_schedule_that_is_none_is_refused(options, message):
    _, dataset, mining = training()
    with pytest.raises(ValueError, match=message):
        kb.ScheduledMining(dataset, mining.sampler, **options)


def test_a_dataset_of_another_kind_is_refused():
    _, _, mining = training()
    with pytest.raises(TypeError, match="received a dataset of type list; expected an IndexedDataset"):
        kb.ScheduledMining([], mining.sampler, at=1)
