"""Scores at other thresholds and at equal false positives."""

import numpy as np
import pytest

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.studies import curve as module
from kerasbalance.experiments.studies.curve import OperatingCurve, read_curve

CURVE = OperatingCurve(
    false_positives=np.array([0.4, 0.2, 0.2, 0.0, 0.0]),
    missed=np.array([0.0, 0.0, 0.1, 0.2, 0.3]),
    case_dice=np.array([[0.7], [0.8], [0.9], [0.6], [0.5]]),
    slice_dice=np.array([[0.1, 0.7], [0.2, 0.8], [0.3, 0.9], [0.4, 0.6], [0.5, 0.5]]),
)


@pytest.mark.parametrize(
    ("share", "case", "first_slice"),
    [
        (0.4, 0.7, 0.1),
        (0.3, 0.75, 0.15),  # half-way between two thresholds
        (0.2, 0.8, 0.2),  # two thresholds: the lower one finds more
        (0.05, 0.675, 0.375),  # a quarter of the way from the last of them to the next
        (0.0, 0.6, 0.4),
        (0.9, 0.7, 0.1),  # beyond the curve: its end
    ],
)
def test_a_curve_is_read_where_as_much_is_invented(share, case, first_slice):
    cases, slices = CURVE.at(share)
    assert cases == pytest.approx([case])
    assert slices[0] == pytest.approx(first_slice)


def test_the_table_is_read_as_counts_of_cases_and_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "THRESHOLDS", (0.3, 0.5))
    (tmp_path / "thresholds.csv").write_text(
        "case,slice,reference_pixels,shared@0.3,shared@0.5,predicted@0.3,predicted@0.5\n"
        "b,0,0,0,0,5,0\n"
        "a,1,10,10,5,20,5\n"
        "a,0,0,0,0,0,0\n"
    )
    found = read_curve(tmp_path)
    assert found.false_positives.tolist() == [0.5, 0.0]
    assert found.missed.tolist() == [0.0, 0.0]
    assert found.case_dice == pytest.approx(np.array([[20 / 30], [10 / 15]]))
    assert found.slice_dice == pytest.approx(np.array([[20 / 30], [10 / 15]]))
    assert read_curve(tmp_path / "none") is None


def test_a_malformed_table_is_refused(tmp_path):
    (tmp_path / "thresholds.csv").write_text("case,slice\na,0\n")
    with pytest.raises(DataError, match=r"a malformed thresholds\.csv") as caught:
        read_curve(tmp_path)
    assert caught.value.code == "REPORT"
