import numpy as np
import pytest

from kerasbalance.data.ingest.organ_check import HuSpread, hu_spread, suspicions
from kerasbalance.data.phantom.case import make_case


def test_quartiles_agree_with_numpys():
    random = np.random.default_rng(0)
    hu = random.integers(-1024, 2000, (20, 30, 40)).astype(np.int16)
    labels = random.integers(0, 4, hu.shape).astype(np.uint8)
    for number, spread in enumerate(hu_spread(hu, labels, ("liver", "spleen", "kidney")), 1):
        inside = hu[labels == number]
        expected = np.percentile(inside, [25, 50, 75], method="inverted_cdf")
        assert [spread.q1, spread.median, spread.q3] == expected.tolist()
        assert spread.voxels == inside.size
        assert spread.fat_share == pytest.approx((inside < -30).mean())
        assert spread.iqr == expected[2] - expected[0]


def test_extreme_hu_do_not_break_the_count():
    hu = np.array([[[-1024, 3071, 32767, -32768]]], np.int16)
    (spread,) = hu_spread(hu, np.ones(hu.shape, np.uint8), ("liver",))
    assert (spread.voxels, spread.q1, spread.q3) == (4, -1024, 3071)


def test_an_empty_organ_has_no_spread_and_raises_no_suspicion():
    (spread,) = hu_spread(np.zeros((1, 2, 2), np.int16), np.zeros((1, 2, 2), np.uint8), ("liver",))
    assert spread.voxels == 0
    assert np.isnan(spread.iqr)
    assert suspicions((spread,)) == ()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected one shape; map the mask onto the CT"):
        hu_spread(np.zeros((1, 2, 2), np.int16), np.zeros((1, 2, 3), np.uint8), ("liver",))


@pytest.mark.parametrize(
    ("organ", "median", "iqr", "fat", "odd"),
    [
        ("liver", 60, 30, 0.01, False),
        ("liver", 60, 100, 0.09, False),
        ("liver", 60, 101, 0.01, True),
        ("liver", -5, 30, 0.01, True),
        ("spleen", 205, 30, 0.01, True),
        ("liver", 40, 38, 0.15, True),
        ("lung", -800, 50, 1.0, False),
        ("lung", -800, 150, 1.0, True),
        ("ignore", -800, 400, 0.5, False),
    ],
)
def test_suspicion_follows_range_median_and_fat(organ, median, iqr, fat, odd):
    spread = HuSpread(organ, 100, median, median - iqr / 2, median + iqr / 2, fat)
    notes = suspicions((spread,))
    assert [(note.code, note.loud) for note in notes] == ([("HU_SPREAD", True)] if odd else [])
    assert all(organ in note.text and f"{iqr:.0f} HU" in note.text for note in notes)


@pytest.mark.parametrize("kinds", [("lowdose",), ("lowdose", "lowcontrast"), ("streak", "lowcontrast")])
def test_hard_cases_of_the_phantom_raise_no_suspicion_and_flipped_ones_do(kinds):
    case = make_case((0, 7), 64, kinds)
    organs = ("liver", "spleen", "kidney_left", "kidney_right")
    assert suspicions(hu_spread(case.hu, case.labels, organs)) == ()
    flipped = suspicions(hu_spread(case.hu, np.ascontiguousarray(case.labels[:, ::-1]), organs))
    assert len(flipped) >= 3
