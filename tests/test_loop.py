import itertools
import os
import signal
import threading

import keras
import numpy as np
import pytest
from made.training import Recorder, arrays, same, segmenter, training, variables

import kerasbalance as kb

HISTORY_KEYS = ("loss", "val_loss")


class Failure(Exception):
    """Stands for a crash."""


class At(keras.callbacks.Callback):
    """Calls something before the n-th step of this process."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action
        self.steps = itertools.count(1)  # a number or a list would be saved and come back with resume

    def on_train_batch_begin(self, batch, logs=None):
        if next(self.steps) == self.step:
            self.action()


def crash():
    raise Failure


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def run(total=22, at=17, callbacks=(), parts=training, **options):
    model, dataset, mining = parts(iterations=at)
    options = {"verbose": 0, "validation_data": arrays(4, seed=9), "checkpoint_s": 0, **options}
    history = kb.fit(model, dataset, total, callbacks=[mining, *callbacks], **options)
    return end_state(model, dataset, mining, history)


def end_state(model, dataset, mining, history):
    arrays_of = [*dataset.state().values(), *mining.state().values()]
    return [*variables(model), *map(np.asarray, arrays_of), np.array(history.epoch)], history.history


def equal(first, second):
    return same(first[0], second[0]) and first[1] == second[1]


def checkpoints(run_dir):
    return sorted(entry.name for entry in (run_dir / "checkpoint").iterdir() if entry.is_dir())


def test_a_training_in_windows_ends_as_one_plain_fit_without_mining():
    # Without dropout: on torch a plain fit draws from the generator that unseeded dropout uses.
    model, dataset, _ = training(dropout=0.0)
    kb.fit(model, dataset, 15, verbose=0)
    plain, same_data, _ = training(dropout=0.0)
    plain.fit(same_data, epochs=3, shuffle=False, verbose=0)
    assert same(variables(model), variables(plain))


def test_callbacks_see_one_training_in_windows_of_constant_length():
    model, dataset, mining = training(iterations=[7, 8])
    recorder = Recorder()
    kb.fit(model, dataset, 12, callbacks=[mining, recorder], verbose=0)
    assert recorder.calls == [
        *("train begin", "begin 0", 0, 1, 2, 3, 4, "end 0"),
        *("begin 1", 0, 1, 2, 3, 4, "end 1"),
        *("begin 2", 0, 1, "end 2", "train end"),
    ]


def test_a_window_cut_by_mining_reports_the_mean_over_all_of_its_steps():
    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    histories = []
    for at in (7, 100):
        seen = []
        model, dataset, _ = training()
        sampler = kb.HardSliceSampler(range(10), range(10, 30), kb.below(0))
        dataset.swap = lambda index, iteration: None
        mining = kb.ScheduledMining(dataset, sampler, at=at)
        kept = (
            kb.fit(model, dataset, 101, callbacks=[mining, Losses()], verbose=0).history
            if at == 100
            else None
        )
        history = kept or kb.fit(model, dataset, 10, callbacks=[mining, Losses()], verbose=0).history
        histories.append(history["loss"][:2])
    assert histories[0] == histories[1]


def test_validation_runs_once_a_window(monkeypatch):
    model, dataset, mining = training(iterations=[3, 7, 8])
    count = []
    evaluate = type(model).evaluate
    monkeypatch.setattr(
        type(model), "evaluate", lambda self, *a, **k: count.append(1) or evaluate(self, *a, **k)
    )
    history = kb.fit(model, dataset, 12, callbacks=[mining], validation_data=arrays(4), verbose=0)
    assert len(count) == len(history.history["val_loss"]) == 3


@pytest.fixture(scope="module")
def unbroken():
    return run()


def test_a_run_with_checkpoints_ends_as_one_without(unbroken, tmp_path):
    assert equal(run(run_dir=tmp_path), unbroken)


def test_a_run_that_is_stopped_again_and_again_ends_bit_by_bit_as_the_unbroken_one(unbroken, tmp_path):
    stops = [
        (At(3, crash), Failure),  # in the first window
        (At(7, crash), Failure),  # in the second
        (At(3, terminate), kb.Interrupted),  # in the middle of a window
        (At(12, crash), Failure),  # after mining
        (At(2, terminate), kb.Interrupted),
    ]
    for number, (stop, error) in enumerate(stops):
        if number:
            keras.utils.set_random_seed(number)  # whatever state a new process begins with
        with pytest.raises(error):
            run(
                run_dir=tmp_path, resume=number > 0, callbacks=[stop], parts=disturbed if number else training
            )
    assert equal(run(run_dir=tmp_path, resume=True, parts=disturbed), unbroken)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_run_in_mixed_precision_resumes_bit_by_bit_too(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        expected = run()
        with pytest.raises(kb.Interrupted):
            run(run_dir=tmp_path, callbacks=[At(13, terminate)])
        assert equal(run(run_dir=tmp_path, resume=True, parts=disturbed), expected)
    finally:
        keras.config.set_dtype_policy("float32")


def disturbed(iterations):
    """The same parts in a process that begins with other weights and another random state."""
    parts = training(iterations=iterations)
    keras.utils.set_random_seed(77)
    for weight in parts[0].weights:
        weight.assign(weight * 0 + 0.5)
    return parts


def test_a_signal_during_mining_keeps_nothing_of_it_and_resume_mines_again(unbroken, tmp_path):
    model, dataset, mining = training(iterations=17)
    read, sent = dataset.source.read, []

    def interrupting(refs, flips):
        mining_now = dataset.requests >= 17  # one batch of candidates is scored before the training
        if threading.current_thread().name.startswith("kerasbalance-score") and mining_now and not sent:
            sent.append(terminate())
        return read(refs, flips)

    dataset.source.read = interrupting
    with pytest.raises(kb.Interrupted) as caught:
        kb.fit(
            model,
            dataset,
            22,
            callbacks=[mining],
            run_dir=tmp_path,
            checkpoint_s=0,
            verbose=0,
            validation_data=arrays(4, seed=9),
        )
    assert (caught.value.iteration, mining.results, caught.value.exit_code) == (17, [], 143)
    assert equal(run(run_dir=tmp_path, resume=True), unbroken)


def test_an_interruption_says_what_is_saved_and_how_to_go_on(tmp_path):
    with pytest.raises(kb.Interrupted, match=r"stopped by SIGINT after iteration 8;.*resume=True") as caught:
        run(run_dir=tmp_path, callbacks=[At(8, lambda: os.kill(os.getpid(), signal.SIGINT))])
    assert caught.value.exit_code == 130
    assert caught.value.checkpoint.name.endswith("-iteration-8")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_the_process_ignores_does_not_stop_it(unbroken, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = run(run_dir=tmp_path, callbacks=[At(8, lambda: os.kill(os.getpid(), signal.SIGINT))])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert equal(ended, unbroken)


def test_signals_are_not_caught_without_a_folder_to_save_to():
    with pytest.raises(KeyboardInterrupt) as caught:
        run(callbacks=[At(3, lambda: os.kill(os.getpid(), signal.SIGINT))])
    assert not isinstance(caught.value, kb.Interrupted)


def test_resume_of_an_ended_run_returns_its_history_and_trains_no_more(unbroken, tmp_path):
    run(run_dir=tmp_path)
    recorder = Recorder()
    assert equal(run(run_dir=tmp_path, resume=True, callbacks=[recorder], parts=disturbed), unbroken)
    assert recorder.calls == []


def test_a_run_may_be_made_longer(tmp_path):
    run(total=20, run_dir=tmp_path)
    assert equal(run(total=30, run_dir=tmp_path, resume=True), run(total=30))


def test_trainings_branch_off_one_that_ended_before_they_mine(unbroken, tmp_path):
    model, dataset, _ = training()
    kb.fit(model, dataset, 15, run_dir=tmp_path, validation_data=arrays(4, seed=9), verbose=0)
    assert equal(run(run_dir=tmp_path, resume=True), unbroken)
    model, dataset, _ = training()
    with pytest.raises(kb.CheckpointError, match="mining callbacks"):  # fewer than were saved
        kb.fit(model, dataset, 30, run_dir=tmp_path, resume=True, verbose=0)


def test_mining_that_was_due_before_the_checkpoint_cannot_be_added(tmp_path):
    model, dataset, mining = training(iterations=14)
    kb.fit(model, dataset, 15, run_dir=tmp_path, verbose=0)
    with pytest.raises(kb.CheckpointError, match="mining callbacks"):
        kb.fit(model, dataset, 22, callbacks=[mining], run_dir=tmp_path, resume=True, verbose=0)


def test_early_stopping_counts_on_after_a_resume_and_ends_the_run(tmp_path):
    def patience():
        return keras.callbacks.EarlyStopping(
            monitor="loss", patience=3, min_delta=100, restore_best_weights=True
        )

    expected = run(total=60, callbacks=[patience()])
    with pytest.raises(Failure):
        run(total=60, run_dir=tmp_path, callbacks=[patience(), At(13, crash)])
    resumed = run(total=60, run_dir=tmp_path, resume=True, callbacks=[patience(), At(99, crash)])
    assert equal(resumed, expected)
    assert len(expected[1]["loss"]) == 4
    again = run(total=60, run_dir=tmp_path, resume=True, callbacks=[patience(), At(1, crash)])
    assert again[1] == expected[1]


def test_the_newest_checkpoint_falls_back_loudly_and_the_run_ends_the_same(unbroken, tmp_path):
    with pytest.raises(Failure):
        run(run_dir=tmp_path, callbacks=[At(13, crash)])
    newest = checkpoints(tmp_path)[-1]
    path = tmp_path / "checkpoint" / newest / "arrays.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(
        kb.CheckpointWarning, match=rf"checkpoint {newest} is damaged .*going on from the older"
    ):
        assert equal(run(run_dir=tmp_path, resume=True, callbacks=[At(99, crash)]), unbroken)


def test_resume_without_a_valid_checkpoint_is_an_error(tmp_path):
    with pytest.raises(kb.CheckpointError, match=r"no valid checkpoint in .*call fit without resume=True"):
        run(run_dir=tmp_path, resume=True)


def test_a_new_run_in_the_folder_of_another_is_an_error(tmp_path):
    run(total=3, at=1, run_dir=tmp_path)
    with pytest.raises(kb.CheckpointError, match=r"received run_dir with 2 checkpoints.*pass resume=True"):
        run(run_dir=tmp_path)


def test_a_run_of_other_settings_is_not_resumed(tmp_path):
    run(total=3, at=1, run_dir=tmp_path)
    with pytest.raises(kb.CheckpointError, match=r'"seed": \[8, 3\]'):
        run(run_dir=tmp_path, resume=True, parts=lambda iterations: training(iterations, seed=8))


def test_a_run_of_another_model_is_not_resumed_and_the_model_is_left_alone(tmp_path):
    def other(iterations):
        _, dataset, mining = training(iterations)
        return models.setdefault("other", segmenter(classes=2)), dataset, mining

    models = {}
    run(total=3, at=1, run_dir=tmp_path)
    with pytest.raises(
        kb.CheckpointError, match=r"received a model with 9 variables, the first other one .*conv"
    ):
        run(run_dir=tmp_path, resume=True, parts=other)
    assert same(variables(models["other"])[:1], variables(segmenter(classes=2))[:1])


def nan_parts(iterations):
    model, dataset, mining = training(iterations)
    dataset.source.x[7, 3, 3] = np.nan
    return model, dataset, mining


def test_a_nan_voxel_stops_the_run_names_iteration_and_slice_and_leaves_a_finite_checkpoint(tmp_path):
    model, dataset, mining = nan_parts(17)
    first = next(i for i in range(99) if 7 in dataset.refs(i))
    with pytest.raises(
        kb.NonFiniteError, match=rf"at iteration {first}, batch refs .*refs \[7\] hold NaN"
    ) as caught:
        kb.fit(model, dataset, 22, callbacks=[mining], run_dir=tmp_path, checkpoint_s=0, verbose=0)
    assert (caught.value.iteration, caught.value.refs) == (first, (7,))
    from kerasbalance.training.checkpoint import CheckpointFolder

    with CheckpointFolder(tmp_path / "checkpoint") as folder:
        kept = folder.load()
    assert kept.info["iteration"] <= first
    assert all(np.isfinite(array).all() for array in kept.arrays.values() if array.dtype.kind == "f")


def test_a_diverged_loss_ends_the_run_at_once_and_not_at_the_windows_end():
    model, dataset, _ = training(steps=60)
    dataset.source.x[:] = 1e30
    model.compile("sgd", loss=lambda y, p: keras.ops.sum(p) * float("inf"))
    recorder = Recorder()
    with pytest.raises(kb.NonFiniteError, match="a loss that is NaN or infinite at iteration 0"):
        kb.fit(model, dataset, 60, callbacks=[recorder], verbose=0)
    assert len(recorder.calls) < 40


class Overflow(keras.layers.Layer):
    """Holds a weight that becomes infinite in the 8th step, of which the output shows nothing."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            count = keras.ops.convert_to_tensor(self.count)
            self.count.assign(keras.ops.where(count >= 7, float("inf"), count + 1))
        return x


