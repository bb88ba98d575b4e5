"""`kerasbalance train` in several processes: they are joined, and the first one writes."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

_CHECKPOINTS = "checkpoint"


def folder_to_write(out: Path, resume: bool) -> Path:
    """Return the run's folder in the first process; in another one a folder that is removed when the command ends.

    Every process writes the same files. Those of the others are not needed, and neither is what they print.

    Args:
        out: The run's folder, which all processes see.
        resume: Whether a run goes on that lies there.
    """
    from kerasbalance.backend.processes import process_share

    if process_share()[0] == 0:
        return out
    context = click.get_current_context()
    context.with_resource(_quiet())
    return context.with_resource(_copy(out, resume))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _copy(out: Path, resume: bool) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kerasbalance-process-") as scratch:
        own = Path(scratch) / "run"
        if resume:
            shutil.copytree(out, own, ignore=lambda folder, names: {_CHECKPOINTS} & set(names))
            (own / _CHECKPOINTS).symlink_to((out / _CHECKPOINTS).absolute())  # only read, see FollowedFolder
        yield own
