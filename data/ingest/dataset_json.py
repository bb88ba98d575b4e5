"""The names of label values in the dataset.json of nnU-Net, the Decathlon and data sets that follow them."""

import json
import re
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import read_regular
from kerasbalance.data.labels import OrganRule

MAX_BYTES = 2**26
MAX_NAME = 40
_NOT_ORGANS = frozenset({"background", "ignore"})
"""nnU-Net's "ignore" marks voxels that were not annotated."""


def dataset_rules(path: Path) -> tuple[tuple[OrganRule, ...], tuple[Note, ...]]:
    """Read which label value means which organ; each name counts on its own.

    Labels are `name: value` (nnU-Net 2; a value may be a list, which is a region) or `value: name` (Decathlon).
    Names become organ names: lower case, with `_` for what an organ's name may not hold. Values under one name
    are one organ. Of two regions that share a value the first one is taken.

    Returns:
        The rules, none where the file says nothing, and a note on entries that could not be used.
    """
    try:
        labels = json.loads(read_regular(path, max_bytes=MAX_BYTES))["labels"]
        entries = list(labels.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        missing = isinstance(error, DataError) and error.code == "UNREADABLE"
        text = "dataset.json cannot be read or has no labels; name the values with --label"
        return (), () if missing else (Note("DATASET_JSON", text, loud=True),)
    values: dict[str, list[int]] = {}
    skipped = 0
    for name, numbers in (_entry(key, value) for key, value in entries):
        if name in _NOT_ORGANS or numbers == [0]:
            continue
        taken = {number for other, own in values.items() if other != name for number in own}
        if not numbers or taken & set(numbers):
            skipped += 1
        else:
            values.setdefault(name, []).extend(n for n in numbers if n and n not in values.get(name, ()))
    rules = tuple(OrganRule(name, tuple(numbers)) for name, numbers in values.items())
    if not skipped:
        return rules, ()
    text = (
        f"{skipped} of {len(entries)} labels in dataset.json were left out: their values are no label numbers, or "
        "belong to an earlier label; name the values with --label if you need them"
    )
    return rules, (Note("DATASET_JSON", text, loud=True),)


def _entry(key: str, value: Any) -> tuple[str, list[int]]:
    """Return an organ's name and its values; no values where the entry is neither of the two forms."""
    for name, numbers in ((key, _numbers(value)), (value, _numbers(key))):
        if numbers and isinstance(name, str):
            return _organ(name, numbers), numbers
    return "", []


def _numbers(value: Any) -> list[int]:
    """Return the label numbers that a value holds, none if any part of it is something else."""
    items = [_number(item) for item in (value if isinstance(value, list) else [value])]
    return [] if None in items else [item for item in items if item is not None]


def _number(item: Any) -> int | None:
    if isinstance(item, str) and re.fullmatch(r"\s*[0-9]{1,5}\s*", item):
        return int(item)
    whole = (
        isinstance(item, int | float) and not isinstance(item, bool) and 0 <= item < 1e5 and item == int(item)
    )
    return int(item) if whole else None


def _organ(name: str, numbers: list[int]) -> str:
    plain = re.sub(r"[^a-z0-9-]+", "_", name.strip().lower()).strip("_-")[:MAX_NAME].rstrip("_-")
    if re.match(r"[a-z]", plain):
        return plain
    return f"label_{plain}"[:MAX_NAME] if plain else f"label_{numbers[0]}"
