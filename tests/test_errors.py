"""What is said of refused input."""

from pathlib import Path

from kerasbalance.data.errors import DataError


def made(**place):
    return DataError("GAP", "a gap of 5 mm", "even steps", "export the series again", **place)


def test_a_wider_place_is_put_before_the_place_that_is_known():
    error = made(where="file 2 of 78").at(where="case 3 of 12")
    assert str(error) == (
        "GAP: case 3 of 12, file 2 of 78: a gap of 5 mm; expected even steps; export the series again"
    )


def test_a_path_is_added_only_where_none_is_known():
    assert made().at(path="ct").path == Path("ct")
    assert made(path="ct/1.dcm").at(path="ct").path == Path("ct/1.dcm")


def test_a_place_leaves_the_first_error_and_all_its_parts_as_they_are():
    error = made()
    placed = error.at(where="mask")
    assert (error.where, placed.where) == (None, "mask")
    assert (placed.code, placed.received, placed.expected, placed.advice) == (
        "GAP", "a gap of 5 mm", "even steps", "export the series again",
    )  # fmt: skip
