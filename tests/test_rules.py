import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kerasbalance as kb
from kerasbalance.mining.counts import SliceScores

SCORES = np.array([0.9, 0.1, 1.0, 0.5, 0.5, 0.95])


def chosen(rule, scores=SCORES, reference=None):
    mask, threshold = rule.select(np.asarray(scores, float), reference)
    return np.flatnonzero(mask).tolist(), threshold


def test_below_chooses_the_scores_under_the_threshold():
    assert chosen(kb.below(0.923)) == ([0, 1, 3, 4], 0.923)


def test_below_one_chooses_all_but_the_perfect_and_below_zero_none():
    assert chosen(kb.below(1))[0] == [0, 1, 3, 4, 5]
    assert chosen(kb.below(0))[0] == []


def test_lowest_chooses_its_share_rounded_up_and_breaks_ties_by_order():
    assert chosen(kb.lowest(0.3)) == ([1, 3], 0.5)
    assert chosen(kb.lowest(0.5)) == ([1, 3, 4], 0.5)


def test_lowest_never_chooses_a_perfect_slice():
    assert chosen(kb.lowest(1.0))[0] == [0, 1, 3, 4, 5]
    assert chosen(kb.lowest(0.5), [1.0, 1.0]) == ([], 0.0)


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=50), st.floats(0, 1))
def test_lowest_chooses_no_slice_that_is_better_than_one_it_leaves(scores, share):
    rows, _ = chosen(kb.lowest(share), scores)
    rest = sorted(set(range(len(scores))) - set(rows))
    assert all(scores[row] <= scores[other] for row in rows for other in rest)
    assert len(rows) == int(np.ceil(share * len(scores) - 1e-9))


def test_below_worst_case_takes_the_lowest_case_dice_of_the_reference():
    rule = kb.below_worst_case([7, 8, 9], ["a", "a", "b"])
    counts = np.array([[[10, 10, 10]], [[0, 10, 10]], [[8, 10, 10]]])  # case a: 20 / 40, case b: 16 / 20
    assert chosen(rule, reference=SliceScores(rule.reference, counts)) == ([1], 0.5)


def test_below_worst_case_asks_for_the_scores_of_its_reference():
    rule = kb.below_worst_case([7], ["a"])
    with pytest.raises(ValueError, match="received no scores of the rule's reference slices"):
        chosen(rule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kb.below(1.1), "received threshold=1.1; expected a number from 0 to 1"),
        (lambda: kb.below(float("nan")), "received threshold=nan"),
        (lambda: kb.lowest(-0.1), "received share=-0.1"),
        (lambda: kb.below_worst_case([], []), r"received refs of shape \(0,\)"),
        (lambda: kb.below_worst_case([1, 2], ["a"]), r"cases of shape \(1,\)"),
    ],
)
def test_rules_refuse_what_is_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rule_says_what_it_is():
    assert repr(kb.below(0.923)) == "Below(value=0.923)"
    assert repr(kb.lowest(0.15)) == "Lowest(share=0.15)"
    assert repr(kb.below_worst_case([1, 2], ["a", "b"])) == "BelowWorstCase(2 cases, 2 slices)"


def test_everything_chooses_perfect_slices_too():
    assert chosen(kb.everything())[0] == [0, 1, 2, 3, 4, 5]


def test_at_random_chooses_as_many_as_its_rule_and_is_blind_to_the_scores():
    first, threshold = chosen(kb.at_random(kb.lowest(0.5), seed=4))
    again, _ = chosen(kb.at_random(kb.lowest(0.5), seed=4), SCORES[::-1])
    assert len(first) == 3
    assert first == again
    assert np.isnan(threshold)


def test_at_random_chooses_every_slice_equally_often():
    counts = np.zeros(len(SCORES))
    for seed in range(600):
        counts[chosen(kb.at_random(kb.below(0.6), seed=seed))[0]] += 1
    assert counts.sum() == 3 * 600
    assert counts.min() > 240  # 300 expected, standard deviation 12


def test_at_random_refuses_a_negative_seed():
    with pytest.raises(ValueError, match="seed=-1"):
        kb.at_random(kb.below(0.5), seed=-1)
