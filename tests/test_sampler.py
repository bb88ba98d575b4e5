import csv
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kerasbalance as kb
from kerasbalance.mining.counts import SliceScores
from kerasbalance.mining.result import MiningResult

SCORES = [0.1, 0.9, 0.4, 1.0, 0.6, 0.2]


def sampler(rule=None, candidates=range(10, 16), **options):
    return kb.HardSliceSampler([0, 1], candidates, rule or kb.below(0.5), **options)


def entries(index):
    return list(zip(index.refs.tolist(), index.flips.tolist(), strict=True))


def test_before_mining_only_the_base_is_trained_on():
    assert entries(sampler().index) == [(0, 0), (1, 0)]


def test_hard_slices_join_the_base_in_each_of_their_forms():
    mined = sampler(flips=("none", "horizontal", "vertical"))
    mined.update(SCORES)
    hard = (10, 12, 15)
    assert entries(mined.index) == [(0, 0), (1, 0), *((ref, code) for code in (0, 1, 2) for ref in hard)]


def test_base_flips_and_repeat_are_separate():
    mined = sampler(base_flips=("none", "both"), flips=("vertical",), repeat=2)
    result = mined.update(SCORES)
    assert entries(mined.index)[:4] == [(0, 0), (1, 0), (0, 3), (1, 3)]
    assert entries(mined.index)[4:] == [(ref, 2) for _ in range(2) for ref in (10, 12, 15)]
    assert result.copies.tolist() == [2, 0, 2, 0, 0, 2]


def test_every_candidate_gets_a_row_with_score_and_reason():
    result = sampler().update(SCORES, iteration=7)
    assert result.ref.tolist() == list(range(10, 16))
    assert result.score.tolist() == SCORES
    assert result.reason.tolist() == ["hard", "easy", "hard", "easy", "easy", "hard"]
    assert result.hard.tolist() == [reason == "hard" for reason in result.reason]
    assert (result.threshold, result.iteration, result.rule) == (0.5, 7, "Below(value=0.5)")
    assert repr(result) == "MiningResult(3 hard of 6, Below(value=0.5), iteration 7)"


def test_an_update_starts_from_the_base_again():
    mined = sampler()
    mined.update([0.0] * 6)
    mined.update([0.9] * 5 + [0.0])
    assert mined.index.refs.tolist() == [0, 1, 15]


def test_the_very_worst_can_be_set_aside():
    result = sampler(kb.lowest(0.5), skip_worst=0.2).update(SCORES)
    assert result.reason.tolist() == ["suspect", "easy", "hard", "easy", "hard", "hard"]


def test_at_most_so_many_of_a_case_are_taken_the_worst_ones():
    mined = sampler(cases=list("aabbab"), max_per_case=1, rule=kb.below(0.95))
    assert mined.update(SCORES).reason.tolist() == [
        "hard",
        "case_full",
        "case_full",
        "easy",
        "case_full",
        "hard",
    ]


def test_a_largest_share_keeps_the_worst():
    result = sampler(kb.below(1.0), max_share=0.34).update(SCORES)
    assert result.reason.tolist() == ["hard", "capped", "capped", "easy", "capped", "hard"]


def test_a_least_share_adds_the_next_worst():
    result = sampler(kb.below(0.15), min_share=0.5).update(SCORES)
    assert result.reason.tolist() == ["hard", "easy", "floor", "easy", "easy", "floor"]
    assert result.hard.sum() == 3


