"""The slice store as a folder: made, opened, surveyed, locked for writing.

A store never holds half a case. A case is written aside and synced, renamed into `cases/`, and only then named
in the index; a case that is reported as stored survives a kill, a full disk or a power cut.
"""

import json
import os
import re
import stat
import zlib
from collections.abc import Collection
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.catalogue import Catalogue, read_catalogue
from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import FORMAT_VERSION, KEY, Entry
from kerasbalance.data.store.files import read_file, replace_file
from kerasbalance.data.store.keys import Pseudonyms
from kerasbalance.data.store.lock import store_lock
from kerasbalance.data.store.sealed_case import check_case
from kerasbalance.lock import MARK, NAME

_CASE_NAME = re.compile(rf"{KEY}\.h5")


class Store:
    """A store on disk: what is in it. `writer.open_writer` gives the right to add to it.

    Args:
        path: The store's folder; it must exist (see `create`).

    Raises:
        DataError: If there is no store, it was made by a newer kerasbalance, or its description is damaged (codes
            `NO_STORE`, `FORMAT`, `DAMAGED`).
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.cases_folder = self.path / "cases"
        self.aside = self.path / "tmp"
        self.index = self.path / "index.jsonl"
        self.manifest = _read_manifest(self.path)

    @classmethod
    def create(cls, path: Path, pseudonyms: Pseudonyms) -> "Store":
        """Open the store at `path`, or make an empty one where nothing is.

        Raises:
            DataError: If the folder holds something else, cannot be written, or the store was made with another
                secret (codes `NO_STORE`, `UNWRITABLE`, `KEY_DIFFERS`).
        """
        return cls.create_with(path, pseudonyms.fingerprint)

    @classmethod
    def create_with(cls, path: Path, key_fingerprint: str) -> "Store":
        """Open or make a store as `create`, by the fingerprint of a secret that is not at hand.

        Raises:
            DataError: As `create`.
        """
        path = Path(path)
        try:
            if not (path / "store.json").exists():
                _make(path, key_fingerprint)
        except OSError as error:
            raise DataError("UNWRITABLE", f"a store folder that cannot be written ({error.strerror})",
                            "a folder you may write to", "check its permissions or choose another",
                            path=path) from None  # fmt: skip
        store = cls(path)
        store._check_fingerprint(key_fingerprint)
        return store

    def check_key(self, pseudonyms: Pseudonyms) -> None:
        """Refuse a secret other than the one that the store's keys were made with.

        Raises:
            DataError: If the fingerprints differ (code `KEY_DIFFERS`).
        """
        self._check_fingerprint(pseudonyms.fingerprint)

    def _check_fingerprint(self, key_fingerprint: str) -> None:
        if self.manifest["key_fingerprint"] != key_fingerprint:
            raise DataError("KEY_DIFFERS", "another key file than the store was made with",
                            "the same secret, so that one patient keeps one key",
                            "name it with --key-file, or make a new store")  # fmt: skip

    def entries(self, keys: Collection[str] | None = None) -> dict[str, Entry]:
        """Return the cases by key, in order of their keys; all of them, or those with the given keys.

        The index is a cache: a case that lies in `cases/` without a good line is read from its own file.

        Raises:
            DataError: If a case is missing, has another size, or cannot be read (code `DAMAGED`).
        """
        found, faults = self.survey()
        if keys is not None:
            absent = damaged("a case that is not there")
            faults = {key: faults.get(key, absent) for key in keys if key not in found}
            found = {key: entry for key, entry in found.items() if key in keys}
        if faults:
            first = next(iter(faults.values()))
            raise damaged(f"{len(faults)} damaged cases, the first because of {first.received}")
        return found

    def survey(self) -> tuple[dict[str, Entry], dict[str, DataError]]:
        """Return the cases that look sound and, by key, what is wrong with the others; bytes are not hashed.

        A stray file in `cases/` has the number of its place among the strays as key, since its name may be anybody's.
        """
        index = read_catalogue(self.index)
        while True:
            found, faults = self._compare(index)
            if not faults:
                return found, faults
            # An ingest may have replaced a case between the look at the index and the look at the files.
            index, before = read_catalogue(self.index), index
            if index.content == before.content:
                return found, faults

    def _compare(self, index: Catalogue) -> tuple[dict[str, Entry], dict[str, DataError]]:
        sizes, strays = self._files()
        found: dict[str, Entry] = {}
        faults = {f"stray {n}": _stray() for n in range(1, strays + 1)}
        for key in sorted({*index.entries, *sizes}):
            try:
                found[key] = self._entry(key, index.entries.get(key), sizes.get(key))
            except DataError as error:
                faults[key] = error
        return found, faults

    def _files(self) -> tuple[dict[str, int], int]:
        """Return the size of each case's file by key, and how many other things lie beside them."""
        sizes: dict[str, int] = {}
        strays = 0
        try:
            with os.scandir(self.cases_folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if _CASE_NAME.fullmatch(entry.name) and stat.S_ISREG(status.st_mode):
                        sizes[entry.name.removesuffix(".h5")] = status.st_size
                    else:
                        strays += 1
        except OSError as error:
            raise DataError("NO_STORE", f"a store whose cases folder cannot be read ({error.strerror})",
                            "a store made by kerasbalance ingest", "check its permissions",
                            path=self.path) from None  # fmt: skip
        return sizes, strays

    def _entry(self, key: str, line: Entry | None, size: int | None) -> Entry:
        if size is None:
            raise damaged("a case whose file is missing", where=f"case {key[:8]}")
        if line is not None and line.size == size:
            return line
        return self.read_entry(key)

    def read_entry(self, key: str) -> Entry:
        """Return a case's entry from its own file, which is read whole.

        Raises:
            DataError: If the file is not that case, unharmed (codes `DAMAGED`, `UNSAFE`).
        """
        where = f"case {key[:8]}"
        try:
            entry = check_case(self.content(key))
        except DataError as error:
            raise error.at(where=where) from None
        if entry.facts.key != key:
            raise damaged("a case file under another case's name", where=where)
        return entry

    def content(self, key: str) -> bytes:
        """Return the bytes of a case's file.

        Raises:
            DataError: If it cannot be read (code `DAMAGED`).
        """
        try:
            return read_file(self.cases_folder / f"{key}.h5")
        except OSError as error:
            where = f"case {key[:8]}"
            raise damaged(f"a case file that cannot be read ({error.strerror})", where=where) from None


def _stray() -> DataError:
    return DataError("DAMAGED", "something in the cases folder that is no case", "only cases",
                     "look into the folder and take out what does not belong there")  # fmt: skip


def _make(path: Path, key_fingerprint: str) -> None:
    path.mkdir(parents=True, mode=0o700, exist_ok=True)
    if not _is_free(path):
        raise DataError("NO_STORE", "a folder that holds other files", "a store, or an empty or new folder",
                        "choose another --out", path=path)  # fmt: skip
    os.chmod(path, 0o700)
    with store_lock(path):
        if (path / "store.json").exists():
            return  # another process was faster
        for name in ("cases", "tmp"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        manifest: dict[str, str | int] = {
            "format": FORMAT_VERSION,
            "image": "int16 Hounsfield units, padding and everything below -1024 as -1024",
            "mask": "uint8, 0 background, i + 1 for the i-th organ of the case",
            "orientation": "columns to the patient's left, rows to the back, slices to the head",
            "key_fingerprint": key_fingerprint,
        }
        manifest["crc32"] = _checksum(manifest)
        replace_file(path / "store.json", (json.dumps(manifest, indent=1) + "\n").encode())


def _is_free(path: Path) -> bool:
    names = {item.name for item in path.iterdir()}
    foreign = names - {"cases", "tmp", NAME, MARK}
    return "store.json" in names or all(name.endswith(".tmp") for name in foreign)


def _checksum(manifest: dict[str, str | int]) -> int:
    fields = {name: value for name, value in manifest.items() if name != "crc32"}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _read_manifest(path: Path) -> dict[str, str | int]:
    try:
        content = read_file(path / "store.json")
    except OSError:
        raise DataError("NO_STORE", "a folder without a readable store.json", "a store made by kerasbalance ingest",
                        "name the store's folder", path=path) from None  # fmt: skip
    try:
        manifest: dict[str, str | int] = json.loads(content)
        version = int(manifest["format"])
        sound = manifest["crc32"] == _checksum(manifest)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise DataError("DAMAGED", "a damaged store.json", "the file as it was made",
                        "copy store.json from a new store that was made with the same --key-file",
                        path=path)  # fmt: skip
    if version > FORMAT_VERSION:
        raise DataError("FORMAT", f"a store of format {version}", f"format {FORMAT_VERSION} or older",
                        "update kerasbalance", path=path)  # fmt: skip
    return manifest
