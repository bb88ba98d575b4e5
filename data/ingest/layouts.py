"""Which cases a folder holds: a manifest, or one of the layouts that public data sets use.

Each recognised layout is named in the output, so that a wrong guess is seen. What is not recognised is refused
with the list of what is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.guard import SEGMENTATIONS, STRUCTURE_SET, lenient_pydicom, read_up_to
from kerasbalance.data.dicom.header import Header
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed, natural_key
from kerasbalance.data.ingest.case import CaseRequest, join_masks
from kerasbalance.data.ingest.dataset_json import dataset_rules
from kerasbalance.data.ingest.isolate import Limits, run_isolated, usable_cores
from kerasbalance.data.ingest.manifest import Layout, numbered, read_manifest
from kerasbalance.data.labels import OrganRule

__all__ = ["Layout", "find_cases", "read_manifest"]

MANIFEST = "cases.csv"
_MANIFEST_FOLDER = f"a folder with {MANIFEST}"
_NIFTI = (".nii.gz", ".nii")
_REFERENCE_TIMEOUT_S = 120.0


Found = CaseRequest | DataError | Note


def find_cases(root: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Recognise how a folder is organised and list its cases.

    Args:
        root: the folder.
        rules: which label values mean which organ; they take the place of what the layout knows, but not of what
            a row of a manifest says.

    Returns:
        The layout. At least one case or problem.

    Raises:
        DataError: the folder is of no known layout (code `UNKNOWN_LAYOUT`), or is one but cannot be read.
    """
    if os.path.isfile(root / MANIFEST):
        return replace(read_manifest(root / MANIFEST, rules), name=_MANIFEST_FOLDER)
    for name, find in _FINDERS.items():
        found = find(root)
        requests = [replace(r, rules=rules or r.rules) for r in found if isinstance(r, CaseRequest)]
        notes = tuple(dict.fromkeys(n for n in found if isinstance(n, Note)))
        if requests or found:
            return Layout(
                name, numbered(requests), tuple(p for p in found if isinstance(p, DataError)), notes
            )
    raise DataError(
        "UNKNOWN_LAYOUT",
        "a folder of no known layout",
        f"one of: {'; '.join([_MANIFEST_FOLDER, *_FINDERS])}",
        "name one case with --mask, or list the cases in a --manifest",
        path=root,
    )


def _nnunet(root: Path) -> list[Found]:
    images, labels = root / "imagesTr", root / "labelsTr"
    if not os.path.isdir(images) or not os.path.isdir(labels):
        return []
    rules, notes = dataset_rules(root / "dataset.json")
    requests: list[Found] = [*notes]
    for mask in _niftis(labels):
        stem = _stem(mask)
        candidates = [images / f"{stem}{end}{suffix}" for end in ("_0000", "") for suffix in _NIFTI]
        image = next((path for path in candidates if os.path.isfile(path)), candidates[0])
        requests.append(CaseRequest(image, mask, rules))
    return requests


def _ircadb(root: Path) -> list[Found]:
    homes = [
        home
        for home in _homes(root)
        if os.path.isdir(home / "PATIENT_DICOM") and os.path.isdir(home / "MASKS_DICOM")
    ]
    return [
        CaseRequest(home / "PATIENT_DICOM", home / "MASKS_DICOM", (OrganRule("liver"),)) for home in homes
    ]


def _chaos(root: Path) -> list[Found]:
    homes = [
        home for home in _homes(root) if os.path.isdir(home / "DICOM_anon") and os.path.isdir(home / "Ground")
    ]
    # The organisers pair the n-th image with the n-th mask, both in the order of their file names.
    return [
        CaseRequest(home / "DICOM_anon", home / "Ground", (OrganRule("liver"),), png_order="file")
        for home in homes
    ]


def _totalsegmentator(root: Path) -> list[Found]:
    homes = [
        home
        for home in _homes(root)
        if os.path.isfile(home / "ct.nii.gz") and os.path.isdir(home / "segmentations")
    ]
    rules = (
        OrganRule("liver", ("liver",)),
        OrganRule("kidney", ("kidney_left", "kidney_right")),
        OrganRule("spleen", ("spleen",)),
    )
    return [CaseRequest(home / "ct.nii.gz", home / "segmentations", rules) for home in homes]


