"""The cases that a user lists in a table, as spreadsheet programs write it."""

import codecs
import csv
import difflib
import io
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import read_regular
from kerasbalance.data.ingest.case import CaseRequest, join_masks
from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.volume.stated_grid import parse_grid

COLUMNS = ("ct", "mask", "case", "patient", "labels", "grid")
MAX_BYTES = 2**26
_DELIMITERS = (",", ";", "\t")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Layout:
    """The cases that were found.

    Args:
        name: How the folder is organised, for the output.
        requests: The cases, in natural name order.
        problems: Masks that no case could be made of.
        notes: What was found and left out.
    """

    name: str
    requests: tuple[CaseRequest, ...]
    problems: tuple[DataError, ...] = ()
    notes: tuple[Note, ...] = ()


def numbered(requests: list[CaseRequest]) -> tuple[CaseRequest, ...]:
    """Return the requests with their places for messages, "case 3 of 12"."""
    return tuple(replace(r, where=f"case {n} of {len(requests)}") for n, r in enumerate(requests, 1))


def read_manifest(path: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Read a list of cases: a table with the columns ct and mask, and optionally case, patient, labels and grid.

    Commas, semicolons or tabs separate the columns; capitals, surrounding blanks and empty lines do not matter.
    The text is UTF-8, UTF-16 with a byte order mark, or else Windows-1252. Paths are relative to the manifest's
    folder. Rows that name the same CT are one case with several masks. `labels` holds rules like
    `liver=5,6;spleen=1`; it takes the place of `rules` in that row. `grid` holds axes and voxel sizes such as
    `LPS:0.8x0.8x2.5`, for image files whose headers are placeholders.

    Raises:
        DataError: If the file cannot be read, a column is missing or unknown, or a row is incomplete (code
            `MANIFEST`; the row is named).
    """
    columns, rows = _table(path)
    _check_columns(columns, path)
    requests: dict[Path, CaseRequest] = {}
    for number, cells in enumerate(rows, 1):
        if not any(cells):
            continue
        request = _row(number, columns, cells, path, rules)
        place = Path(os.path.realpath(request.ct))
        known = requests.get(place)
        if known and known.patient and request.patient not in ("", known.patient):
            raise _error(
                f"row {number} with another patient than an earlier row of the same CT", "one patient", path
            )
        if known and known.grid and request.grid not in (None, known.grid):
            raise _error(
                f"row {number} with another grid than an earlier row of the same CT", "one grid", path
            )
        requests[place] = join_masks(known, request) if known else request
    if not requests:
        raise _error("a manifest without rows", "one row for each case", path)
    return Layout("manifest", numbered(list(requests.values())))


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the columns' names in lower case, and the cells of the rows without surrounding blanks."""
    try:
        text = _decode(read_regular(path, max_bytes=MAX_BYTES))
        # Excel may state its separator in a line before the header.
        text = re.sub(r"\A\s*sep=.[\r\n]+", "", text, flags=re.IGNORECASE)
        tables = [list(csv.reader(io.StringIO(text, newline=""), delimiter=each)) for each in _DELIMITERS]
    except (DataError, OSError, UnicodeDecodeError, csv.Error) as error:
        kind = error.code if isinstance(error, DataError) else type(error).__name__
        raise _error(f"a manifest that cannot be read ({kind})", "a CSV file", path) from None
    stripped = [[[cell.strip() for cell in row] for row in table] for table in tables]
    stripped = [table[next((n for n, row in enumerate(table) if any(row)), 0) :] for table in stripped]
    heads = [[name.casefold() for name in table[0]] if table else [] for table in stripped]
    best = max(range(len(heads)), key=lambda n: (len(set(heads[n]) & {"ct", "mask"}), -n))
    return heads[best], stripped[best][1:]


def _decode(content: bytes) -> str:
    if content.startswith(_UTF_16):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in ("ct", "mask") if name not in columns]
    unknown = [n for n, name in enumerate(columns, 1) if name and name not in COLUMNS]
    doubled = [name for name, count in Counter(columns).items() if name in COLUMNS and count > 1]
    if missing:
        what = f"no column {missing[0]!r}"
    elif unknown:
        what = f"{len(unknown)} columns that are not known ({', '.join(_guess(n, columns) for n in unknown)})"
    elif doubled:
        what = f"the column {doubled[0]!r} twice"
    else:
        return
    raise _error(what, f"the columns {', '.join(COLUMNS)} (ct and mask are needed)", path,
                 "rename or remove columns of the manifest")  # fmt: skip


def _guess(number: int, columns: list[str]) -> str:
    likely = difflib.get_close_matches(columns[number - 1], COLUMNS, 1, 0.75)
    return f"column {number}" + (f", perhaps {likely[0]}" if likely else "")


def _row(
    number: int, columns: list[str], cells: list[str], path: Path, rules: tuple[OrganRule, ...]
) -> CaseRequest:
    row = dict(zip(columns, cells, strict=False))
    unnamed = [cell for n, cell in enumerate(cells) if cell and (n >= len(columns) or not columns[n])]
    if unnamed or not row.get("ct") or not row.get("mask"):
        raise _error(f"row {number} without ct or mask, or with too many fields", "both paths", path,
                     "correct the manifest: a cell that holds the separator needs quotation marks")  # fmt: skip
    if any("\0" in cell for cell in cells):
        raise _error(f"row {number} with a NUL character", "text", path)
    labels = [part for part in row.get("labels", "").split(";") if part.strip()]
    try:
        own_rules = tuple(parse_rule(part) for part in labels)
    except DataError:
        raise _error(f"row {number} with labels that say nothing", "liver=5,6;spleen=1", path) from None
    try:
        grid = parse_grid(row["grid"]) if row.get("grid") else None
    except DataError as error:
        raise _error(f"row {number} with {error.received}", error.expected, path, error.advice) from None
    ct, mask = path.parent / row["ct"], path.parent / row["mask"]
    return CaseRequest(ct, mask, own_rules or rules, row.get("patient", ""), grid=grid)


def _error(received: str, expected: str, path: Path, advice: str = "correct the manifest") -> DataError:
    return DataError("MANIFEST", received, expected, advice, path=path)
