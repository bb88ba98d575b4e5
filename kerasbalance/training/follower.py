"""The checkpoints of a run as the processes see them that do not write: the first one does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasbalance.backend.processes import process_share
from kerasbalance.training.checkpoint import Arrays, Checkpoint, CheckpointFolder, checkpoint_entries
from kerasbalance.training.checkpoint_reading import read_newest


class FollowedFolder:
    """Reads what the first process writes into a folder that all processes see, and writes nothing itself.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Do nothing: there is no lock."""

    def entries(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        return checkpoint_entries(self.path)

    def save(self, arrays: Arrays, info: dict[str, Any]) -> Path:
        """Leave it to the first process."""
        return self.path

    def load(self, accept: Callable[[Checkpoint], None] | None = None) -> Checkpoint:
        """Return the newest checkpoint that verifies.

        Raises:
            CheckpointError: If there is none.
        """
        checkpoint = read_newest(self.path)
        if accept is not None:
            accept(checkpoint)
        return checkpoint


Folder = CheckpointFolder | FollowedFolder


def open_folder(path: Path) -> Folder:
    """Open a run's checkpoints for training: the first process locks and writes, the others follow."""
    return CheckpointFolder(path) if process_share()[0] == 0 else FollowedFolder(path)
