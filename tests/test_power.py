"""Components of variance and how many seeds a comparison needs, against literal values of others."""

import math

import numpy as np
import pytest

from kerasbalance.evaluation.paired import paired_difference
from kerasbalance.evaluation.power import VarianceComponents, seeds_needed, variance_components


@pytest.mark.parametrize(
    ("effect", "power", "pairs"), [(0.5, 0.8, 34), (0.8, 0.8, 15), (0.2, 0.8, 199), (0.5, 0.9, 44)]
)
def test_without_cases_it_is_the_paired_t_test_of_the_textbook(effect, power, pairs):
    # Cohen 1988, table 2.4.1; G*Power 3.1, "difference between two dependent means", two tails, 0.05
    assert seeds_needed(VarianceComponents(1.0, 0.0, 0.0), 1, effect, power=power) == pairs


def test_more_cases_help_where_cases_and_noise_are_what_varies():
    components = VarianceComponents(seeds=0.0, cases=0.5**2, residual=1.2**2)
    few, many = (seeds_needed(components, cases, 0.5) for cases in (40, 80))
    assert few > many


def test_no_number_of_seeds_shows_what_only_more_cases_would():
    assert seeds_needed(VarianceComponents(seeds=0.1, cases=4.0, residual=0.0), 10, 0.2) is None


def test_components_of_a_simulation_are_found_again():
    rng = np.random.default_rng(1)
    by_seed, by_case = rng.normal(0, 2, (400, 1)), rng.normal(0, 1, (1, 300))
    found = variance_components(by_seed + by_case + rng.normal(0, 3, (400, 300)))
    assert found.seeds == pytest.approx(by_seed.var(ddof=1), rel=0.05)
    assert found.cases == pytest.approx(by_case.var(ddof=1), rel=0.05)
    assert found.residual == pytest.approx(9, rel=0.02)


def test_one_seed_tells_nothing():
    found = variance_components([[0.1, 0.2]])
    assert math.isnan(found.seeds)
    assert seeds_needed(found, 2, 0.1) is None


@pytest.mark.parametrize("table", [[0.1, 0.2], [[0.1, math.nan]], np.zeros((0, 2))])
def test_a_table_that_is_none_is_refused(table):
    with pytest.raises(ValueError, match=r"differences of shape .*; expected finite numbers"):
        variance_components(table)


@pytest.mark.parametrize("words", [{"cases": 0}, {"effect": 0}, {"power": 1}, {"level": 0}])
def test_arguments_out_of_range_are_refused(words):
    with pytest.raises(ValueError, match="expected one case or more, an effect above 0"):
        seeds_needed(VarianceComponents(1.0, 0.0, 0.0), **{"cases": 1, "effect": 1.0, **words})


def test_not_worse_is_the_one_sided_t_test_against_the_margin():
    stats = pytest.importorskip("scipy.stats")
    first = np.array([[0.91], [0.93], [0.90], [0.94], [0.92]])
    second = np.array([[0.92], [0.92], [0.91], [0.93], [0.93]])
    found = paired_difference(first, second)
    oracle = stats.ttest_1samp((first - second).ravel(), -0.02, alternative="greater")
    assert found.p_not_worse(0.02) == pytest.approx(oracle.pvalue)
    interval = stats.ttest_1samp((first - second).ravel(), 0).confidence_interval(0.99)
    assert found.interval(0.99) == pytest.approx((interval.low, interval.high))
