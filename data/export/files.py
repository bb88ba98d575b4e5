"""Where an export goes: nothing is overwritten unasked, and the file is whole or not there."""

import os
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import write_aside
from kerasbalance.files import sync_folder


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target before any work is done for it.

    Raises:
        DataError: If its folder is not there (code `NO_FOLDER`), or it is there itself (code `EXISTS`).
    """
    _check_parent(path)
    if path.is_dir() or (os.path.lexists(path) and not overwrite):
        what = "a folder" if path.is_dir() else "a file that is there already"
        raise DataError("EXISTS", f"{what} as target", "a new file", "choose another name, or pass --overwrite",
                        path=path)  # fmt: skip


def check_folder(path: Path) -> None:
    """Refuse a folder as target that cannot be made: it may be there already.

    Raises:
        DataError: If the folder around it is not there (code `NO_FOLDER`), or a file has its name (code `EXISTS`).
    """
    _check_parent(path)
    if os.path.lexists(path) and not path.is_dir():
        raise DataError("EXISTS", "a file in the place of the folder to write to", "a folder, or a new name",
                        "choose another name", path=path)  # fmt: skip


def _check_parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise DataError("NO_FOLDER", "a target whose folder is not there", "an existing folder", "make it first",
                        path=path)  # fmt: skip


def write_target(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a whole file: aside, synced, renamed into place; readable by its owner only.

    Raises:
        DataError: As `check_target`, or the disk is full (code `DISK_FULL`); nothing is left behind.
    """
    check_target(path, overwrite=overwrite)
    aside = write_aside(path.parent, content)
    try:
        check_target(path, overwrite=overwrite)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
