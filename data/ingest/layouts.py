"""The cases of a folder: a manifest, or the layouts that public data sets use, also several in one tree.

Each recognised layout is named in the output, so that a wrong guess is seen. What is not recognised is refused
with the list of what is.
"""

import os
from dataclasses import replace
from pathlib import Path

from kerasbalance.data.dicom.guard import is_dicom
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import SourceFile, list_files, open_regular
from kerasbalance.data.images.image import ENDINGS
from kerasbalance.data.ingest.case import CaseRequest
from kerasbalance.data.ingest.dicom_tree import find_dicom_cases
from kerasbalance.data.ingest.manifest import Layout, numbered, read_manifest
from kerasbalance.data.ingest.named_layouts import NAMES, find_named_cases
from kerasbalance.data.labels import OrganRule

__all__ = ["Layout", "find_cases", "read_manifest"]

MANIFEST = "cases.csv"
_MANIFEST_FOLDER = f"a folder with {MANIFEST}"
_DICOM_TREE = "DICOM with SEG or RTSTRUCT that refer to their CT series"
_HEAD_BYTES = 4096


def find_cases(root: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Recognise how a folder is organised and list its cases.

    Args:
        root: The folder.
        rules: Which label values mean which organ; they take the place of what the layout knows, but not of what
            a row of a manifest says.

    Returns:
        The layout; its name joins several where the tree is mixed. At least one case or problem.

    Raises:
        DataError: If the folder is of no known layout (code `UNKNOWN_LAYOUT`), or is one but cannot be read.
    """
    if os.path.isfile(root / MANIFEST):
        return replace(read_manifest(root / MANIFEST, rules), name=_MANIFEST_FOLDER)
    found = find_named_cases(root)
    everything = [item for items in found.values() for item in items]
    claimed = [path for item in everything if isinstance(item, CaseRequest) for path in _paths(item)]
    rest = _unclaimed(root, set(claimed))
    if any(_looks_like_dicom(file.path) for file in rest):
        found |= {_DICOM_TREE: items} if (items := find_dicom_cases(root, claimed)) else {}
        everything = [item for items in found.values() for item in items]
    requests = [_with_rules(item, rules) for item in everything if isinstance(item, CaseRequest)]
    problems = tuple(item for item in everything if isinstance(item, DataError))
    if not requests and not problems:
        raise _unknown(root)
    notes = [item for item in everything if isinstance(item, Note)]
    notes += _left_over(rest, {path for request in requests for path in _paths(request)})
    return Layout("; ".join(found), numbered(requests), problems, tuple(dict.fromkeys(notes)))


def _with_rules(request: CaseRequest, rules: tuple[OrganRule, ...]) -> CaseRequest:
    more = tuple(replace(mask, rules=rules or mask.rules) for mask in request.more)
    return replace(request, rules=rules or request.rules, more=more)


def _paths(request: CaseRequest) -> list[Path]:
    return [request.ct, *(mask.path for mask in request.masks)]


def _unclaimed(root: Path, claimed: set[Path]) -> list[SourceFile]:
    return [file for file in list_files(root)[0] if claimed.isdisjoint([file.path, *file.path.parents])]


def _left_over(rest: list[SourceFile], claimed: set[Path]) -> list[Note]:
    """Make a note on image files that belong to no case."""
    free = [file for file in rest if claimed.isdisjoint([file.path, *file.path.parents])]
    count = sum(file.path.name.lower().endswith(ENDINGS) for file in free)
    return [Note("NO_CASE", f"{count} image files belong to no case and were left out")] if count else []


def _looks_like_dicom(path: Path) -> bool:
    with open_regular(path) as file:
        return is_dicom(file.read(_HEAD_BYTES))


def _unknown(root: Path) -> DataError:
    return DataError(
        "UNKNOWN_LAYOUT",
        "a folder of no known layout",
        f"one of: {'; '.join([_MANIFEST_FOLDER, *NAMES, _DICOM_TREE])}",
        "name one case with --mask, or list the cases in a --manifest",
        path=root,
    )
