"""From the numbers of a label map to organs: which values count, which are ignored, which are refused."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.labels import OrganRule

MAX_LABEL = 65_535
MAX_DISTINCT = 1_000
SHOWN = 12
FEW_IGNORED = 4
ROUNDING = 1e-3

Counts = dict[int, int]


def count_values(planes: Iterable[NDArray[Any]]) -> Counts:
    """Count the label values of a stack, background included.

    Args:
        planes: `(rows, columns)` slices of integers, or of floats that are integers within `ROUNDING`.

    Returns:
        Voxels by value, in growing order of the values.

    Raises:
        DataError: If there are values that are negative, fractional, not finite, above `MAX_LABEL`, or more than
            `MAX_DISTINCT` different ones (code `LABEL_VALUE`).
    """
    total = np.zeros(MAX_LABEL + 1, np.int64)
    for plane in planes:
        labels = as_labels(plane)
        marked = labels[labels != 0]
        counted = np.bincount(marked, minlength=1)
        total[: len(counted)] += counted
        total[0] += labels.size - marked.size
    values = np.flatnonzero(total)
    if len(values) > MAX_DISTINCT:
        raise _bad_value(
            f"{len(values):,} different values", "name the mask; this may be a CT or another image"
        )
    return {int(value): int(total[value]) for value in values}


def as_labels(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a slice as uint8 or uint16; raises as `count_values`."""
    if plane.dtype.kind == "f":
        plane = _whole(plane)
    if plane.size and (plane.min() < 0 or plane.max() > MAX_LABEL):
        received = f"values from {plane.min():g} to {plane.max():g}"
        raise _bad_value(received, "name the mask; this may be a CT or another image")
    labels: NDArray[Any] = plane if plane.dtype == np.uint8 else plane.astype(np.uint16)
    return labels


