"""CSV and JSON as the files of runs and studies have them; each file's own module says what is in it."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table with a heading as CSV; numbers read back bit by bit, `inf` and `nan` included."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows that all have the same names as CSV, see `to_csv`; no rows give no heading."""
    return to_csv(list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a heading, also as spreadsheet programs write it; a cell that is missing is empty.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, restval=""))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def to_json(value: Any) -> bytes:
    """Return plain values as JSON that a person can read too.

    Raises:
        ValueError: If a number is not finite; see `with_words`.
    """
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def with_words(value: Any) -> Any:
    """Return plain values in which "nan", "inf" and "-inf" stand for the numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: with_words(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_words(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
