import keras
import numpy as np
import pytest
from keras import ops

from kerasbalance.losses.schedules import PolyDecay


@pytest.mark.parametrize(("total", "power", "end"), [(7, 0.9, 0.0), (1000, 0.9, 0.0), (50, 2.0, 0.01)])
def test_every_step_equals_the_formula(total, power, end):
    schedule = PolyDecay(0.1, total, power=power, end=end)
    rates = ops.convert_to_numpy(ops.stack([schedule(step) for step in range(total + 1)]))
    steps = np.arange(total + 1, dtype="float64")
    np.testing.assert_allclose(rates, end + (0.1 - end) * (1 - steps / total) ** power, rtol=1e-6)


def test_the_last_steps_of_a_million_keep_their_precision():
    schedule = PolyDecay(1e-3, total_iterations=1_000_000)
    # 1e-3 * 1e-6 ** 0.9; a subtraction from 1 in float32 is off by 4 % here.
    assert float(schedule(999_999)) == pytest.approx(3.981071705534969e-09, rel=1e-6)


def test_after_the_last_iteration_the_rate_stays_at_the_end():
    schedule = PolyDecay(0.1, 10, end=0.02)
    assert [float(schedule(step)) for step in (10, 11, 10_000)] == pytest.approx([0.02] * 3, rel=1e-6)


def trained(model, iterations):
    x = np.ones((iterations, 1), "float32")
    model.fit(x, x, batch_size=1, shuffle=False, verbose=0)
    return float(model.optimizer.learning_rate)


def test_training_resumes_at_the_rate_where_it_stopped(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(PolyDecay(0.1, total_iterations=8), momentum=0.9), loss="mse")
    assert trained(model, 3) == pytest.approx(0.1 * (5 / 8) ** 0.9, rel=1e-6)
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert float(resumed.optimizer.learning_rate) == pytest.approx(0.1 * (5 / 8) ** 0.9, rel=1e-6)
    assert trained(resumed, 2) == pytest.approx(0.1 * (3 / 8) ** 0.9, rel=1e-6)


def test_the_optimizer_steps_by_the_rate_of_its_iteration():
    weight = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(PolyDecay(1.0, total_iterations=4, power=1))
    moves = []
    for _ in range(5):
        before = float(weight.numpy())
        optimizer.apply([ops.convert_to_tensor(1.0)], [weight])
        moves.append(before - float(weight.numpy()))
    assert moves == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


def test_the_schedule_survives_serialisation():
    schedule = PolyDecay(0.1, 10, power=0.5, end=0.01)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert isinstance(again, PolyDecay)
    assert again.get_config() == {"initial": 0.1, "total_iterations": 10, "power": 0.5, "end": 0.01}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"initial": 0.0}, "initial=0.0; expected a finite learning rate above 0"),
        ({"initial": float("nan")}, "initial=nan"),
        ({"total_iterations": 0}, "total_iterations=0; expected an integer from 1"),
        ({"total_iterations": 1e4}, "total_iterations=10000.0"),
        ({"power": 0}, "power=0; expected a finite exponent"),
        ({"end": -0.1}, "end=-0.1; expected a rate from 0 to initial=0.1"),
        ({"end": 0.2}, "end=0.2"),
    ],
)
def test_an_argument_out_of_range_is_refused(options, named):
    with pytest.raises(ValueError, match=f"Received {named}"):
        PolyDecay(**{"initial": 0.1, "total_iterations": 10, **options})
