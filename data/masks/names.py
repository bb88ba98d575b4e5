"""From the names and codes of segments, ROIs and files to organs.

People type these names, so they may hold a patient's name: no name is kept, and a message shows one only
where every word of it is a plain anatomical word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import OrganRule, known_organ, plain_name

SHOWN = 20


@dataclass(frozen=True)
class Structure:
    """One segment, ROI or mask file.

    Args:
        number: SegmentNumber, ROINumber, or the place in the folder.
        name: What a person called it; never shown unless it is plain.
        organ: What its code says it is, None where there is none or it is unknown.
    """

    number: int
    name: str
    organ: str | None = None


@dataclass(frozen=True)
class Selection:
    """Which structures make up which organ.

    Args:
        organs: Names, in the order of the rules; recognised ones in the order of the structures.
        organ_of: Position in `organs` by structure number; structures that were not asked for are absent.
    """

    organs: tuple[str, ...]
    organ_of: dict[int, int]


def select(structures: Sequence[Structure], rules: tuple[OrganRule, ...], *, word: str) -> Selection:
    """Find the structures that the rules name, or the organs that are known where there are no rules.

    A number in a rule is a structure's number, a text its name without regard to case; a rule without values
    takes what is recognised as that organ by code or name. Left and right kidney are both `kidney`.

    Args:
        structures: All of them.
        rules: May be empty.
        word: What a structure is called in messages: `"segment"`, `"ROI"` or `"file"`.

    Raises:
        DataError: If nothing was selected (`LABEL_NAME`, lists what there is), or a structure was claimed twice
            (`LABEL_RULE`).
    """
    wanted = {s.number: _claims(s, rules) for s in structures}
    doubled = [number for number, organs in wanted.items() if len(organs) > 1]
    if doubled:
        raise DataError(
            "LABEL_RULE",
            f"{word} {doubled[0]} claimed by {' and '.join(wanted[doubled[0]])}",
            "one organ for each",
            f"name each of the {word}s in one --label only",
        )
    chosen = {number: organs[0] for number, organs in wanted.items() if organs}
    if not chosen:
        raise nothing_selected(structures, rules, word)
    organs = tuple(rule.organ for rule in rules) or tuple(dict.fromkeys(chosen.values()))
    return Selection(organs, {number: organs.index(organ) for number, organ in chosen.items()})


def _claims(structure: Structure, rules: tuple[OrganRule, ...]) -> list[str]:
    recognised = structure.organ or known_organ(structure.name)
    if not rules:
        return [recognised] if recognised else []
    return [rule.organ for rule in rules if _matches(structure, rule, recognised)]


def _matches(structure: Structure, rule: OrganRule, recognised: str | None) -> bool:
    name = structure.name.strip().casefold()
    if not rule.values:
        return rule.organ in (recognised, name, name.replace(" ", "_"))
    return any(
        value == structure.number if isinstance(value, int) else value.casefold() == name
        for value in rule.values
    )


def nothing_selected(structures: Sequence[Structure], rules: tuple[OrganRule, ...], word: str) -> DataError:
    """Make the error that lists what a mask has, without quoting names that are not plainly anatomical."""
    listed = [_describe(structure, word) for structure in structures[:SHOWN]]
    if len(structures) > SHOWN:
        listed.append(f"{len(structures) - SHOWN} more")
    sought = ", ".join(rule.organ for rule in rules) or "an organ that is known by its code or name"
    return DataError(
        "LABEL_NAME",
        f"a mask with {', '.join(listed) or f'no {word}'}",
        f"a {word} for {sought}",
        _example(structures, rules, word),
    )


def _example(structures: Sequence[Structure], rules: tuple[OrganRule, ...], word: str) -> str:
    """Return an advice that is valid for this mask: files and folders have names, segments and ROIs numbers."""
    organ = rules[0].organ if rules else "liver"
    if not structures:
        return "name a mask that has one"
    if word in ("file", "folder"):
        return f"say which {word} it is by its name without ending, e.g. --label {organ}=NAME"
    return f"say which one it is, e.g. --label {organ}={structures[0].number}"


def _describe(structure: Structure, word: str) -> str:
    plain = plain_name(structure.name)
    return f"{word} {structure.number}" + (f" ({plain})" if plain else "")
