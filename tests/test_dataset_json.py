"""Names in dataset.json: each counts on its own, whatever stands beside it."""

import json

import pytest

from kerasbalance.data.ingest.dataset_json import dataset_rules


def read(folder, labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    rules, notes = dataset_rules(folder / "dataset.json")
    return {rule.organ: rule.values for rule in rules}, [note.text for note in notes]


@pytest.mark.parametrize(
    ("labels", "organs"),
    [
        (
            {"0": "background", "1": "liver", "2": "prostate/uterus"},
            {"liver": (1,), "prostate_uterus": (2,)},
        ),
        ({"background": 0, "kidney": [1, 2, 3], "spleen": 4}, {"kidney": (1, 2, 3), "spleen": (4,)}),
        ({"background": "0", "liver": "1", "spleen": "2"}, {"liver": (1,), "spleen": (2,)}),
        ({"background": 0, "liver": 1, "ignore": 2}, {"liver": (1,)}),
        (
            {"1": " Left Kidney ", "2": "left-kidney", "3": "Leber (ganz)"},
            {"left_kidney": (1,), "left-kidney": (2,), "leber_ganz": (3,)},
        ),
        ({"1": "liver", "2": "Liver"}, {"liver": (1, 2)}),
        ({"1": "1st rib", "2": "печень", "3": ""}, {"label_1st_rib": (1,), "label_2": (2,), "label_3": (3,)}),
        ({"x" * 60: 1}, {"x" * 40: (1,)}),
        ({"liver": 1.0}, {"liver": (1,)}),
        ({"Background": 0, "liver": [0, 1]}, {"liver": (1,)}),
    ],
)
def test_every_usable_name_counts(tmp_path, labels, organs):
    assert read(tmp_path, labels) == (organs, [])


@pytest.mark.parametrize("odd", [None, True, -1, 1.5, [1, "x"], {"a": 1}, "liver", [], 10**9])
def test_an_entry_that_is_no_label_costs_only_itself_and_is_told(tmp_path, odd):
    organs, notes = read(tmp_path, {"background": 0, "odd": odd, "liver": 1})
    assert organs == {"liver": (1,)}
    assert [note[:53] for note in notes] == ["1 of 3 labels in dataset.json were left out: their va"]


def test_of_overlapping_regions_the_first_is_taken_and_it_is_told(tmp_path):
    organs, notes = read(tmp_path, {"kidney": [1, 2, 3], "mass": [2, 3], "tumor": 2, "liver": 4})
    assert organs == {"kidney": (1, 2, 3), "liver": (4,)}
    assert notes[0].startswith("2 of 4 labels in dataset.json were left out")


def test_a_missing_file_says_nothing(tmp_path):
    assert dataset_rules(tmp_path / "dataset.json") == ((), ())
