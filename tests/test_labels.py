import pickle

import pytest

from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import SNOMED, OrganRule, check_rules, known_organ, parse_rule, plain_name


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("liver", OrganRule("liver")),
        ("liver=5,6", OrganRule("liver", (5, 6))),
        ("liver = 5 , 6", OrganRule("liver", (5, 6))),
        ("liver=Liver GTV", OrganRule("liver", ("Liver GTV",))),
        ("kidney=kidney_left,3", OrganRule("kidney", ("kidney_left", 3))),
    ],
)
def test_rules_are_parsed(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["liver=", "Liver=1", "=5", "", "a" * 41, "liver tumour=2", "../liver"])
def test_rules_of_another_form_are_refused(text):
    with pytest.raises(DataError, match="LABEL_RULE"):
        parse_rule(text)


@pytest.mark.parametrize(
    "rules",
    [
        ("liver=1", "liver=2"),
        ("liver=1", "spleen=1"),
        ("liver=1,1",),
        tuple(f"o{n}={n}" for n in range(1, 300)),
    ],
)
def test_contradictory_rules_are_refused(rules):
    with pytest.raises(DataError, match="LABEL_RULE") as caught:
        check_rules(tuple(map(parse_rule, rules)))
    assert pickle.loads(pickle.dumps(caught.value)).code == "LABEL_RULE"


def test_agreeing_rules_pass():
    check_rules(())
    check_rules((parse_rule("liver=1,2"), parse_rule("kidney=3")))


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("Liver", "liver"),
        (" LIVER ", "liver"),
        ("Kidney_L", "kidney"),
        ("Right Kidney", "kidney"),
        ("leftkidney", "kidney"),
        ("kidney-left", "kidney"),
        ("Spleen", "spleen"),
        ("liver tumor", None),
        ("not liver", None),
        ("", None),
    ],
)
def test_plain_organ_names_are_known(name, organ):
    assert known_organ(name) == organ


def test_codes_name_known_organs():
    assert {SNOMED[code] for code in SNOMED} == {"liver", "kidney", "spleen"}
    assert SNOMED["10200004"] == SNOMED["T-62000"] == "liver"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Left lung", "left lung"),
        ("vertebrae_L1", "vertebrae l1"),
        ("rib_12", "rib 12"),
        ("GTV 1", "gtv 1"),
        ("Jane Doe", None),
        ("liver Müller", None),
        ("Liver 19800101", None),
        ("liver 1980", None),
        ("", None),
        ("liver " * 7, None),
    ],
)
def test_only_anatomical_words_are_plain(name, plain):
    assert plain_name(name) == plain