def test_weights_that_become_infinite_unseen_by_the_loss_are_found(tmp_path):
    _, dataset, _ = training()
    model = keras.Sequential([keras.Input((8, 8, 1)), Overflow(), keras.layers.Conv2D(1, 1)])
    model.compile("sgd", loss="mse")
    with pytest.raises(
        kb.NonFiniteError, match=r"weights that are NaN or infinite at iteration 7, batch"
    ) as caught:
        kb.fit(model, dataset, 22, run_dir=tmp_path, verbose=0)
    assert caught.value.refs == tuple(dataset.refs(7))


def test_a_diverged_run_without_a_folder_is_stopped_too():
    model, dataset, mining = nan_parts(17)
    with pytest.raises(kb.NonFiniteError, match=r"NaN or infinite .*(nothing was saved|with run_dir)"):
        kb.fit(model, dataset, 22, callbacks=[mining], verbose=0)


def test_an_error_of_the_source_arrives_as_it_was_raised():
    model, dataset, mining = training()
    read = dataset.source.read

    def broken(refs, flips):
        if 9 in refs:
            raise LookupError("slice 9 cannot be read")
        return read(refs, flips)

    dataset.source.read = broken
    with pytest.raises(LookupError, match="slice 9 cannot be read"):
        kb.fit(model, dataset, 22, callbacks=[mining], verbose=0)