def test_a_least_share_respects_the_cases_and_never_adds_a_perfect_slice():
    mined = sampler(kb.below(0.15), min_share=1.0, cases=list("aabbab"), max_per_case=2)
    assert mined.update(SCORES).reason.tolist() == ["hard", "case_full", "floor", "easy", "floor", "floor"]


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    share=st.floats(0, 1),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    skip=st.floats(0, 0.3),
    per_case=st.integers(1, 5),
)
def test_the_guards_hold_whatever_the_scores(scores, share, bounds, skip, per_case):
    low, high = sorted(bounds)
    cases = np.arange(len(scores)) % 4
    mined = kb.HardSliceSampler(
        [99],
        np.arange(len(scores)),
        kb.lowest(share),
        min_share=low,
        max_share=high,
        skip_worst=skip,
        cases=cases,
        max_per_case=per_case,
    )
    result = mined.update(scores)
    hard = np.asarray(scores)[result.hard]
    assert result.hard.sum() <= high * len(scores) + 1e-6
    assert np.bincount(cases[result.hard], minlength=4).max() <= per_case
    assert (hard < 1).all()
    assert sorted(mined.index.refs.tolist()) == sorted([99, *result.ref[result.hard].tolist()])


def test_a_slice_is_as_hard_as_its_worst_organ():
    counts = np.array([[[9, 10, 10], [1, 10, 10]], [[9, 10, 10], [8, 10, 10]]])
    mined = kb.HardSliceSampler([0], [5, 6], kb.below(0.5))
    assert mined.update(SliceScores(np.array([5, 6]), counts)).score.tolist() == [0.1, 0.8]


def test_an_empty_slice_left_empty_is_perfect_and_a_false_positive_there_is_not():
    counts = np.array([[[0, 0, 0]], [[0, 1, 0]]])
    mined = kb.HardSliceSampler([0], [5, 6], kb.below(1.0))
    assert mined.update(SliceScores(np.array([5, 6]), counts)).hard.tolist() == [False, True]


def test_slices_whose_labels_look_wrong_are_set_aside():
    asked = []

    def suspicious(refs):
        asked.append(refs.tolist())
        return refs == 12

    mined = kb.HardSliceSampler([0], range(10, 16), kb.lowest(0.5), suspicious=suspicious)
    result = mined.update([0.9, 0.1, 0.2, 0.3, 0.8, 1.0])
    assert asked == [[11, 12, 13]]
    assert result.reason[2] == "suspect"
    assert mined.index.refs.tolist() == [0, 11, 13]


def test_mining_on_top_of_all_trains_on_hard_slices_once_more():
    mined = kb.mine_on_top(range(4), kb.lowest(0.25))
    mined.update([0.9, 0.8, 0.1, 0.7])
    assert mined.index.refs.tolist() == [0, 1, 2, 3, 2]


def test_proportional_sampling_draws_a_share_by_one_minus_score():
    mined = kb.ProportionalSampler([5, 6, 7], uniform=0.4)
    assert mined.index.weights is None
    result = mined.update([1.0, 0.5, 0.0])
    assert mined.index.weights.tolist() == pytest.approx([0.4 / 3, 0.4 / 3 + 0.2, 0.4 / 3 + 0.4])
    assert result.copies.sum() == pytest.approx(3)
    assert set(result.reason) == {"weighted"}
    assert not result.hard.any()


@pytest.mark.parametrize("make", [sampler, lambda: kb.ProportionalSampler(range(10, 16))])
def test_state_brings_the_index_back(make):
    mined, fresh = make(), make()
    mined.update(SCORES)
    fresh.load_state(mined.state())
    assert fresh.index == mined.index


def test_results_come_back_from_their_state():
    result = sampler().update(SCORES, iteration=7)
    again = MiningResult.from_state(result.state())
    assert repr(again) == repr(result)
    assert all(
        np.array_equal(getattr(again, name), getattr(result, name)) for name in ("ref", "score", "reason")
    )


