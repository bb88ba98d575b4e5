"""Joins stores that were made on several machines with the same key."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import Entry
from kerasbalance.data.store.files import unwritable
from kerasbalance.data.store.rejections import read_rejections, record_rejections
from kerasbalance.data.store.store import Store
from kerasbalance.data.store.writer import Writer, open_writer

Progress = Callable[[int], None]
_CHUNK = 2**24


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Args:
        added: Cases that were put into the store.
        linked: Those of them that share their file with the store they came from, and take no room.
        unchanged: Cases that were there already, with the same bytes.
        conflicts: Why a case was left out, one for each.
    """

    added: int
    linked: int
    unchanged: int
    conflicts: tuple[DataError, ...]


def merge_stores(sources: Sequence[Path], out: Path, progress: Progress = lambda done: None) -> Merged:
    """Put the cases of several stores into one, which is made if need be.

    A case's file is linked where both stores lie on one file system, else copied and hashed. The sources stay as they
    are, and a merge that was interrupted is completed by the same call.

    Args:
        sources: The stores; of a case that two of them hold with different content, the first counts.
        out: The store to put them into.
        progress: Called with the number of cases looked at since the last call.

    Returns:
        What was done. A case is left out if the store holds the same series with other content, or the same images
        as another series.

    Raises:
        DataError: If a store cannot be read or is damaged, the keys differ, or the store cannot be written (codes
            `NO_STORE`, `DAMAGED`, `KEY_DIFFERS`, `UNWRITABLE`, `DISK_FULL`, `LOCKED`).
    """
    stores = [Store(path) for path in sources]
    fingerprints = {str(store.manifest["key_fingerprint"]) for store in stores}
    if len(fingerprints) > 1:
        raise DataError("KEY_DIFFERS", f"stores that were made with {len(fingerprints)} key files", "one key file",
                        "ingest the cases again with the same --key-file on all machines")  # fmt: skip
    target = Store.create_with(Path(out), fingerprints.pop())
    counts = {"added": 0, "linked": 0, "unchanged": 0}
    conflicts = []
    with open_writer(target) as writer:
        for number, store in enumerate(stores, 1):
            for entry in store.entries().values():
                try:
                    counts[_take(writer, target, store, entry)] += 1
                except DataError as error:
                    if error.code not in ("CHANGED", "DUPLICATE"):
                        raise
                    conflicts.append(error.at(where=f"store {number}"))
                progress(1)
        for store in stores:
            record_rejections(target, {one.key: one for one in read_rejections(store)}, set())
    added = counts["added"] + counts["linked"]
    return Merged(added, counts["linked"], counts["unchanged"], tuple(conflicts))


def _take(writer: Writer, target: Store, store: Store, entry: Entry) -> str:
    """Put one case into the store; return the count that it belongs to."""
    known = writer.entry(entry.facts.key)
    if known is not None and known.sha256 == entry.sha256:
        return "unchanged"
    where = f"case {entry.facts.key[:8]}"
    if known is not None or writer.knows(entry.facts.key):
        raise DataError(
            "CHANGED",
            "a series that is stored already with other content",
            "one content for each series",
            "ingest it again from its source, with --replace, into the merged store",
            where=where,
        )
    twin = writer.same_images(entry.facts)
    if twin is not None:
        raise DataError("DUPLICATE", f"the images of case {twin.key[:8]} under another series", "each CT once",
                        "ingest only one of the two; one is stored now", where=where)  # fmt: skip
    aside = target.aside / f"{uuid.uuid4().hex}.tmp"
    linked = _bring(store.cases_folder / entry.file_name, aside, entry)
    writer.commit(entry, aside)
    return "linked" if linked else "added"


def _bring(source: Path, aside: Path, entry: Entry) -> bool:
    """Link a case's file, or copy it where that is not possible; say whether it was linked."""
    try:
        os.link(source, aside)
        return True
    except OSError:
        pass  # another file system, or one without links
    try:
        digest = _copy(source, aside)
    except OSError as error:
        raise unwritable(error, entry.size, path=aside.parent) from None
    if digest != entry.sha256:
        aside.unlink()
        raise damaged("a case with other bytes than the index states", where=f"case {entry.facts.key[:8]}")
    return False


def _copy(source: Path, aside: Path) -> str:
    with open(source, "rb") as reader, open(aside, "xb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK)
        writer.flush()
        os.fsync(writer.fileno())
    with open(aside, "rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()
