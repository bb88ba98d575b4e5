"""Checkpoints that are whole or absent: folders of arrays with a manifest of hashes.

A checkpoint is written aside, flushed to disk, renamed, and read back before an older one is removed; two are
kept. Only arrays and JSON are stored, nothing that could run code when it is loaded.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import uuid
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from kerasbalance.errors import CheckpointError, CheckpointWarning, CheckpointWriteError, explain
from kerasbalance.files import remove_leftovers, sync_folder
from kerasbalance.lock import FolderInUse, FolderLock

Arrays = dict[str, NDArray[Any]]

FORMAT = 1
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ARRAYS, MANIFEST = "arrays.npz", "manifest.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was loaded: arrays by name, and a JSON object."""

    path: Path
    arrays: Arrays
    info: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run; used by one process at a time.

    Args:
        path: A folder; made when needed.

    Raises:
        CheckpointError: If another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        for part in self.path.glob(".part-*"):  # left by a process that was killed while it wrote
            shutil.rmtree(part, ignore_errors=True)
        remove_leftovers(self.path)

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def __enter__(self) -> "CheckpointFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def entries(self) -> list[Path]:
        """Return the checkpoints, newest first, whether they are valid or not."""
        return checkpoint_entries(self.path)

    def save(self, arrays: Arrays, info: dict[str, Any]) -> Path:
        """Write a checkpoint, read it back, and remove all but it and the one before.

        Args:
            arrays: By name; no objects.
            info: Anything that JSON can hold; `info["iteration"]` goes into the folder's name.

        Returns:
            The folder written.

        Raises:
            CheckpointWriteError: If it could not be written; the newest earlier checkpoint is still there.
        """
        try:
            return self._save(arrays, info)
        except OSError as error:
            if error.errno not in DISK_FULL or len(self.entries()) < 2:
                raise self._write_error(error, arrays, info) from error
        self._prune(keep=1)
        try:
            return self._save(arrays, info)
        except OSError as error:
            raise self._write_error(error, arrays, info) from error

    def load(self, accept: Callable[[Checkpoint], None] | None = None) -> Checkpoint:
        """Return the newest checkpoint that verifies; damaged ones are set aside with a warning.

        Args:
            accept: Called with it before it is returned; may raise.

        Raises:
            CheckpointError: If there is none.
        """
        damaged: list[tuple[Path, Exception]] = []
        for entry in self.entries():
            try:
                checkpoint = read_checkpoint(entry)
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
                damaged.append((entry, error))
                continue
            if accept is not None:
                accept(checkpoint)
            self._set_aside(damaged, checkpoint)
            return checkpoint
        found = "; ".join(f"{entry.name} ({error})" for entry, error in damaged) or "none"
        raise CheckpointError(
            explain(
                f"no valid checkpoint in {self.path}, damaged: {found}",
                "at least one that verifies",
                "call fit without resume=True"
                if not damaged
                else "restore the folder, or use another run_dir",
            )
        )

    def _save(self, arrays: Arrays, info: dict[str, Any]) -> Path:
        entries = self.entries()
        serial = (_serial(entries[0]) or 0) + 1 if entries else 1
        final = self.path / f"{serial:06d}-iteration-{info['iteration']}"
        part = self.path / f".part-{uuid.uuid4().hex}"
        try:
            part.mkdir()
            write_checkpoint(part, arrays, info)
            os.rename(part, final)
            sync_folder(self.path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        try:
            read_checkpoint(final)
        except Exception as error:
            shutil.rmtree(final, ignore_errors=True)
            raise OSError(errno.EIO, f"what was written does not read back: {error}") from error
        self._prune(keep=2)
        return final

    def _prune(self, keep: int) -> None:
        for entry in self.entries()[keep:]:
            # Without its manifest a half removed folder is no checkpoint.
            (entry / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)

    def _set_aside(self, damaged: list[tuple[Path, Exception]], used: Checkpoint) -> None:
        for entry, error in damaged:
            target = entry.with_name(f"damaged-{entry.name}-{uuid.uuid4().hex[:8]}")
            entry.rename(target)
            warnings.warn(
                CheckpointWarning(
                    f"checkpoint {entry.name} is damaged ({error}) and was set aside as {target.name}; "
                    f"going on from the older {used.path.name}"
                ),
                stacklevel=4,
            )

    def _take_lock(self) -> FolderLock:
        try:
            return FolderLock(self.path)
        except FolderInUse as error:
            raise CheckpointError(
                explain(
                    f"{self.path}, which another process has open ({error.holder})",
                    "one process a run",
                    f"{error.advice}, or choose another run_dir",
                )
            ) from None
        except OSError as error:
            raise CheckpointError(
                explain(
                    f"{self.path}, which cannot be written or locked ({error.strerror})",
                    "a folder you may write to",
                    "choose another run_dir",
                )
            ) from None

    def _write_error(self, error: OSError, arrays: Arrays, info: dict[str, Any]) -> CheckpointWriteError:
        needed = sum(array.nbytes for array in arrays.values()) / 1e6
        free = shutil.disk_usage(self.path).free / 1e6
        kept = [entry.name for entry in self.entries()][:1]
        return CheckpointWriteError(
            error.errno,
            explain(
                f"{error} while saving iteration {info['iteration']} in {self.path}",
                f"{needed:.1f} MB of room, {free:.1f} MB are free",
                f"make room and call fit with resume=True; kept: {kept[0] if kept else 'no checkpoint'}",
            ),
        )


def checkpoint_entries(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first, whether they are valid or not; none if there is no folder."""
    named = [entry for entry in folder.glob("*") if _serial(entry) is not None]
    return sorted(named, key=lambda entry: _serial(entry) or 0, reverse=True)


def write_checkpoint(folder: Path, arrays: Arrays, info: dict[str, Any]) -> None:
    """Write arrays and manifest into an existing empty folder and flush both to disk."""
    with open(folder / ARRAYS, "wb") as file:
        hashing = _HashingFile(file)
        with zipfile.ZipFile(cast(IO[bytes], hashing), "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(name + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _plain(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    manifest = {
        "format": FORMAT,
        "sha256": hashing.hash.hexdigest(),
        "bytes": hashing.bytes,
        "arrays": {name: [_plain(array).dtype.str, list(array.shape)] for name, array in arrays.items()},
        "info": info,
    }
    manifest["digest"] = _digest(manifest)
    with open(folder / MANIFEST, "w", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        text.flush()
        os.fsync(text.fileno())
    sync_folder(folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and check every byte of it.

    Raises:
        ValueError: If a hash, a size or a name does not fit.
        OSError: If a file is missing.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    claimed = manifest.pop("digest", None)
    if manifest.get("format") != FORMAT or claimed != _digest(manifest):
        raise ValueError("its manifest is damaged or of another format")
    content = (folder / ARRAYS).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError("its arrays do not have the hash in the manifest")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()} != manifest["arrays"]:
        raise ValueError("its arrays are not those in the manifest")
    return Checkpoint(folder, arrays, manifest["info"])


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """Put `prefix/` before every name."""
    return {f"{prefix}/{name}": np.asarray(array) for name, array in arrays.items()}


def under(prefix: str, arrays: Arrays) -> Arrays:
    """Return the arrays whose names begin with `prefix/`, without it."""
    start = prefix + "/"
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


class _HashingFile(io.RawIOBase):
    """Hashes what is meant to be written, in one pass; zipfile then asks for no seeking."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.bytes += memoryview(data).nbytes
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type that NumPy itself knows: bfloat16 fits into float32 exactly."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _serial(entry: Path) -> int | None:
    serial = entry.name.split("-")[0]
    return int(serial) if serial.isdigit() and entry.is_dir() else None