def test_the_table_is_written_whole_and_reads_back_bit_by_bit(tmp_path):
    scores = [1 / 3, 0.1 + 0.2, 5e-324, 1.0, 0.0, 0.9]
    result = sampler(flips=("none", "both")).update(scores)
    result.to_csv(tmp_path / "slices.csv")
    rows = list(csv.DictReader((tmp_path / "slices.csv").read_text().splitlines()))
    assert rows[0] == {"ref": "10", "score": repr(1 / 3), "hard": "1", "reason": "hard", "copies": "2"}
    assert [float(row["score"]) for row in rows] == scores
    assert os.listdir(tmp_path) == ["slices.csv"]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "slices.csv"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sampler().update(SCORES).to_csv(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["slices.csv"]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5] * 5, r"received scores of shape \(5,\).*expected 6 numbers"),
        ([0.5] * 5 + [np.nan], "of which 1 are NaN"),
        ([0.5] * 5 + [1.5], r"6 numbers from 0 \(hard\) to 1"),
        (SliceScores(np.arange(6), np.zeros((6, 1, 3))), "received scores of other slices"),
    ],
)
def test_scores_that_do_not_fit_are_refused_and_change_nothing(scores, message):
    mined = sampler()
    with pytest.raises(ValueError, match=message):
        mined.update(scores)
    assert entries(mined.index) == [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": []}, "candidates of 0 refs; expected at least one, each once"),
        ({"candidates": [3, 3]}, "candidates of 2 refs"),
        ({"flips": ("diagonal",)}, r"flips=\('diagonal',\); expected distinct names"),
        ({"flips": "none"}, "flips='none'"),
        ({"flips": ()}, r"flips=\(\)"),
        ({"repeat": 0}, "repeat=0"),
        ({"min_share": 1.5}, "min_share=1.5; expected a share from 0 to 1"),
        ({"min_share": 0.5, "max_share": 0.4}, "min_share=0.5; expected at most max_share=0.4"),
        ({"max_per_case": 3}, "only one of cases and max_per_case"),
        ({"max_per_case": 3, "cases": ["a"]}, r"cases of shape \(1,\); expected 6 cases"),
    ],
)
def test_options_out_of_range_or_in_contradiction_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sampler(**options)


def test_an_empty_base_is_refused():
    with pytest.raises(ValueError, match="received an index of 0 entries"):
        kb.HardSliceSampler([], [1], kb.below(0.5))


def test_slices_that_are_all_perfect_are_drawn_alike():
    mined = kb.ProportionalSampler([5, 6])
    assert mined.update([1.0, 1.0]).copies.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_uniform_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="expected a share above 0 and at most 1"):
        kb.ProportionalSampler([1], uniform=share)


def hard_of(scores, iteration=None, **options):
    count = len(scores)
    sampler = kb.HardSliceSampler([count], range(count), kb.lowest(0.2), **options)
    return sampler.update(scores, iteration=iteration)


def test_ties_are_drawn_and_neither_the_first_nor_the_last_of_the_store():
    result = hard_of([0.0] * 100)
    chosen = result.ref[result.hard]
    assert len(chosen) == 20
    assert chosen.min() < 20 <= 80 <= chosen.max()
    assert 30 < chosen.mean() < 70


def test_the_draw_is_a_function_of_seed_and_iteration():
    results = [hard_of([0.0] * 100, at, seed=seed) for seed, at in ((1, 5), (1, 5), (2, 5), (1, 6))]
    first, again, other_seed, later = (result.ref[result.hard].tolist() for result in results)
    assert first == again
    assert first not in (other_seed, later)


def test_the_result_says_how_many_were_tied():
    result = hard_of([0.1, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9, 1, 1, 1])
    assert result.reason[0] == "hard"
    assert sorted(result.reason[1:5]) == ["hard", "tied", "tied", "tied"]
    assert result.reason[5:].tolist() == ["easy"] * 5
    assert result.tied == 4
    assert "2 hard of 10, 4 tied" in repr(result)


def test_without_ties_none_is_tied():
    assert hard_of([0.1, 0.2, 0.3, 0.4, 0.5]).tied == 0


def test_a_sampler_of_version_0_1_goes_on_with_the_first_of_equal_slices():
    sampler = kb.HardSliceSampler([100], range(100), kb.lowest(0.2))
    sampler.load_state(kb.Index([100]).state())  # what version 0.1 saved
    result = sampler.update([0.0] * 100)
    assert result.ref[result.hard].tolist() == list(range(20))
    assert set(result.reason) == {"hard", "easy"}
    assert "seed" not in sampler.state()


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="received seed=-1; expected a whole number >= 0"):
        hard_of([0.0] * 10, seed=-1)
