"""Cases that annotate only some organs, and masks that leave pixels out: what a store's source says of their pixels."""

import numpy as np
import pytest
from made import runs

from kerasbalance.data.errors import DataError

BOTH, LIVER, SPLEEN, KIDNEY, IGNORING = (
    ("spleen", "liver"),
    ("liver",),
    ("spleen",),
    ("kidney",),
    ("liver", "ignore"),
)
ROW = [0, 1, 2, 0]
"""The labels of the first row of each case's only slice."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    hu, stacks = np.zeros((1, 16, 16), np.int16), []
    for number, organs in enumerate((BOTH, LIVER, SPLEEN, KIDNEY, IGNORING)):
        labels = np.zeros((1, 16, 16), np.uint8)
        labels[0, 0, :4] = np.minimum(ROW, len(organs))
        stacks.append((hu + number, labels))
    folder = tmp_path_factory.mktemp("partial")
    return runs.store_of_stacks(folder / "store", stacks, [BOTH, LIVER, SPLEEN, KIDNEY, IGNORING])


def rows_of(store, source, *wanted):
    """The first four labels of the cases with these organs, and one far away from all organs."""
    found = []
    for organs in wanted:
        (number,) = [n for n, case in enumerate(store.cases) if case.organs == organs]
        x, y = source.read([store.first_ref[number]])
        assert x.shape == (1, 16, 16, 1)
        found.append([*y[0, 0, :4, 0].tolist(), int(y[0, 9, 9, 0])])
    return found


def test_pixels_outside_of_the_annotated_organs_are_unknown(store):
    source = store.source(["liver", "spleen"], partial=True)
    assert rows_of(store, source, BOTH, LIVER, SPLEEN) == [
        [0, 2, 1, 0, 0], [255, 1, 1, 255, 255], [255, 2, 2, 255, 255],
    ]  # fmt: skip
    assert source.has_unknown


def test_a_mask_may_leave_pixels_out_under_the_name_ignore(store):
    assert rows_of(store, store.source("liver"), IGNORING, LIVER, BOTH) == [
        [0, 1, 255, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0],
    ]  # fmt: skip
    assert store.source("liver").has_unknown
    assert not store.source("spleen").has_unknown


def test_for_a_judgement_other_pixels_are_background_but_not_those_that_a_mask_leaves_out(store):
    source = store.source(["liver", "spleen"], partial=True).judged()
    assert rows_of(store, source, LIVER, IGNORING) == [[0, 1, 1, 0, 0], [0, 1, 255, 0, 0]]


def test_a_source_tells_which_organs_are_annotated(store):
    source = store.source(["liver", "spleen"], partial=True)
    expected = [[organ in case.organs for organ in ("liver", "spleen")] for case in store.cases]
    assert source.annotated(np.arange(5)).tolist() == expected
    assert source.annotated([]).shape == (0, 2)


def test_partly_annotated_cases_are_taken_only_if_asked_for(store):
    def organs(refs):
        return {store.cases[number].organs for number in store.case_of(refs).tolist()}

    assert organs(store.refs(["liver", "spleen"])) == {BOTH}
    assert organs(store.refs(["liver", "spleen"], partial=True)) == {BOTH, LIVER, SPLEEN, IGNORING}
    with pytest.raises(DataError, match="NO_ORGAN"):
        rows_of(store, store.source(["liver", "spleen"]), LIVER)
    with pytest.raises(DataError, match="NO_ORGAN"):
        rows_of(store, store.source(["liver", "spleen"], partial=True), KIDNEY)


def test_flips_turn_unknown_pixels_too(store):
    source = store.source(["liver", "spleen"], partial=True)
    (number,) = [n for n, case in enumerate(store.cases) if case.organs == LIVER]
    x, y = source.read([store.first_ref[number]], [1])
    assert y[0, 0, ::-1, 0].tolist()[:4] == [255, 1, 1, 255]
    assert x.shape == y.shape
