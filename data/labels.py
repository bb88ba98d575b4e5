"""Organs and the label values that mean them.

A mask file says numbers, segment labels or ROI names; a case stores organs. `OrganRule` is the link, as the
user states it (`--label liver=5,6`), and `known_organ` recognises the usual names where nothing was stated.
"""

import re
from collections import Counter
from dataclasses import dataclass

from kerasbalance.data.errors import DataError

MAX_ORGANS = 254

_SYNONYMS = {
    "liver": ("liver", "hepar", "leber", "foie"),
    "kidney": (
        "kidney",
        "kidneys",
        *(f"kidney_{side}" for side in ("left", "right", "l", "r")),
        *(f"{side}_kidney" for side in ("left", "right", "l", "r")),
        *(f"{side}kidney" for side in ("left", "right")),
    ),
    "spleen": ("spleen", "lien", "milz", "rate"),
}
_PAIRED = frozenset({"kidney"})
_KNOWN = {name: organ for organ, names in _SYNONYMS.items() for name in names}

SNOMED = {
    "10200004": "liver",
    "64033007": "kidney",
    "18639004": "kidney",
    "9846003": "kidney",
    "78961009": "spleen",
    "T-62000": "liver",
    "T-71000": "kidney",
    "T-C3000": "spleen",
}
"""Codes of segmented properties: SNOMED CT (DICOM PS3.16 CID 7166 and its neighbours), and SNOMED RT (PS3.16
annex O) as older files have them."""

_WORDS = """
left right l r upper lower middle inferior superior anterior posterior medial lateral main common organ
organs body tissue background lobe segment wall vessel vessels vein veins artery arteries trunk cortex lesion
tumor tumour cyst metastasis nodule liver hepar leber foie hepatic kidney kidneys renal spleen splenic lien
milz rate pancreas gallbladder stomach duodenum bowel small large intestine colon rectum esophagus oesophagus
bladder urinary prostate uterus ovary adrenal gland thyroid lung lungs heart atrium ventricle myocardium
aorta vena cava portal iliac iliopsoas gluteus maximus medius minimus autochthon muscle skin fat bone bones
rib ribs sternum vertebra vertebrae spine spinal cord canal sacrum hip femur humerus scapula clavicula
clavicle costal cartilage brain skull face trachea bronchus airway mediastinum ptv ctv gtv external
and of the"""
_PLAIN_WORDS = frozenset(_WORDS.split())

IGNORED = "ignore"
"""The organ's name under which a mask marks pixels that are not annotated."""


@dataclass(frozen=True)
class OrganRule:
    """Which values of a mask mean one organ.

    Args:
        organ: The organ's name: lower-case letters, digits, `_` and `-`.
        values: Label numbers (int) or segment and ROI names (str). Empty: whatever a two-valued mask marks,
            or the segment or ROI that bears the organ's name.
    """

    organ: str
    values: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", self.organ):
            raise DataError(
                "LABEL_RULE",
                f"the organ name {self.organ!r}",
                "up to 40 lower-case letters, digits, _ or -, beginning with a letter",
                "rename the organ, e.g. --label liver=1",
            )


def parse_rule(text: str) -> OrganRule:
    """Read `"liver=5,6"`, `"liver=Liver GTV"` or `"liver"`.

    Raises:
        DataError: If the text is not of that form (code `LABEL_RULE`).
    """
    organ, _, values = text.partition("=")
    parts = [part.strip() for part in values.split(",") if part.strip()]
    if "=" in text and not parts:
        raise DataError(
            "LABEL_RULE", f"{text!r}", "ORGAN=VALUE[,VALUE...]", "write for example --label liver=5,6"
        )
    return OrganRule(organ.strip(), tuple(int(p) if re.fullmatch(r"\d+", p) else p for p in parts))


def known_organ(name: str) -> str | None:
    """Return the organ that a segment or ROI name plainly means, or None ("Liver" → "liver")."""
    return _KNOWN.get(re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_"))


def is_paired(organ: str) -> bool:
    """Return whether a known organ consists of a left and a right part that lie apart."""
    return organ in _PAIRED


def plain_name(name: str) -> str | None:
    """Return a segment or ROI name in lower case if every word of it is a plain anatomical one, else None.

    People type these names and may type a patient's; only plain ones may be shown in a message. Levels of the
    spine and numbers below 100 count as plain ("vertebrae L1", "rib 12").
    """
    words = re.findall(r"[^\W_]+", name.lower())
    plain = all(w in _PLAIN_WORDS or re.fullmatch(r"[tlcs]?\d{1,2}", w) for w in words)
    return " ".join(words) if plain and 0 < len(words) <= 6 else None


def check_rules(rules: tuple[OrganRule, ...]) -> None:
    """Refuse rules that contradict each other.

    Raises:
        DataError: If there is an organ twice, a value claimed by two organs, or too many organs (code `LABEL_RULE`).
    """
    organs = [rule.organ for rule in rules]
    values = [value for rule in rules for value in rule.values]
    doubled = [str(item) for items in (organs, values) for item, count in Counter(items).items() if count > 1]
    if doubled or len(organs) > MAX_ORGANS:
        raise DataError(
            "LABEL_RULE",
            f"labels that name {doubled[0]!r} twice" if doubled else f"{len(organs)} organs",
            f"each organ and each value once, at most {MAX_ORGANS} organs",
            "merge the values of one organ in one rule: --label kidney=2,3",
        )
