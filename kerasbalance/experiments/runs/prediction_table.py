"""`predictions.csv`: which file of a folder of predictions belongs to which CT, and what was found in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.tabular import read_csv, rows_to_csv

TABLE = "predictions.csv"
State = Literal["started", "written", "present", "refused"]
_VOLUME = "_ml"


@dataclass(frozen=True)
class CaseRow:
    """One CT.

    Args:
        number: Its place in the folder of CT, as in `data.ct.FoundCT`.
        state: `"written"`; `"present"` if an earlier call wrote it; `"refused"`; `"started"` while it is written.
        case: Key that follows from the CT's pixels and UIDs and tells nobody who it is; "" if it could not be read.
        file: Name of the file.
        volumes_ml: By organ; NaN for a single slice.
        slices: Of the CT; 0 if it could not be read.
        seconds: What it took.
        made_by: Digest of the model and of the options that decide the file.
        error: Why it was refused.
        notes: Remarks; not in the table.
        path: Where the CT lies; only in the table if paths are to be shown.
    """

    number: int
    state: State
    case: str = ""
    file: str = ""
    volumes_ml: dict[str, float] = field(default_factory=dict)
    slices: int = 0
    seconds: float = 0.0
    made_by: str = ""
    error: DataError | None = None
    notes: tuple[Note, ...] = ()
    path: Path | None = None


def write_table(folder: Path, rows: list[CaseRow], organs: tuple[str, ...], *, show_paths: bool) -> None:
    """Write the table, whole or not at all.

    Args:
        folder: Of the predictions.
        rows: In the order of the table.
        organs: One column of millilitres each.
        show_paths: Whether to add where each CT lies.

    Raises:
        DataError: If it cannot be written (codes `DISK_FULL`, `UNWRITABLE`).
    """
    plain = [
        {
            "number": row.number,
            "case": row.case,
            "file": row.file,
            "state": row.state,
            **{f"{organ}{_VOLUME}": row.volumes_ml.get(organ, "") for organ in organs},
            "slices": row.slices,
            "seconds": row.seconds,
            "made_by": row.made_by,
            "code": row.error.code if row.error else "",
            "message": row.error.message() if row.error else "",
            **({"path": row.path or ""} if show_paths else {}),
        }
        for row in rows
    ]
    replace_file(folder / TABLE, rows_to_csv(plain))


def read_table(folder: Path) -> dict[str, CaseRow]:
    """Read the files that earlier calls wrote or began to write, by case; empty without a table.

    Raises:
        DataError: If the table is malformed (code `PREDICTIONS`).
    """
    path = folder / TABLE
    if not path.exists():
        return {}
    try:
        rows = [row for row in read_csv(path) if row["state"] in ("started", "written")]
        return {row["case"]: _parsed(row) for row in rows}
    except (OSError, KeyError, ValueError):
        raise DataError("PREDICTIONS", f"a folder without a readable {TABLE}", "the table that predict wrote",
                        "restore it, or choose another --out", path=path) from None  # fmt: skip


def _parsed(row: dict[str, str]) -> CaseRow:
    names = [name for name in row if name.endswith(_VOLUME) and row[name]]
    return CaseRow(
        number=int(row["number"]),
        state="written" if row["state"] == "written" else "started",
        case=row["case"],
        file=row["file"],
        volumes_ml={name.removesuffix(_VOLUME): float(row[name]) for name in names},
        slices=int(row["slices"]),
        seconds=float(row["seconds"]),
        made_by=row["made_by"],
    )