def _dicom_tree(root: Path) -> list[Found]:
    scan = scan_folder(root)
    masks = [header for header in scan.others if header.sop_class in (*SEGMENTATIONS, STRUCTURE_SET)]
    if not masks:
        return []
    paths, jobs = [header.file.path for header in masks], usable_cores()
    limits = Limits.for_jobs(jobs, timeout_s=_REFERENCE_TIMEOUT_S)
    with closing(run_isolated(_references, paths, jobs=jobs, limits=limits)) as results:
        found = dict(results)
    return _by_series([_case_of(header, found[n], scan) for n, header in enumerate(masks)])


def _by_series(found: list[Found]) -> list[Found]:
    """Make one case of all masks that refer to one series."""
    cases: dict[str, CaseRequest] = {}
    for item in found:
        if isinstance(item, CaseRequest):
            known = cases.get(item.series_uid)
            cases[item.series_uid] = join_masks(known, item) if known else item
    return [*cases.values(), *(item for item in found if isinstance(item, DataError))]


def _case_of(header: Header, result: "_References | DataError", scan: Scan) -> CaseRequest | DataError:
    """Pair a SEG or RTSTRUCT with the CT series that it was drawn on."""
    path, where = header.file.path, header.file.where
    if isinstance(result, DataError):
        return result.at(where=where, path=path)
    by_series = [s for s in scan.series if s.slices[0].header.series_uid in result.series]
    by_frame = [s for s in scan.series if s.slices[0].header.frame_of_reference_uid in result.frames]
    matches = by_series or by_frame
    if len(matches) != 1:
        return DataError("UNMATCHED", f"a mask that refers to {len(matches)} of the CT series below the folder",
                         "one series", "name CT and mask with --mask or in a --manifest",
                         path=path, where=where)  # fmt: skip
    return CaseRequest(_folder_of(matches[0]), path, series_uid=matches[0].slices[0].header.series_uid)


_LAST_REFERENCE = "StructureSetROISequence"
"""What a mask refers to stands up to here; frames and contours come after it."""


@dataclass(frozen=True)
class _References:
    """What a SEG or RTSTRUCT refers to: UIDs of series, and of frames of reference; kept in memory only."""

    series: frozenset[str]
    frames: frozenset[str]


def _references(path: Path) -> _References:
    """Read what a mask refers to, in a process of its own, because the data set is not trusted."""
    with lenient_pydicom(), malformed("a DICOM file", path):
        named = [(item.keyword, str(item.value)) for item in read_up_to(path, _LAST_REFERENCE).iterall()]
    series, frames = (
        frozenset(value for name, value in named if name == keyword and value)
        for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID")
    )
    return _References(series, frames)


def _folder_of(series: Series) -> Path:
    folders = {item.header.file.path.parent for item in series.slices}
    shared = folders.pop()
    while any(not folder.is_relative_to(shared) for folder in folders):
        shared = shared.parent
    return shared


def _homes(root: Path) -> list[Path]:
    """Return the folder itself and what lies in it, in natural order: where a case's home may be."""
    if not os.path.isdir(root):
        return []
    return [root, *sorted((p for p in root.iterdir() if os.path.isdir(p)), key=lambda p: natural_key(p.name))]


def _niftis(folder: Path) -> Iterator[Path]:
    files = [p for p in folder.iterdir() if p.name.endswith(_NIFTI) and not p.name.startswith(".")]
    yield from sorted(files, key=lambda p: natural_key(p.name))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


_FINDERS: dict[str, Callable[[Path], list[Found]]] = {
    "nnU-Net or Decathlon (imagesTr, labelsTr)": _nnunet,
    "3D-IRCADb (PATIENT_DICOM, MASKS_DICOM)": _ircadb,
    "CHAOS (DICOM_anon, Ground)": _chaos,
    "TotalSegmentator (ct.nii.gz, segmentations)": _totalsegmentator,
    "DICOM with SEG or RTSTRUCT that refer to their CT series": _dicom_tree,
}
