"""What Keras users pass to `fit`: taken as Keras takes it, or refused with the remedy."""

import numpy as np
import pytest
from made.training import arrays, same, training, variables

import kerasbalance as kb


def test_a_length_in_epochs_is_that_many_epochs_of_iterations():
    ends = []
    for length in ({"epochs": 2}, {"iterations": 10}):
        model, dataset, mining = training(iterations=5)
        history = kb.fit(model, dataset, **length, callbacks=[mining], verbose=0)
        assert history.epoch == [0, 1]
        ends.append(variables(model))
    assert same(*ends)


def test_callbacks_may_be_none_as_in_keras():
    model, dataset, _ = training()
    assert kb.fit(model, dataset, 5, callbacks=None, verbose=0).epoch == [0]


def test_validation_is_done_in_the_batches_and_at_the_epochs_that_are_asked_for():
    model, dataset, _ = training()
    sizes = []
    model.test_step = record(model.test_step, sizes)
    x, y = arrays(6)
    options = {
        "validation_data": (x, y),
        "validation_batch_size": 2,
        "validation_steps": 2,
        "validation_freq": 2,
    }
    model.run_eagerly = True
    history = kb.fit(model, dataset, epochs=4, verbose=0, **options)
    assert len(history.history["val_loss"]) == 2
    assert sizes.count(2) == 4


def record(step, sizes):
    def test_step(*arguments):
        data = arguments[-1]
        sizes.append(len(data[0]))
        return step(*arguments)

    return test_step


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"steps_per_epoch": 5}, "steps_per_epoch=5; expected the steps of an epoch in the dataset; pass it to"),
        ({"initial_epoch": 3}, r"initial_epoch=3; .* an epoch alone brings back neither .*; pass run_dir"),
        ({"class_weight": {0: 1}}, r"class_weight=\.\.\.; expected weights in the data or in the loss"),
        ({"sample_weight": np.ones(3)}, r"sample_weight=\.\.\.; expected the weights in the source; pass it to Array"),
        ({"batch_size": 4}, "batch_size=4; expected the batch size in the dataset; pass it to IndexedDataset"),
        ({"shuffle": False}, "shuffle=False; .* a random order of its own; leave it out"),
        ({"validation_split": 0.1}, "validation_split=0.1; expected validation data .*; pass validation_data"),
        ({"epoch": 4}, r"epoch=4; expected the arguments of kerasbalance.fit; call help\(kerasbalance.fit\)"),
    ],
)  # fmt: skip
def test_what_belongs_elsewhere_is_refused_with_the_place(argument, message):
    model, dataset, _ = training()
    with pytest.raises(TypeError, match=message):
        kb.fit(model, dataset, 5, **argument)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({}, "iterations=None, epochs=None; expected exactly one of the two; pass one of them"),
        ({"iterations": 5, "epochs": 1}, "iterations=5, epochs=1; expected exactly one"),
        ({"epochs": 0}, "epochs=0; expected a number >= 1; pass the number of epochs to train"),
    ],
)
def test_a_length_that_is_none_or_two_is_refused(length, message):
    model, dataset, _ = training()
    with pytest.raises(ValueError, match=message):
        kb.fit(model, dataset, **length)
