"""Paired differences and their bootstrap interval, against SciPy's and against what must hold."""

import numpy as np
import pytest
import scipy.stats

from kerasbalance.evaluation.paired import adjust_p_values, paired_difference, summarise_scores

RNG = np.random.default_rng(0)
CASES = RNG.uniform(0.5, 1, (6, 23))


def test_the_statistics_are_those_of_their_names():
    scores = [[0.9, 0.1, *[0.5] * 9], [0.4] * 11]
    assert summarise_scores(scores, "mean") == pytest.approx([5.5 / 11, 0.4])
    assert summarise_scores(scores, "minimum") == pytest.approx([0.1, 0.4])
    assert summarise_scores(scores, "worst tenth") == pytest.approx([0.3, 0.4])  # two of eleven cases


def test_a_constant_difference_has_an_interval_of_no_width():
    found = paired_difference(CASES + 0.01, CASES)
    assert (found.difference, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert (found.seeds, found.seeds_up, found.p) == (6, 6, 0.0)
    assert paired_difference(CASES, CASES).p == 1.0


def test_resampling_seeds_alone_is_scipys_bootstrap():
    other = RNG.uniform(0.5, 1, (6, 23))
    by_seed = CASES.min(axis=1) - other.min(axis=1)
    theirs = scipy.stats.bootstrap(
        (by_seed,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = paired_difference(CASES, other, "minimum", resamples=20_000)
    assert found.difference == pytest.approx(by_seed.mean())
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.03 * width)


def test_the_mean_counts_the_spread_of_seeds_and_of_cases():
    seeds, cases = RNG.normal(0, 0.01, (400, 1)), RNG.normal(0, 0.02, (1, 300))
    zero = np.zeros((400, 300))
    found = paired_difference(zero + seeds + cases, zero)
    expected = 2 * 1.96 * np.hypot(seeds.std() / 400**0.5, cases.std() / 300**0.5)
    assert found.high - found.low == pytest.approx(expected, rel=0.04)


def test_the_interval_holds_what_it_promises_about_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        rng = np.random.default_rng((3, trial))
        noise = rng.normal(0, 1, (20, 1)) + rng.normal(0, 1, (1, 20)) + rng.normal(0, 1, (20, 20))
        found = paired_difference(noise, np.zeros((20, 20)), resamples=1000)
        hits += found.low <= 0 <= found.high
    assert 175 <= hits <= 200  # 190 if it were exact


def test_the_p_value_of_what_only_seeds_vary_is_that_of_scipys_paired_t_test():
    other = RNG.uniform(0.5, 1, (6, 23))
    expected = scipy.stats.ttest_rel(CASES.min(axis=1), other.min(axis=1)).pvalue
    assert paired_difference(CASES, other, "minimum").p == pytest.approx(expected)


def test_five_seeds_that_point_one_way_are_no_proof():
    by_seed = np.array([[0.001], [0.0005], [0.02], [0.004], [0.0002]])
    found = paired_difference(by_seed, np.zeros((5, 1)), "minimum")
    assert found.low > 0  # the bootstrap interval cannot reach 0
    assert found.p > 0.2


def test_the_test_of_the_mean_errs_seldom_where_there_is_no_difference():
    hits = 0
    for trial in range(300):
        rng = np.random.default_rng((4, trial))
        noise = rng.normal(0, 1, (5, 1)) + rng.normal(0, 3, (1, 40)) + rng.normal(0, 2, (5, 40))
        hits += paired_difference(noise, np.zeros((5, 40)), resamples=1).p < 0.05
    assert hits <= 24  # 15 if it were exact


def test_many_comparisons_are_allowed_for_as_holm_says():
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([0.02, float("nan"), 0.9])[0] == pytest.approx(0.06)
    assert adjust_p_values([]) == []


def test_a_wider_level_contains_a_narrower():
    other = RNG.uniform(0.5, 1, (6, 23))
    narrow, wide = (paired_difference(CASES, other, level=level) for level in (0.9, 0.999))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_seed_has_a_difference_and_no_interval():
    found = paired_difference(CASES[:1], CASES[:1] - 0.1)
    assert found.difference == pytest.approx(0.1)
    assert np.isnan([found.low, found.high, found.p]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CASES, CASES[:, 1:]), "equal shapes"),
        ((CASES, np.full_like(CASES, np.nan)), "138 are not finite"),
        ((CASES[0], CASES[0]), r"\(seeds, cases\)"),
        ((CASES, CASES, "median"), "mean, minimum, worst tenth"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(*arguments)