def test_no_thread_outlives_a_run_that_failed():
    before = {thread for thread in threading.enumerate() if "kerasbalance" not in thread.name}
    with pytest.raises(Failure):
        run(callbacks=[At(3, crash)])
    after = {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}
    assert after <= before


def test_a_fresh_fit_begins_at_iteration_zero_whatever_was_done_with_the_dataset():
    model, dataset, _ = training()
    dataset.swap(dataset.index, 40)
    kb.fit(model, dataset, 4, callbacks=[], verbose=0)
    assert dataset.phase.begin == 0


def compiled(model, **options):
    model.compile(options.pop("optimizer", "sgd"), loss="mse", **options)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, d, s: (m, d, s, {"iterations": 0}), "received iterations=0"),
        (lambda m, d, s: (m, d, s, {"resume": True}), "received resume=True without run_dir"),
        (
            lambda m, d, s: (m, d, s, {"iterations": 17}),
            "received mining at iteration 17; expected one before",
        ),
        (
            lambda m, d, s: (keras.Sequential([keras.Input((8, 8, 1))]), d, s, {}),
            "a model that is not compiled",
        ),
        (lambda m, d, s: (m, training()[1], s, {}), "received ScheduledMining on another dataset"),
        (
            lambda m, d, s: (compiled(m, steps_per_execution=2), d, s, {}),
            "received steps_per_execution=2; expected a",
        ),
        (
            lambda m, d, s: (compiled(m, optimizer=keras.optimizers.SGD(use_ema=True)), d, s, {}),
            "received an optimizer with use_ema=True",
        ),
        (
            lambda m, d, s: (m, d, s, {"callbacks": [keras.callbacks.BackupAndRestore("x")]}),
            "received a BackupAndRestore callback",
        ),
    ],
)
def test_what_contradicts_an_exact_run_is_refused(change, message):
    if "steps_per_execution" in message and keras.config.backend() == "torch":
        pytest.skip("Keras itself refuses steps_per_execution on torch")
    model, dataset, mining, options = change(*training())
    options = {"iterations": 22, "callbacks": [mining], **options}
    with pytest.raises(ValueError, match=message):
        kb.fit(model, dataset, options.pop("iterations"), **options)


