"""Reading a checkpoint without a lock, while the run may be in training or its folder read-only."""

import zipfile
from pathlib import Path

from kerasbalance.errors import CheckpointError, explain
from kerasbalance.training.checkpoint import Checkpoint, checkpoint_entries, read_checkpoint

_ATTEMPTS = 3
"""A training may remove both checkpoints that were listed before they are read; the next list holds newer ones."""


def read_newest(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a folder that verifies; nothing is locked, written or renamed.

    Args:
        folder: A run's folder of checkpoints.

    Raises:
        CheckpointError: If there is none.
    """
    for _ in range(_ATTEMPTS):
        for entry in checkpoint_entries(folder):
            try:
                return read_checkpoint(entry)
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
                continue  # damaged, or removed since it was listed: the older one is as good
    raise CheckpointError(
        explain("no valid checkpoint", "at least one that verifies", "restore the folder, or train again")
    )
