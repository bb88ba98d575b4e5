"""Learning rate by iteration."""

import math
import numbers
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerasbalance")
class PolyDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # untyped
    """Polynomial decay `end + (initial - end) * (1 - iteration / total_iterations)**power`.

    Keras counts the iteration in `optimizer.iterations` and saves it with the optimizer, so a resumed run
    goes on at the rate where it stopped. The iterations left are counted as integers before the division:
    Keras' `PolynomialDecay` subtracts from 1 in float32, which near the end of a million iterations is off
    by several percent of the rate. From `total_iterations` on the rate is `end`.

    Args:
        initial: Learning rate at iteration 0, above 0.
        total_iterations: Iterations until `end`, 1 to 2**31 - 1.
        power: Exponent, above 0; 1 is linear.
        end: Learning rate that is reached, 0 to `initial`.

    Raises:
        ValueError: If an argument lies outside its range.

    Example:
        >>> optimizer = keras.optimizers.SGD(PolyDecay(1e-3, total_iterations=10_000), momentum=0.9)

    Reference:
        Liu et al., "ParseNet: Looking Wider to See Better", 2015, arXiv 1506.04579 (the "poly" rate).
    """

    def __init__(
        self, initial: float, total_iterations: int, *, power: float = 0.9, end: float = 0.0
    ) -> None:
        _check_range("initial", initial, 0 < initial < math.inf, "a finite learning rate above 0")
        _check_range("power", power, 0 < power < math.inf, "a finite exponent above 0; 1 is linear")
        _check_range("end", end, 0 <= end <= initial, f"a rate from 0 to initial={initial}")
        countable = isinstance(total_iterations, numbers.Integral) and 1 <= total_iterations < 2**31
        expected = "an integer from 1 to 2**31 - 1: the optimizer steps of the whole run"
        _check_range("total_iterations", total_iterations, countable, expected)
        super().__init__()
        self.initial = float(initial)
        self.total_iterations = int(total_iterations)
        self.power = float(power)
        self.end = float(end)

    def __call__(self, step: Any) -> Any:
        """Return the rate at an iteration, a float32 scalar.

        Args:
            step: Iteration, counted from 0; an integer or an integer scalar tensor.
        """
        left = ops.maximum(self.total_iterations - ops.cast(step, "int32"), 0)
        share = ops.cast(left, "float32") / float(self.total_iterations)
        return self.end + (self.initial - self.end) * ops.power(share, self.power)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this schedule."""
        return {
            "initial": self.initial,
            "total_iterations": self.total_iterations,
            "power": self.power,
            "end": self.end,
        }


def _check_range(name: str, value: float, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"Received {name}={value}; expected {expected}.")
