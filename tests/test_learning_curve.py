"""What more cases would bring, from trainings on shares of them."""

import math

import numpy as np
import pytest

from kerasbalance.evaluation.learning_curve import expected_growth


def test_a_power_law_is_found_again():
    shares = [0.2, 0.3, 0.5, 0.8, 1.0]
    error = 0.04 * np.array(shares) ** -0.5
    found = expected_growth(shares, np.stack([1 - error, 1 - error], axis=1))
    assert found.exponent == pytest.approx(0.5)
    assert found.gain == pytest.approx(0.04 * (1 - 2**-0.5))
    assert (found.low, found.high) == pytest.approx((found.gain, found.gain))


def test_the_slope_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    shares, scores = [0.2, 0.5, 1.0], np.array([[0.90, 0.91], [0.93, 0.92], [0.94, 0.95]])
    oracle = stats.linregress(np.log(shares), np.log(1 - scores.mean(axis=1)))
    found = expected_growth(shares, scores)
    assert found.exponent == pytest.approx(-oracle.slope)
    assert found.low < found.gain < found.high


def test_one_seed_has_no_interval():
    found = expected_growth([0.2, 0.5, 1.0], [[0.8], [0.9], [0.95]])
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("shares", "scores", "words"),
    [
        ([0.5, 1.0], [[0.9], [0.95]], "three different shares or more"),
        ([0.2, 0.5, 1.0], [[0.9], [0.95]], "one row of finite scores for each"),
        ([0.0, 0.5, 1.0], [[0.9], [0.9], [0.95]], "three different shares or more"),
        ([0.2, 0.5, 1.0], [[0.9], [0.9], [1.0]], "scores from 0 to below 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(shares, scores, words):
    with pytest.raises(ValueError, match=words):
        expected_growth(shares, scores)
