from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import kerasbalance
from kerasbalance.evaluation import splits
from kerasbalance.evaluation.splits import split_cases

PHANTOM_SEEDS = range(60)


@dataclass
class Row:
    patient: object
    slices: int
    positive: int


def phantom_cases(seed, count=60):
    """Rows as the phantom gives them: 24 to 60 slices, 47 to 54 % positive, a patient a case."""
    rng = np.random.default_rng(seed)
    slices = rng.integers(24, 61, count)
    positive = np.round(slices * rng.uniform(0.47, 0.54, count)).astype(int)
    return [Row(f"p{i}", int(n), int(p)) for i, (n, p) in enumerate(zip(slices, positive, strict=True))]


def wild_cases(seed, count=60):
    """Series of 5 to 900 slices, from no to all positive, several to a patient."""
    rng = np.random.default_rng(seed)
    slices = np.clip(rng.lognormal(4.5, 0.8, count), 5, 900).astype(int)
    positive = np.round(slices * rng.beta(0.5, 0.5, count)).astype(int)
    owners = rng.integers(0, 40, count)
    return [Row(int(o), int(n), int(p)) for o, n, p in zip(owners, slices, positive, strict=True)]


def worst_share(split):
    *parts, whole = split.balance
    return max(abs(part.positive_share - whole.positive_share) for part in parts)


@pytest.mark.parametrize("ratio", [0.5, 0.2, 0.8])
def test_the_positive_share_of_sixty_phantom_cases_differs_by_less_than_two_points(ratio):
    found = [split_cases(phantom_cases(seed), ratio, seed) for seed in PHANTOM_SEEDS]
    assert max(map(worst_share, found)) < 0.006
    assert {len(split.part_b) for split in found} == {round(60 * ratio)}


def test_slices_per_case_of_phantom_cases_differ_by_at_most_two_percent():
    for seed in PHANTOM_SEEDS:
        a, b, whole = split_cases(phantom_cases(seed), 0.5, seed).balance
        assert a.slices_per_case == pytest.approx(whole.slices_per_case, rel=0.0201)
        assert b.slices_per_case == pytest.approx(whole.slices_per_case, rel=0.0201)


@pytest.mark.parametrize("ratio", [0.5, 0.33])
def test_even_wild_cases_keep_the_ratio_and_the_share(ratio):
    found = [split_cases(wild_cases(seed), ratio, seed) for seed in range(30)]
    assert max(map(worst_share, found)) < 0.02
    assert {len(split.part_b) for split in found} == {int(60 * ratio + 0.5)}


def test_a_split_ends_where_only_rounding_could_make_it_better():
    # In vector arithmetic these sums differ in the last bit from the same sums one by one.
    patients = [("a", 45, 37), ("b", 10, 4), ("b", 10, 3), ("b", 9, 3), ("c", 49, 22), ("c", 49, 23)]
    with pytest.raises(ValueError, match="expected patients small enough"):
        split_cases([Row(*row) for row in patients], 0.5, 679)


def test_another_seed_gives_another_split():
    cases = phantom_cases(0)
    assert len({tuple(split_cases(cases, seed=seed).part_b) for seed in range(20)}) == 20


rows = st.tuples(st.integers(0, 8), st.integers(1, 60), st.floats(0, 1)).map(
    lambda row: Row(row[0], row[1], round(row[1] * row[2]))
)


def split_or_discard(cases, ratio, seed):
    try:
        return split_cases(cases, ratio, seed)
    except ValueError:
        assume(False)


@given(st.lists(rows, min_size=2, max_size=30), st.floats(0.1, 1.0), st.integers(0, 1000))
def test_parts_are_a_partition_and_share_no_patient(cases, ratio, seed):
    split = split_or_discard(cases, ratio, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(split))), np.arange(len(cases)))
    owners_a, owners_b = ({cases[i].patient for i in part} for part in split)
    assert not owners_a & owners_b


@given(st.lists(rows, min_size=2, max_size=30), st.integers(0, 1000), st.randoms())
def test_the_order_of_rows_does_not_matter(cases, seed, random):
    split = split_or_discard(cases, 0.5, seed)
    order = list(range(len(cases)))
    random.shuffle(order)
    shuffled = split_cases([cases[i] for i in order], 0.5, seed)
    assert {cases[i].patient for i in split.part_b} == {cases[order[i]].patient for i in shuffled.part_b}
    assert [part.cells() for part in shuffled.balance] == [part.cells() for part in split.balance]


