"""Adding to a store: cases that were written aside are put in place one by one."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.catalogue import (
    append_line,
    dump_entry,
    dump_withdrawal,
    read_catalogue,
    write_catalogue,
)
from kerasbalance.data.store.facts import CaseFacts, Entry
from kerasbalance.data.store.files import unwritable
from kerasbalance.data.store.lock import store_lock
from kerasbalance.data.store.store import Store
from kerasbalance.files import sync_folder


class Writer:
    """The one process that may change a store; made by `open_writer`.

    Args:
        store: The store, locked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._check_access()
        self.clear_aside()
        index = read_catalogue(store.index)
        self._entries, self._faults = store.survey()
        # A damaged case keeps its line: whoever lost a file must hear of it until it is mended.
        lost = {key: index.entries[key] for key in self._faults if key in index.entries}
        self._lines = lost | self._entries
        if not index.is_tidy or index.entries != self._lines:
            write_catalogue(store.index, self._lines.values())
        self._by_image: defaultdict[str, set[str]] = defaultdict(set)
        for entry in self._entries.values():
            self._by_image[entry.facts.image_digest].add(entry.facts.key)

    def _check_access(self) -> None:
        try:
            self._store.aside.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unwritable(error, path=self._store.path) from None
        for folder in (self._store.path, self._store.cases_folder, self._store.aside):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise DataError("UNWRITABLE", "a store that cannot be written", "a store you may write to",
                                "check its permissions", path=folder)  # fmt: skip

    def clear_aside(self) -> None:
        """Delete what unfinished writes left; nothing of it was ever reported as stored."""
        try:
            for folder in (self._store.aside, self._store.path):
                for path in folder.glob("*.tmp"):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(error, path=self._store.path) from None

    def knows(self, key: str) -> bool:
        """Return whether a case with this key was ever stored, whole or damaged."""
        return key in self._lines or key in self._faults

    def entry(self, key: str) -> Entry | None:
        """Return a stored case as the index has it, unhashed; None where there is no sound one."""
        return self._entries.get(key)

    def last_facts(self, key: str) -> CaseFacts | None:
        """Return what the index last said of a case, None where nothing is known."""
        line = self._lines.get(key)
        return line.facts if line is not None else None

    def sound(self, key: str) -> CaseFacts | None:
        """Return the facts of a stored case after its whole file was hashed; None if it is damaged or absent."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            found = self._store.read_entry(key)
        except DataError as error:
            self._forget(entry)
            self._faults[key] = error
            return None
        if found != entry:  # the index is an old copy
            self._forget(entry)
            append_line(self._store.index, dump_entry(found))
            self._note(found)
        return found.facts

    def same_images(self, facts: CaseFacts) -> CaseFacts | None:
        """Return a sound case of another series with the same images, None if there is none."""
        others = [key for key in sorted(self._by_image[facts.image_digest]) if key != facts.key]
        return next((found for key in others if (found := self.sound(key)) is not None), None)

    def commit(self, entry: Entry, written: Path) -> None:
        """Put a case that was written aside in its place; when this returns, the case is on the disk.

        Raises:
            DataError: If the disk is full or cannot be written (codes `DISK_FULL`, `UNWRITABLE`); what was stored
                before stays, only a case that was to be replaced may be the old or the new one.
        """
        key = entry.facts.key
        self._withdraw(key)
        try:
            os.replace(written, self._store.cases_folder / entry.file_name)
            sync_folder(self._store.cases_folder)
        except OSError as error:
            raise unwritable(error, entry.size, path=self._store.cases_folder) from None
        append_line(self._store.index, dump_entry(entry))
        self._note(entry)

    def drop(self, key: str) -> None:
        """Remove a damaged case whose content is stored under another key.

        Raises:
            DataError: As `commit`.
        """
        self._withdraw(key)
        try:
            (self._store.cases_folder / f"{key}.h5").unlink(missing_ok=True)
            sync_folder(self._store.cases_folder)
        except OSError as error:
            raise unwritable(error, path=self._store.cases_folder) from None
        self._faults.pop(key, None)

    def _withdraw(self, key: str) -> None:
        line = self._lines.pop(key, None)
        if line is not None:
            append_line(self._store.index, dump_withdrawal(key))
            self._forget(line)

    def _note(self, entry: Entry) -> None:
        key = entry.facts.key
        self._entries[key] = self._lines[key] = entry
        self._faults.pop(key, None)
        self._by_image[entry.facts.image_digest].add(key)

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.facts.key, None)
        self._by_image[entry.facts.image_digest].discard(entry.facts.key)


@contextmanager
def open_writer(store: Store) -> Iterator[Writer]:
    """Take the right to write; no other process gets it until the block ends or the process dies.

    Raises:
        DataError: If another process is writing, or the store cannot be written (codes `LOCKED`,
            `UNWRITABLE`).
    """
    with store_lock(store.path):
        writer = Writer(store)
        try:
            yield writer
        finally:
            with suppress(DataError):  # the next writer clears it
                writer.clear_aside()
