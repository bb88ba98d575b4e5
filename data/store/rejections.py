"""What the last ingests refused, kept with the store."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from kerasbalance.data.store.files import read_file, replace_file
from kerasbalance.data.store.store import Store


@dataclass(frozen=True)
class Rejection:
    """An input that was refused.

    Args:
        key: Keyed hash of the source.
        code: `DataError.code`.
        message: `DataError.message()`, free of paths and identifiers.
    """

    key: str
    code: str
    message: str


def read_rejections(store: Store) -> list[Rejection]:
    """Return what the store's last ingests refused; a line that is damaged is left out."""
    try:
        content = read_file(store.path / "rejects.jsonl")
    except OSError:
        return []
    found = []
    for line in content.splitlines():
        try:
            found.append(Rejection(**{name: str(value) for name, value in json.loads(line).items()}))
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue  # only a log: the next ingest of that source writes it anew
    return found


def record_rejections(store: Store, refused: Mapping[str, Rejection], taken: set[str]) -> None:
    """Keep the latest refusal of each source and forget those that were taken since.

    Raises:
        DataError: If the disk is full or cannot be written (codes `DISK_FULL`, `UNWRITABLE`); the log is as it was.
    """
    before = read_rejections(store)
    after = {r.key: r for r in before if r.key not in taken} | dict(refused)
    if list(after.values()) != before:
        lines = [json.dumps(asdict(r), sort_keys=True) + "\n" for _, r in sorted(after.items())]
        replace_file(store.path / "rejects.jsonl", "".join(lines).encode())
