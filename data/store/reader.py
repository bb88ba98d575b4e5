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
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.damage import damaged
from kerasbalance.data.store.facts import Entry
from kerasbalance.data.store.hdf5 import chunk_table, fits, open_case, unpack

MAX_MAPS = 512


class CaseReader:
    """Reads slices of one case; made and kept by `SliceStore`, one per process.

    Args:
        path: The case's file.
        entry: Its line of the index.

    Raises:
        DataError: If the file is not the one that the index describes (codes `DAMAGED`, `UNSAFE`).
    """

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path, self._entry = path, entry
        self._plane = (entry.facts.rows, entry.facts.columns)
        self._checked = np.zeros(entry.facts.slices, bool)
        self._known_file: tuple[int, ...] = ()
        self._map: mmap.mmap | None = self._open_map()
        try:
            self._read_tables()
        except DataError:
            raise
        except Exception as error:  # HDF5 raises anything, but hardly on bytes whose hash is right
            raise self._damaged(f"a case file that HDF5 cannot read ({type(error).__name__})") from None

    def _read_tables(self) -> None:
        with open_case(self.map) as file:
            if not fits(file, self._entry.facts):
                raise self._damaged("a case file of other sizes than in the index")
            self.depth_mm: NDArray[np.float64] = file["z_mm"][()]
            self.positive_pixels: NDArray[np.int32] = file["positive_pixels"][()]
            self._crc: NDArray[np.uint32] = file["slice_crc32"][()]
            self._images = chunk_table(file["image"])
            self._masks = chunk_table(file["mask"], gzipped=True)
            self._masks_ct = chunk_table(file["mask_ct"], gzipped=True) if "mask_ct" in file else None
        for table in (self.depth_mm, self.positive_pixels):
            table.setflags(write=False)

    def _open_map(self) -> mmap.mmap:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                opened = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise self._damaged(f"a case file that cannot be opened ({type(error).__name__})") from None
        known = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        if known != self._known_file:
            self._check_bytes(opened)
            self._checked[:] = False
            self._known_file = known
        return opened

    def _check_bytes(self, opened: mmap.mmap) -> None:
        if len(opened) != self._entry.size:
            raise self._damaged(f"a case file of {len(opened)} bytes instead of {self._entry.size}")
        start, stop = self._entry.image_range
        with memoryview(opened) as view:
            digest = hashlib.sha256(view[:start])
            digest.update(view[stop:])
        if digest.hexdigest() != self._entry.metadata_sha256:
            raise self._damaged("a case file that was changed, or replaced since the store was opened")

    def _damaged(self, received: str, place: str = "") -> DataError:
        return damaged(received, where=f"{place}case {self._entry.facts.key[:8]}")

    @property
    def map(self) -> mmap.mmap:
        """The file's bytes; mapped again after `close`, and checked again if it is another file by then."""
        opened = self._map
        if opened is None:
            opened = self._map = self._open_map()
        return opened

    def close(self) -> None:
        """Give back the file descriptor; the next read opens the file again."""
        self._map = None

    def image(self, number: int) -> NDArray[np.int16]:
        """Return one slice's HU, `(rows, columns)`, read-only; checked when it is read for the first time.

        Raises:
            DataError: If its checksum is wrong (code `DAMAGED`).
        """
        plane = self._image(number)
        if not self._checked[number]:
            if zlib_ng.crc32(np.ascontiguousarray(plane).data) != self._crc[number, 0]:
                raise self._damaged("a slice with changed pixels", f"slice {number + 1} of ")
            self._checked[number] = True
        return plane

    def _image(self, number: int) -> NDArray[np.int16]:
        if self._images is None:
            return self._through_hdf5("image", number)
        pixels, opened = self._plane[0] * self._plane[1], self.map
        return np.frombuffer(opened, "<i2", pixels, int(self._images[number, 0])).reshape(self._plane)

    def mask(self, number: int) -> NDArray[np.uint8]:
        """Return one slice's labels, `(rows, columns)`, read-only.

        Raises:
            DataError: If it cannot be read (code `DAMAGED`).
        """
        return self._inflate("mask", self._masks, self._plane, number)

    def mask_ct(self, number: int) -> NDArray[np.uint8]:
        """Return one slice's labels on the CT's own grid, `facts.ct_plane`, read-only.

        Raises:
            DataError: If it cannot be read (code `DAMAGED`).
        """
        plane = self._entry.facts.ct_plane
        if plane is None:
            raise self._damaged("a case without a mask on the CT's own grid")
        return self._inflate("mask_ct", self._masks_ct, plane, number)

    def _inflate(
        self, name: str, table: NDArray[np.int64] | None, plane: tuple[int, int], number: int
    ) -> NDArray[np.uint8]:
        if table is None:
            return self._through_hdf5(name, number)
        offset, size = table[number].tolist()
        try:
            plain = unpack(memoryview(self.map)[offset : offset + size], plane[0] * plane[1])
        except ValueError:
            raise self._damaged("a mask that cannot be unpacked", f"slice {number + 1} of ") from None
        return np.frombuffer(plain, np.uint8).reshape(plane)

    def _through_hdf5(self, name: str, number: int) -> NDArray[Any]:
        """Read a slice of another layout from the bytes that were hashed when the file was mapped."""
        with open_case(self.map) as file:
            plane: NDArray[Any] = file[name][number]
        plane.setflags(write=False)
        return plane


class Readers:
    """The readers of a store's cases in this process; only so many of them keep a map open.

    Safe for threads. It may be pickled or forked: readers do not travel, each process makes its own.

    Args:
        folder: Where the cases' files lie.
        entries: The cases, by case number.
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
                if oldest in self._made:  # else a thread of the process this was forked from had opened it
                    self._made[oldest].close()
        return reader

    def __getstate__(self) -> dict[str, object]:
        """Travel with the paths only."""
        return {"folder": self._folder, "entries": self._entries}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no reader."""
        self.__init__(**state)  # type: ignore[misc]
