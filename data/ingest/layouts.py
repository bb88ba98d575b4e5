"""Which cases a folder holds: a manifest, or one of the layouts that public data sets use.

Each recognised layout is named in the output, so that a wrong guess is seen. What is not recognised is refused
with the list of what is.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.guard import SEGMENTATIONS, STRUCTURE_SET, lenient_pydicom, read_up_to
from kerasbalance.data.dicom.header import Header
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import malformed, natural_key, read_regular
from kerasbalance.data.ingest.case import CaseRequest, join_masks
from kerasbalance.data.ingest.isolate import Limits, run_isolated, usable_cores
from kerasbalance.data.labels import OrganRule, parse_rule

MANIFEST = "cases.csv"
_MANIFEST_FOLDER = f"a folder with {MANIFEST}"
COLUMNS = ("ct", "mask", "case", "patient", "labels")
_NIFTI = (".nii.gz", ".nii")
_REFERENCE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Layout:
    """The cases that were found below a folder.

    Args:
        name: how the folder is organised, for the output.
        requests: the cases, in natural name order.
        problems: masks that no case could be made of.
    """

    name: str
    requests: tuple[CaseRequest, ...]
    problems: tuple[DataError, ...] = ()


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
        if found:
            return Layout(name, _numbered(requests), tuple(p for p in found if isinstance(p, DataError)))
    raise DataError(
        "UNKNOWN_LAYOUT",
        "a folder of no known layout",
        f"one of: {'; '.join([_MANIFEST_FOLDER, *_FINDERS])}",
        "name one case with --mask, or list the cases in a --manifest",
        path=root,
    )


def _numbered(requests: list[CaseRequest]) -> tuple[CaseRequest, ...]:
    return tuple(replace(r, where=f"case {n} of {len(requests)}") for n, r in enumerate(requests, 1))


def read_manifest(path: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Read a list of cases: CSV with the columns ct and mask, and optionally case, patient and labels.

    Paths are relative to the manifest's folder. Rows that name the same CT are one case with several masks.
    `labels` holds rules like `liver=5,6;spleen=1`; it takes the
    place of `rules` in that row.

    Raises:
        DataError: the file cannot be read, a column is missing or unknown, or a row is incomplete (code
            `MANIFEST`; the row is named).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _manifest_error(
            f"a manifest that cannot be read ({type(error).__name__})", "a CSV file", path
        ) from None
    missing = [name for name in ("ct", "mask") if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown:
        what = f"no column {missing[0]!r}" if missing else f"{len(unknown)} columns that are not known"
        raise _manifest_error(what, f"the columns {', '.join(COLUMNS)} (ct and mask are needed)", path)
    if not rows:
        raise _manifest_error("a manifest without rows", "one row for each case", path)
    requests: dict[Path, CaseRequest] = {}
    for number, row in enumerate(rows, 1):
        request = _row(number, row, path, rules)
        place = Path(os.path.realpath(request.ct))
        known = requests.get(place)
        if known and known.patient and request.patient not in ("", known.patient):
            raise _manifest_error(
                f"row {number} with another patient than an earlier row of the same CT", "one patient", path
            )
        requests[place] = join_masks(known, request) if known else request
    return Layout("manifest", _numbered(list(requests.values())))


def _row(number: int, row: dict[str, str | None], path: Path, rules: tuple[OrganRule, ...]) -> CaseRequest:
    if None in row or not row.get("ct") or not row.get("mask"):
        raise _manifest_error(f"row {number} without ct or mask, or with too many fields", "both paths", path)
    if any("\0" in str(value) for value in row.values()):
        raise _manifest_error(f"row {number} with a NUL character", "text", path)
    labels = [part for part in (row.get("labels") or "").split(";") if part.strip()]
    try:
        own_rules = tuple(parse_rule(part) for part in labels)
    except DataError:
        raise _manifest_error(
            f"row {number} with labels that say nothing", "liver=5,6;spleen=1", path
        ) from None
    return CaseRequest(
        path.parent / str(row["ct"]).strip(),
        path.parent / str(row["mask"]).strip(),
        own_rules or rules,
        (row.get("patient") or "").strip(),
    )


def _manifest_error(received: str, expected: str, path: Path) -> DataError:
    return DataError("MANIFEST", received, expected, "correct the manifest", path=path)


def _nnunet(root: Path) -> list[CaseRequest | DataError]:
    images, labels = root / "imagesTr", root / "labelsTr"
    if not os.path.isdir(images) or not os.path.isdir(labels):
        return []
    rules = _dataset_rules(root / "dataset.json")
    requests: list[CaseRequest | DataError] = []
    for mask in _niftis(labels):
        stem = _stem(mask)
        candidates = [images / f"{stem}{end}{suffix}" for end in ("_0000", "") for suffix in _NIFTI]
        image = next((path for path in candidates if os.path.isfile(path)), candidates[0])
        requests.append(CaseRequest(image, mask, rules))
    return requests


def _dataset_rules(path: Path) -> tuple[OrganRule, ...]:
    """Read the labels of a dataset.json: name → value (nnU-Net v2) or value → name (Decathlon)."""
    try:
        labels = json.loads(read_regular(path))["labels"]
        pairs = [(str(k), v) if isinstance(v, int) else (str(v), int(k)) for k, v in labels.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    named = [(name.strip().lower().replace(" ", "_"), value) for name, value in pairs]
    try:
        return tuple(OrganRule(name, (value,)) for name, value in named if value != 0)
    except DataError:
        return ()


def _ircadb(root: Path) -> list[CaseRequest | DataError]:
    homes = [
        home
        for home in _homes(root)
        if os.path.isdir(home / "PATIENT_DICOM") and os.path.isdir(home / "MASKS_DICOM")
    ]
    return [
        CaseRequest(home / "PATIENT_DICOM", home / "MASKS_DICOM", (OrganRule("liver"),)) for home in homes
    ]


def _chaos(root: Path) -> list[CaseRequest | DataError]:
    homes = [
        home for home in _homes(root) if os.path.isdir(home / "DICOM_anon") and os.path.isdir(home / "Ground")
    ]
    # The organisers pair the n-th image with the n-th mask, both in the order of their file names.
    return [
        CaseRequest(home / "DICOM_anon", home / "Ground", (OrganRule("liver"),), png_order="file")
        for home in homes
    ]


def _totalsegmentator(root: Path) -> list[CaseRequest | DataError]:
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


def _dicom_tree(root: Path) -> list[CaseRequest | DataError]:
    scan = scan_folder(root)
    masks = [header for header in scan.others if header.sop_class in (*SEGMENTATIONS, STRUCTURE_SET)]
    if not masks:
        return []
    paths, jobs = [header.file.path for header in masks], usable_cores()
    limits = Limits.for_jobs(jobs, timeout_s=_REFERENCE_TIMEOUT_S)
    with closing(run_isolated(_references, paths, jobs=jobs, limits=limits)) as results:
        found = dict(results)
    return _by_series([_case_of(header, found[n], scan) for n, header in enumerate(masks)])


def _by_series(found: list[CaseRequest | DataError]) -> list[CaseRequest | DataError]:
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


_FINDERS: dict[str, Callable[[Path], list[CaseRequest | DataError]]] = {
    "nnU-Net or Decathlon (imagesTr, labelsTr)": _nnunet,
    "3D-IRCADb (PATIENT_DICOM, MASKS_DICOM)": _ircadb,
    "CHAOS (DICOM_anon, Ground)": _chaos,
    "TotalSegmentator (ct.nii.gz, segmentations)": _totalsegmentator,
    "DICOM with SEG or RTSTRUCT that refer to their CT series": _dicom_tree,
}