def test_a_dataset_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="received a dataset of type list"):
        kb.fit(segmenter(), [], 3)


def test_a_cap_on_steps_from_the_environment_is_noticed(monkeypatch):
    keras.config.set_max_steps_per_epoch(2)
    try:
        with (
            pytest.warns(UserWarning, match="Limiting"),
            pytest.raises(RuntimeError, match="received Keras' fit stopping after 6 steps; expected 15"),
        ):
            run()
    finally:
        keras.config.set_max_steps_per_epoch(None)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="Keras 3.15 has no steps_per_execution on torch"
)
def test_several_steps_an_execution_give_the_same_training():
    ends = []
    for per_call in (1, 2):
        model, dataset, _ = training(steps=6)
        model.compile("sgd", loss="mse", steps_per_execution=per_call)
        mining = kb.ScheduledMining(
            dataset, kb.HardSliceSampler(range(10), range(10, 30), kb.lowest(0.3)), at=8
        )
        kb.fit(model, dataset, 16, callbacks=[mining], verbose=0)
        ends.append((variables(model), mining.results[0].score))
    assert np.array_equal(ends[0][1], ends[1][1])
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ends[0][0], ends[1][0], strict=True))


def test_iterations_are_counted_in_steps_where_keras_counts_otherwise():
    model, dataset, mining = training(iterations=8)
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), loss="mse")
    history = kb.fit(model, dataset, 12, callbacks=[mining], verbose=0)
    assert mining.results[0].iteration == 8
    assert history.epoch == [0, 1, 2]
