"""The tables of earlier minings: a file each, written once, so that checkpoints do not grow with their number."""

import hashlib
import io
import weakref
from pathlib import Path

import numpy as np

from kerasbalance.errors import CheckpointError, CheckpointWriteError, explain
from kerasbalance.files import write_file
from kerasbalance.mining.result import MiningResult


class MinedTables:
    """Files of mining results beside the checkpoints, named by their content.

    Args:
        folder: Where they lie; a process that writes holds its lock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: weakref.WeakKeyDictionary[MiningResult, str] = weakref.WeakKeyDictionary()

    def keep(self, result: MiningResult) -> str:
        """Write a result, if it is not there yet, and return its name.

        Raises:
            CheckpointWriteError: If it cannot be written.
        """
        if result not in self._known:
            file = io.BytesIO()
            np.savez_compressed(file, **result.state())  # type: ignore[arg-type]  # no argument has such a name
            name = hashlib.sha256(file.getvalue()).hexdigest()
            try:
                if not self._path(name).exists():
                    write_file(self._path(name), file.getvalue())
            except OSError as error:
                raise CheckpointWriteError(
                    error.errno,
                    explain(
                        f"{error.strerror} while saving the table of a mining",
                        f"{len(file.getvalue()) / 1e6:.1f} MB of room",
                        "make room and call fit with resume=True; earlier checkpoints are kept",
                    ),
                ) from error
            self._known[result] = name
        return self._known[result]

    def read(self, name: str) -> MiningResult:
        """Return the result of a name.

        Raises:
            CheckpointError: If its file is missing or holds other bytes.
        """
        path = self._path(name)
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != name:
            raise CheckpointError(
                explain(
                    "a table of an earlier mining that is missing or damaged",
                    "the file that was written beside the checkpoints",
                    "restore the run's folder, or train again in another one",
                )
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            result = MiningResult.from_state({key: archive[key] for key in archive.files})
        self._known[result] = name
        return result

    def _path(self, name: str) -> Path:
        return self._folder / f"mined-{name[:32]}.npz"
