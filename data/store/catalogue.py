"""The index of a store: a line a case, appended and synced; a cache of what the cases say themselves.

A line that is torn, flipped or missing costs nothing but time: its case is read instead. A line that withdraws a
case comes before its file is replaced, so that no line ever describes another file than the one that is there.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import Entry, facts_from
from kerasbalance.data.store.files import read_file, replace_file, unwritable
from kerasbalance.files import write_all


@dataclass(frozen=True)
class Catalogue:
    """What an index file says.

    Args:
        entries: The last good line of each case that was not withdrawn afterwards, by key.
        content: The file's bytes.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    content: bytes = b""

    @property
    def is_tidy(self) -> bool:
        """Whether every line is good, none is superseded, and the last one is complete."""
        lines = self.content.count(b"\n")
        return lines == len(self.entries) and self.content[-1:] in (b"", b"\n")


def read_catalogue(path: Path) -> Catalogue:
    """Read an index; a missing file gives an empty one.

    Raises:
        DataError: If it is there and cannot be read (code `DAMAGED`).
    """
    try:
        content = read_file(path)
    except FileNotFoundError:
        return Catalogue()
    except OSError as error:
        raise damaged(f"an index that cannot be read ({error.strerror})", path=path) from None
    entries: dict[str, Entry] = {}
    for line in content.splitlines():
        body = _body(line)
        if isinstance(body, Entry):
            entries[body.facts.key] = body
        elif body is not None:
            entries.pop(body, None)
    return Catalogue(entries, content)


def load_entry(line: bytes) -> Entry | None:
    """Read an index line; None where its checksum or form is wrong, or it describes no case."""
    body = _body(line)
    return body if isinstance(body, Entry) else None


def _body(line: bytes) -> Entry | str | None:
    """Return a line's entry, or the key that it withdraws."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(body):
            return None
        fields = json.loads(body)
        if "withdrawn" in fields:
            return str(fields["withdrawn"])
        facts = facts_from(fields.pop("facts"))
        start, stop = fields.pop("image_range")
        return Entry(facts=facts, image_range=(start, stop), **fields)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def dump_entry(entry: Entry) -> bytes:
    """Return an index line: CRC-32 of the rest, a blank, the entry as JSON, a line end."""
    return _line(asdict(entry))


def dump_withdrawal(key: str) -> bytes:
    """Return the line that makes the earlier lines of a case void."""
    return _line({"withdrawn": key})


def _line(fields: dict[str, object]) -> bytes:
    body = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def write_catalogue(path: Path, entries: Iterable[Entry]) -> None:
    """Put a new index in place of the old.

    Raises:
        DataError: If the disk is full or cannot be written (codes `DISK_FULL`, `UNWRITABLE`).
    """
    replace_file(path, b"".join(dump_entry(entry) for entry in entries))


def append_line(path: Path, line: bytes) -> None:
    """Append a line durably, or leave the index as it was.

    Raises:
        DataError: If the disk is full or cannot be written (codes `DISK_FULL`, `UNWRITABLE`).
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _append(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(error, len(line), path=path) from None


def _append(descriptor: int, line: bytes) -> None:
    before = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, line)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