def _whole(plane: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        exact: NDArray[Any] = plane.astype(np.int32)
        if (exact == plane).all():
            return exact
        rounded: NDArray[Any] = np.rint(plane)
        # NaN and infinity fail the comparison as well.
        odd = ~(np.abs(plane - rounded) <= ROUNDING)
    if odd.any():
        example = float(plane[odd][0])
        received = f"{int(odd.sum()):,} voxels of one slice that are no whole numbers, e.g. {example:.4g}"
        raise _bad_value(received, "threshold a probability map first")
    return rounded


def _bad_value(received: str, advice: str) -> DataError:
    return DataError("LABEL_VALUE", received, "whole label numbers from 0 upwards", advice)


def show_counts(counts: Counts) -> str:
    """Write the labelled values and their voxel counts: `"7: 12 px, 9: 3 px"`, the most frequent first."""
    labelled = sorted(((n, v) for v, n in counts.items() if v), reverse=True)
    shown = ", ".join(f"{value}: {count:,} px" for count, value in labelled[:SHOWN])
    return shown + (f" and {len(labelled) - SHOWN} more values" if len(labelled) > SHOWN else "")


def value_table(counts: Counts, rules: tuple[OrganRule, ...]) -> tuple[NDArray[np.uint8], tuple[Note, ...]]:
    """Decide what each value of a label map means.

    Values that the rules name are taken and the others ignored, with a note. A rule without values is for a
    mask of one organ, which may hold 0 and one other value. Where the only rule names 1 and the mask holds 0
    and 255, 255 is taken as 1. A mask that is all 0 is taken as it is.

    Args:
        counts: Voxels by value.
        rules: At least one; their values must be numbers.

    Returns:
        uint8 table `(largest value + 1,)` from label value to organ number (from 1), and notes.

    Raises:
        DataError: If there are no rules (`LABEL_RULE`, with the values found), rules that are no numbers
            (`LABEL_RULE`), values that no rule explains, or none of the named values present (`LABEL_VALUE`, with
            counts).
    """
    if not rules:
        raise _unnamed(counts)
    table = np.zeros(max(counts, default=0) + 1, np.uint8)
    named, notes = _named_values(counts, rules)
    for value, organ in named.items():
        if value < len(table):
            table[value] = organ
    ignored = {value: count for value, count in counts.items() if value and not table[value]}
    if ignored and not any(table[value] for value in counts):
        raise DataError(
            "LABEL_VALUE",
            f"a mask with none of the named values; it has {show_counts(counts)}",
            "at least one of the values that --label names",
            f"name the values of this mask, e.g. --label {rules[0].organ}={_most(ignored)}",
        )
    if ignored:
        text = f"label values that no organ claims count as background: {show_counts(ignored)}"
        notes = (*notes, Note("IGNORED", text, loud=len(ignored) <= FEW_IGNORED))
    return table, notes


def _most(counts: Counts) -> int:
    """Return the most frequent labelled value, 1 where there is none."""
    return max((value for value in counts if value), key=lambda value: counts[value], default=1)


def _proposed(counts: Counts, rules: tuple[OrganRule, ...]) -> list[tuple[OrganRule, int]]:
    """Return a value for each organ: those that the mask has, and then others that are free."""
    values = sorted(value for value in counts if value)
    values += [value for value in range(1, len(rules) + 1) if value not in values]
    return list(zip(rules, values, strict=False))


def _unnamed(counts: Counts) -> DataError:
    found = show_counts(counts) or "no labelled voxel"
    return DataError(
        "LABEL_RULE",
        f"a label map and no --label; it has {found}",
        "the organ that each value means",
        f"name them, e.g. --label liver={_most(counts)}",
    )


def _named_values(counts: Counts, rules: tuple[OrganRule, ...]) -> tuple[dict[int, int], tuple[Note, ...]]:
    """Return organ numbers (from 1) by label value."""
    if any(isinstance(value, str) for rule in rules for value in rule.values):
        raise DataError(
            "LABEL_RULE",
            "a name for a label map",
            "numbers",
            f"write for example --label {rules[0].organ}={_most(counts)}",
        )
    open_rules = [rule for rule in rules if not rule.values]
    if len(open_rules) > 1 or (open_rules and len(rules) > 1):
        raise DataError(
            "LABEL_RULE",
            f"{len(rules)} organs for one label map, {len(open_rules)} of them without a value",
            "values for each of them",
            "name them, e.g. "
            + " ".join(f"--label {rule.organ}={value}" for rule, value in _proposed(counts, rules)),
        )
    full = Note("VALUE_255", "the mask's 255 was taken as 1")
    labelled = {value for value in counts if value}
    if open_rules:
        return _two_valued(counts, labelled, open_rules[0], full)
    named = {int(value): number for number, rule in enumerate(rules, 1) for value in rule.values}
    if labelled == {255} and set(named) == {1}:
        return {255: 1}, (full,)
    return named, ()


def _two_valued(
    counts: Counts, labelled: set[int], rule: OrganRule, full: Note
) -> tuple[dict[int, int], tuple[Note, ...]]:
    if labelled <= {1}:
        return {1: 1}, ()
    if labelled == {255}:
        return {255: 1}, (full,)
    if len(labelled) == 1:
        (value,) = labelled
        return {value: 1}, (Note("ONE_VALUE", f"the mask's only value, {value}, was taken as {rule.organ}"),)
    strange = {value: count for value, count in counts.items() if value not in (0, 1)}
    raise DataError(
        "LABEL_VALUE",
        f"values that no rule names: {show_counts(strange)}",
        "0 and one other value in a mask of one organ",
        f"say which value is the organ, e.g. --label {rule.organ}={_most(strange)}",
    )


def translate(
    planes: Iterator[NDArray[Any]], table: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Turn label values into organ numbers, slice by slice.

    Args:
        planes: The slices that were counted.
        table: From `value_table`.
        shape: `(slices, rows, columns)`.

    Returns:
        uint8 of that shape.
    """
    labels = np.empty(shape, np.uint8)
    for number, plane in enumerate(planes):
        own = as_labels(plane)
        if own.any():
            table.take(own, out=labels[number], mode="clip")  # no value is beyond: they were counted
        else:
            labels[number] = table[0]
    return labels