@given(st.lists(rows, min_size=2, max_size=30), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_the_balance_table_counts_what_is_in_the_parts(cases, ratio, seed):
    split = split_or_discard(cases, ratio, seed)
    for part, chosen in zip(split.balance, (*split, range(len(cases))), strict=True):
        taken = [cases[i] for i in chosen]
        assert part.cases == len(taken)
        assert part.patients == len({row.patient for row in taken})
        assert (part.slices, part.positive) == (sum(r.slices for r in taken), sum(r.positive for r in taken))


def test_two_series_of_one_patient_stay_together_however_it_is_written():
    cases = [Row(patient, 30, 15) for patient in (7, "7", " 7 ", 8, 9, 10)]
    for seed in range(20):
        part_a, part_b = split_cases(cases, 0.5, seed)
        assert set(range(3)) in (set(part_a), set(part_b))


def test_rows_may_be_mappings_or_objects():
    values = [{"patient": i, "slices": 30 + i, "positive": 15} for i in range(8)]
    expected = split_cases(values).part_b
    np.testing.assert_array_equal(split_cases([SimpleNamespace(**row) for row in values]).part_b, expected)
    np.testing.assert_array_equal(kerasbalance.split_cases([Row(**row) for row in values]).part_b, expected)


def test_numbers_may_be_those_of_numpy():
    cases = [Row(np.int64(i), np.int32(30), np.int64(15)) for i in range(4)]
    assert len(split_cases(cases).part_b) == 2


def test_with_ratio_one_everything_is_in_part_b():
    split = split_cases([Row("only", 30, 15), Row("only", 20, 0)], ratio=1)
    assert (list(split.part_a), list(split.part_b)) == ([], [0, 1])
    assert split.balance[0].cells() == ("A", "0", "0", "0", "0.0", "0", "0.0%")


def test_the_table_can_be_printed():
    split = split_cases([Row(i, 40, 20) for i in range(4)], 0.25)
    assert str(split).splitlines() == [
        "part   patients     cases    slices  per case  positive     share",
        "A             3         3       120      40.0        60     50.0%",
        "B             1         1        40      40.0        20     50.0%",
        "all           4         4       160      40.0        80     50.0%",
    ]


GOOD = [Row(i, 30, 15) for i in range(4)]


@pytest.mark.parametrize(
    ("cases", "ratio", "why"),
    [
        ([], 0.5, "no case; expected at least one"),
        (GOOD, 0, "ratio=0; expected a share of the cases above 0, at most 1"),
        (GOOD, 1.5, "ratio=1.5"),
        (GOOD, float("nan"), "ratio=nan"),
        (GOOD, 0.1, "ratio=0.1 for 4 cases, which leaves part B empty"),
        (GOOD, 0.9, "ratio=0.9 for 4 cases, which leaves part A empty"),
        ([Row("x", 30, 15)] * 3, 0.5, "3 cases of one patient; expected at least two patients"),
        ([Row(1, 30, 15), Row(2, 30, 0)], 0.5, "positive slices in 1 of 2 patients; expected at least two"),
        (
            [Row(0, 30, 15)] * 9 + [Row(1, 30, 15)],
            0.5,
            r"5 of 10 cases; .* one owns 9 cases.*Use ratio=0\.[19]0",
        ),
        ([Row(None, 30, 15)], 1, "row 0 without patient; expected patient, slices and positive"),
        ([{"patient": 1, "slices": 30}], 1, "row 0 without positive"),
        ([*GOOD, Row(" ", 30, 15)], 1, "row 4 with an empty patient"),
        ([Row(1, 0, 0)], 1, "row 0 with slices=0, positive=0; expected integers"),
        ([Row(1, 30, 31)], 1, "row 0 with slices=30, positive=31"),
        ([Row(1, 30.0, 15)], 1, "row 0 with slices=30.0"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(cases, ratio, why):
    with pytest.raises(ValueError, match=f"Received .*{why}"):
        split_cases(cases, ratio)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed=-1; expected an integer of at least 0"):
        split_cases(GOOD, seed=-1)


def test_both_parts_get_positive_slices_even_if_few_patients_have_any():
    cases = [Row(0, 30, 15), Row(1, 30, 15), *(Row(i, 30, 0) for i in range(2, 20))]
    for seed in range(20):
        a, b, _ = split_cases(cases, 0.5, seed).balance
        assert (a.positive, b.positive) == (15, 15)


def test_a_draw_that_leaves_a_part_without_positive_slices_is_refused(monkeypatch):
    monkeypatch.setattr(splits, "balanced_half", lambda *_: np.array([True, True, False, False]))
    cases = [Row(0, 30, 15), Row(1, 30, 15), Row(2, 30, 0), Row(3, 30, 0)]
    with pytest.raises(ValueError, match=r"leaves part A without a positive slice; expected a ratio that"):
        split_cases(cases)


def test_an_error_names_no_patient():
    with pytest.raises(ValueError, match="one patient") as caught:
        split_cases([Row("Doe^Jane", 30, 15)] * 2)
    assert "Doe" not in str(caught.value)
