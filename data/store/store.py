"""The slice store as a folder: made, locked for writing, cases committed one by one, the index kept right.

A store never holds half a case. A case is written aside and synced, renamed into `cases/`, and only then named
in the index; whoever is told that a case is stored can rely on it after a kill, a full disk or a power cut.
"""

import fcntl
import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.casefile import check_case, damaged
from kerasbalance.data.store.facts import FORMAT_VERSION, Entry, dump_entry, load_entry
from kerasbalance.data.store.files import disk_full, replace_file, sync_folder
from kerasbalance.data.store.keys import Pseudonyms


@dataclass(frozen=True)
class Rejection:
    """An input that was refused.

    Args:
        key: keyed hash of the source's path.
        code: `DataError.code`.
        message: `DataError.message()`, free of paths and identifiers.
    """

    key: str
    code: str
    message: str


class Store:
    """A store on disk: what is in it, and under `writing()` the right to add to it.

    Args:
        path: the store's folder; it must exist (see `create`).

    Raises:
        DataError: there is no store, or it was made by a newer kerasbalance (codes `NO_STORE`, `FORMAT`).
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.cases = self.path / "cases"
        self.aside = self.path / "tmp"
        self.manifest = _read_manifest(self.path)

    @classmethod
    def create(cls, path: Path, pseudonyms: Pseudonyms) -> "Store":
        """Open the store at `path`, or make an empty one where nothing is.

        Raises:
            DataError: the folder holds something else, cannot be written, or the store was made with another
                secret (codes `NO_STORE`, `UNWRITABLE`, `KEY_DIFFERS`).
        """
        path = Path(path)
        try:
            if not (path / "store.json").exists():
                _make(path, pseudonyms)
        except OSError as error:
            raise DataError("UNWRITABLE", f"a store folder that cannot be written ({error.strerror})",
                            "a folder you may write to", "check its permissions or choose another",
                            path=path) from None  # fmt: skip
        store = cls(path)
        store.check_key(pseudonyms)
        return store

    def check_key(self, pseudonyms: Pseudonyms) -> None:
        """Refuse a secret other than the one that the store's keys were made with.

        Raises:
            DataError: the fingerprints differ (code `KEY_DIFFERS`).
        """
        if self.manifest["key_fingerprint"] != pseudonyms.fingerprint:
            raise DataError("KEY_DIFFERS", "another key file than the store was made with",
                            "the same secret, so that one patient keeps one key",
                            "name it with --key-file, or make a new store")  # fmt: skip

    def entries(self, keys: Collection[str] | None = None) -> dict[str, Entry]:
        """Return the cases by key, in order of their keys; all of them, or those with the given keys.

        The index is a cache: a case that lies in `cases/` without a good line is read from its own file.

        Raises:
            DataError: a case is missing, has another size, or cannot be read (code `DAMAGED`).
        """
        found, faults = self.survey()
        if keys is not None:
            faults = {
                key: faults.get(key, damaged("a case that is not there")) for key in keys if key not in found
            }
            found = {key: entry for key, entry in found.items() if key in keys}
        if faults:
            first = next(iter(faults.values()))
            raise damaged(f"{len(faults)} damaged cases, the first because of {first.received}")
        return found

    def survey(self) -> tuple[dict[str, Entry], dict[str, DataError]]:
        """Return the cases that look sound and, by key, what is wrong with the others; bytes are not hashed."""
        lines = self._index_lines()
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.cases)}
        found: dict[str, Entry] = {}
        faults: dict[str, DataError] = {}
        names = sorted({*(entry.file_name for entry in lines.values()), *filter(_is_case, sizes)})
        for name in names:
            key = name.removesuffix(".h5")
            try:
                found[key] = self._entry(key, lines.get(key), sizes.get(name))
            except DataError as error:
                faults[key] = error
        return found, faults

    def _entry(self, key: str, line: Entry | None, size: int | None) -> Entry:
        where = f"case {key[:8]}"
        if size is None:
            raise damaged("a case whose file is missing", where=where)
        if line is None:
            entry = check_case((self.cases / f"{key}.h5").read_bytes())
            if entry.facts.key != key:
                raise damaged("a case file under another case's name", where=where)
            return entry
        if line.size != size:
            raise damaged(f"a case file of {size} bytes instead of {line.size}", where=where)
        return line

    def _index_lines(self) -> dict[str, Entry]:
        path = self.path / "index.jsonl"
        if not path.exists():
            return {}
        entries = (load_entry(line) for line in path.read_bytes().splitlines(keepends=True))
        return {entry.facts.key: entry for entry in entries if entry is not None}

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Take the right to write; nobody else gets it until the block ends or the process dies.

        Raises:
            DataError: another process is writing (code `LOCKED`).
        """
        try:
            descriptor = os.open(self.path / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError("UNWRITABLE", f"a store that cannot be written ({error.strerror})",
                            "a store you may write to", "check its permissions", path=self.path) from None  # fmt: skip
        with os.fdopen(descriptor, "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _locked(lock.read(200)) from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            yield Writer(self)


class Writer:
    """The one process that may change a store; made by `Store.writing`.

    Args:
        store: the store, locked.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._clear_aside()
        self.entries, self.faults = store.survey()
        self._mend_index()

    def _clear_aside(self) -> None:
        self.store.aside.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.store.aside, self.store.path):
            for path in folder.glob("*.tmp"):
                path.unlink(missing_ok=True)

    def _mend_index(self) -> None:
        content = b"".join(dump_entry(entry) for entry in self.entries.values())
        path = self.store.path / "index.jsonl"
        known = path.read_bytes() if path.exists() else b""
        if sorted(known.splitlines()) != sorted(content.splitlines()):
            replace_file(path, content)

    def commit(self, entry: Entry, written: Path) -> None:
        """Put a case that was written aside in its place; when this returns, the case is stored for good.

        Raises:
            DataError: the disk is full (code `DISK_FULL`); what was stored before stays.
        """
        os.replace(written, self.store.cases / entry.file_name)
        sync_folder(self.store.cases)
        self._append(dump_entry(entry))
        self.entries[entry.facts.key] = entry
        self.faults.pop(entry.facts.key, None)

    def _append(self, line: bytes) -> None:
        path = self.store.path / "index.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise disk_full(len(line))
                os.fsync(descriptor)
            except (OSError, DataError):
                os.ftruncate(descriptor, before)
                raise disk_full(len(line)) from None
        finally:
            os.close(descriptor)

    def record_rejections(self, refused: Mapping[str, Rejection], taken: set[str]) -> None:
        """Keep the latest refusal of each source and forget those that were taken since."""
        rejections = {r.key: r for r in read_rejections(self.store) if r.key not in taken} | dict(refused)
        path = self.store.path / "rejects.jsonl"
        if rejections or path.exists():
            lines = [json.dumps(asdict(r), sort_keys=True) + "\n" for _, r in sorted(rejections.items())]
            replace_file(path, "".join(lines).encode())


def read_rejections(store: Store) -> list[Rejection]:
    """Return what the store's last ingests refused."""
    path = store.path / "rejects.jsonl"
    if not path.exists():
        return []
    return [Rejection(**json.loads(line)) for line in path.read_text().splitlines()]


def _is_case(name: str) -> bool:
    return name.endswith(".h5")


def _locked(holder: str) -> DataError:
    return DataError("LOCKED", f"a store that is being written by {holder or 'another process'}",
                     "no other ingest on this store", "wait until it ends; the lock frees itself")  # fmt: skip


def _make(path: Path, pseudonyms: Pseudonyms) -> None:
    path.mkdir(parents=True, mode=0o700, exist_ok=True)
    strangers = {item.name for item in path.iterdir()} - {"cases", "tmp", "LOCK"}
    if any(not name.endswith(".tmp") for name in strangers):
        raise DataError("NO_STORE", "a folder that holds other files", "a store, or an empty or new folder",
                        "choose another --out", path=path)  # fmt: skip
    os.chmod(path, 0o700)
    for name in ("cases", "tmp"):
        (path / name).mkdir(mode=0o700, exist_ok=True)
    manifest = {
        "format": FORMAT_VERSION,
        "image": "int16 Hounsfield units, padding and everything below -1024 as -1024",
        "mask": "uint8, 0 background, i + 1 for the i-th organ of the case",
        "orientation": "columns to the patient's left, rows to the back, slices to the head",
        "key_fingerprint": pseudonyms.fingerprint,
    }
    replace_file(path / "store.json", (json.dumps(manifest, indent=1) + "\n").encode())


def _read_manifest(path: Path) -> dict[str, str | int]:
    try:
        manifest: dict[str, str | int] = json.loads((path / "store.json").read_text())
        version = int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError("NO_STORE", "a folder without a readable store.json", "a store made by kerasbalance ingest",
                        "name the store's folder", path=path) from None  # fmt: skip
    if version > FORMAT_VERSION:
        raise DataError("FORMAT", f"a store of format {version}", f"format {FORMAT_VERSION} or older",
                        "update kerasbalance", path=path)  # fmt: skip
    return manifest
