"""Slices for training, at memory speed.

A case's file is checked once per process before anything in it is trusted: its size, the hash of all bytes but
the image chunks, and each slice's checksum when it is first read. Images are copied from a memory map at the
chunk offsets; masks are inflated from theirs. No HDF5 handle stays open, so nothing needs care across `fork`.
"""

import hashlib
import mmap
import os
import resource
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.store.casefile import chunk_table, damaged, open_case
from kerasbalance.data.store.facts import Entry

MAX_MAPS = 512


class CaseReader:
    """Reads slices of one case; made and kept by `SliceStore`, one per process.

    Args:
        path: the case's file.
        entry: its line of the index.

    Raises:
        DataError: the file is not the one that the index describes (code `DAMAGED`).
    """

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path, self._entry = path, entry
        facts = entry.facts
        self._plane = (facts.rows, facts.columns)
        self._map: mmap.mmap | None = self._open_map()
        self._check_metadata()
        with open_case(path) as file:
            self.depth_mm: NDArray[np.float64] = file["z_mm"][()]
            self.positive_pixels: NDArray[np.int32] = file["positive_pixels"][()]
            self._crc: NDArray[np.uint32] = file["slice_crc32"][()]
            self._images = chunk_table(file["image"])
            self._masks = chunk_table(file["mask"], filtered=True)
            self._masks_are_raw = file["mask"].compression is None
        self._checked = np.zeros(facts.slices, bool)

    def _open_map(self) -> mmap.mmap:
        where = f"case {self._entry.facts.key[:8]}"
        try:
            with self._path.open("rb") as file:
                opened = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise damaged(
                f"a case file that cannot be opened ({type(error).__name__})", where=where
            ) from None
        if len(opened) != self._entry.size:
            raise damaged(f"a case file of {len(opened)} bytes instead of {self._entry.size}", where=where)
        return opened

    def _check_metadata(self) -> None:
        start, stop = self._entry.image_range
        view = memoryview(self.map)
        digest = hashlib.sha256(view[:start])
        digest.update(view[stop:])
        if digest.hexdigest() != self._entry.metadata_sha256:
            raise damaged("a case file with changed bytes", where=f"case {self._entry.facts.key[:8]}")

    @property
    def map(self) -> mmap.mmap:
        """The file's bytes; mapped again after `close`."""
        if self._map is None:
            self._map = self._open_map()
        return self._map

    def close(self) -> None:
        """Give back the file descriptor; the next read opens it again, without repeating the checks."""
        self._map = None

    def image(self, number: int) -> NDArray[np.int16]:
        """Return one slice's HU, `(rows, columns)`, read-only; checked when it is read for the first time.

        Raises:
            DataError: its checksum is wrong (code `DAMAGED`).
        """
        if self._images is None:
            with open_case(self._path) as file:
                plane: NDArray[np.int16] = file["image"][number]
        else:
            pixels = self._plane[0] * self._plane[1]
            plane = np.frombuffer(self.map, "<i2", pixels, int(self._images[number, 0])).reshape(self._plane)
        if not self._checked[number]:
            if zlib.crc32(plane.tobytes()) != self._crc[number, 0]:
                place = f"slice {number + 1} of case {self._entry.facts.key[:8]}"
                raise damaged("a slice with changed pixels", where=place)
            self._checked[number] = True
        return plane

    def mask(self, number: int) -> NDArray[np.uint8]:
        """Return one slice's labels, `(rows, columns)`, read-only."""
        if self._masks is None:
            with open_case(self._path) as file:
                plane: NDArray[Any] = file["mask"][number]
                return plane
        offset, size = self._masks[number].tolist()
        stored = memoryview(self.map)[offset : offset + size]
        plain = (
            stored
            if self._masks_are_raw
            else zlib.decompress(stored, bufsize=self._plane[0] * self._plane[1])
        )
        return np.frombuffer(plain, np.uint8).reshape(self._plane)


class Readers:
    """The readers of a store's cases in this process; only so many of them keep a map open.

    Safe for threads. It may be pickled or forked: readers do not travel, each process makes its own.

    Args:
        folder: where the cases' files lie.
        entries: the cases, by case number.
    """

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        self._folder, self._entries = folder, entries
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._made: dict[int, CaseReader] = {}
        self._open: OrderedDict[int, None] = OrderedDict()
        self._most = max(8, min(MAX_MAPS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))

    def get(self, number: int) -> CaseReader:
        """Return the reader of a case; it is made, and its file checked, at the first call."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            reader = self._made.get(number)
            if reader is None:
                entry = self._entries[number]
                reader = self._made[number] = CaseReader(self._folder / entry.file_name, entry)
            self._open[number] = None
            self._open.move_to_end(number)
            while len(self._open) > self._most:
                oldest, _ = self._open.popitem(last=False)
                self._made[oldest].close()
        return reader

    def __getstate__(self) -> dict[str, object]:
        """Travel with the paths only."""
        return {"folder": self._folder, "entries": self._entries}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no reader."""
        self.__init__(**state)  # type: ignore[misc]
