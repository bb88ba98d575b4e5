"""Which cases a folder holds: a manifest, or one of the layouts that public data sets use.

Each recognised layout is named in the output, so that a wrong guess is seen. What is not recognised is refused
with the list of what is.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

from kerasbalance.data.case import CaseRequest
from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.files import natural_key
from kerasbalance.data.dicom.header import Header, lenient_pydicom
from kerasbalance.data.errors import DataError
from kerasbalance.data.labels import OrganRule, parse_rule

MANIFEST = "cases.csv"
COLUMNS = ("ct", "mask", "case", "patient", "labels")
_NIFTI = (".nii.gz", ".nii")
_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass(frozen=True)
class Layout:
    """The cases that were found below a folder.

    Args:
        name: how the folder is organised, for the output.
        requests: the cases, in natural name order.
    """

    name: str
    requests: tuple[CaseRequest, ...]


def find_cases(root: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Recognise how a folder is organised and list its cases.

    Args:
        root: the folder.
        rules: which label values mean which organ; they take the place of what the layout knows.

    Returns:
        The layout. At least one case.

    Raises:
        DataError: the folder is of no known layout (code `UNKNOWN_LAYOUT`), or is one but cannot be read.
    """
    for name, find in _FINDERS.items():
        requests = find(root)
        if requests:
            return Layout(name, _numbered([replace(r, rules=rules or r.rules) for r in requests]))
    raise DataError(
        "UNKNOWN_LAYOUT",
        "a folder of no known layout",
        f"one of: {'; '.join(_FINDERS)}",
        "name one case with --mask, or list the cases in a --manifest",
        path=root,
    )


def _numbered(requests: list[CaseRequest]) -> tuple[CaseRequest, ...]:
    return tuple(replace(r, where=f"case {n} of {len(requests)}") for n, r in enumerate(requests, 1))


def read_manifest(path: Path, rules: tuple[OrganRule, ...] = ()) -> Layout:
    """Read a list of cases: CSV with the columns ct and mask, and optionally case, patient and labels.

    Paths are relative to the manifest's folder. `labels` holds rules like `liver=5,6;spleen=1`; it takes the
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
    requests = [_row(number, row, path, rules) for number, row in enumerate(rows, 1)]
    return Layout("manifest", _numbered(requests))


def _row(number: int, row: dict[str, str | None], path: Path, rules: tuple[OrganRule, ...]) -> CaseRequest:
    if None in row or not row.get("ct") or not row.get("mask"):
        raise _manifest_error(f"row {number} without ct or mask, or with too many fields", "both paths", path)
    labels = [part for part in (row.get("labels") or "").split(";") if part.strip()]
    return CaseRequest(
        path.parent / str(row["ct"]).strip(),
        path.parent / str(row["mask"]).strip(),
        tuple(parse_rule(part) for part in labels) or rules,
        (row.get("patient") or "").strip(),
    )


def _manifest_error(received: str, expected: str, path: Path) -> DataError:
    return DataError("MANIFEST", received, expected, "correct the manifest", path=path)


def _from_manifest(root: Path) -> list[CaseRequest]:
    path = root / MANIFEST
    return list(read_manifest(path).requests) if path.is_file() else []


def _nnunet(root: Path) -> list[CaseRequest]:
    images, labels = root / "imagesTr", root / "labelsTr"
    if not images.is_dir() or not labels.is_dir():
        return []
    rules = _dataset_rules(root / "dataset.json")
    requests = []
    for mask in _niftis(labels):
        stem = _stem(mask)
        candidates = [images / f"{stem}{end}{suffix}" for end in ("_0000", "") for suffix in _NIFTI]
        image = next((path for path in candidates if path.is_file()), candidates[0])
        requests.append(CaseRequest(image, mask, rules))
    return requests


def _dataset_rules(path: Path) -> tuple[OrganRule, ...]:
    """Read the labels of a dataset.json: name → value (nnU-Net v2) or value → name (Decathlon)."""
    try:
        labels = json.loads(path.read_text())["labels"]
        pairs = [(str(k), v) if isinstance(v, int) else (str(v), int(k)) for k, v in labels.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    named = [(name.strip().lower().replace(" ", "_"), value) for name, value in pairs]
    try:
        return tuple(OrganRule(name, (value,)) for name, value in named if value != 0)
    except DataError:
        return ()


def _ircadb(root: Path) -> list[CaseRequest]:
    homes = [
        home for home in _homes(root) if (home / "PATIENT_DICOM").is_dir() and (home / "MASKS_DICOM").is_dir()
    ]
    return [
        CaseRequest(home / "PATIENT_DICOM", home / "MASKS_DICOM", (OrganRule("liver"),)) for home in homes
    ]


def _chaos(root: Path) -> list[CaseRequest]:
    homes = [home for home in _homes(root) if (home / "DICOM_anon").is_dir() and (home / "Ground").is_dir()]
    # The organisers pair the n-th image with the n-th mask, both in the order of their file names.
    return [
        CaseRequest(home / "DICOM_anon", home / "Ground", (OrganRule("liver"),), png_order="file")
        for home in homes
    ]


def _totalsegmentator(root: Path) -> list[CaseRequest]:
    homes = [
        home for home in _homes(root) if (home / "ct.nii.gz").is_file() and (home / "segmentations").is_dir()
    ]
    rules = (
        OrganRule("liver", ("liver",)),
        OrganRule("kidney", ("kidney_left", "kidney_right")),
        OrganRule("spleen", ("spleen",)),
    )
    return [CaseRequest(home / "ct.nii.gz", home / "segmentations", rules) for home in homes]


def _dicom_tree(root: Path) -> list[CaseRequest]:
    scan = scan_folder(root)
    found = [(series, header) for header in scan.others if (series := _referenced(header, scan)) is not None]
    return [
        CaseRequest(_folder_of(series), header.file.path, series_uid=series.slices[0].header.series_uid)
        for series, header in sorted(found, key=lambda pair: pair[1].file.number)
    ]


def _folder_of(series: Series) -> Path:
    folders = {item.header.file.path.parent for item in series.slices}
    shared = folders.pop()
    while any(not folder.is_relative_to(shared) for folder in folders):
        shared = shared.parent
    return shared


def _referenced(header: Header, scan: Scan) -> Series | None:
    """Return the CT series that a SEG or RTSTRUCT was drawn on: by its series UID, else by frame of reference."""
    if header.sop_class not in (_SEG, _RTSTRUCT):
        return None
    with lenient_pydicom():
        dataset = pydicom.dcmread(header.file.path, stop_before_pixels=True, force=True)
    uids = {str(item.value) for item in dataset.iterall() if item.keyword == "SeriesInstanceUID"}
    frames = {str(item.value) for item in dataset.iterall() if item.keyword == "FrameOfReferenceUID"} - {""}
    by_series = [s for s in scan.series if s.slices[0].header.series_uid in uids]
    by_frame = [s for s in scan.series if s.slices[0].header.frame_of_reference_uid in frames]
    matches = by_series or by_frame
    return matches[0] if len(matches) == 1 else None


def _homes(root: Path) -> list[Path]:
    """Return the folder itself and what lies in it, in natural order: where a case's home may be."""
    if not root.is_dir():
        return []
    return [root, *sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: natural_key(p.name))]


def _niftis(folder: Path) -> Iterator[Path]:
    files = [p for p in folder.iterdir() if p.name.endswith(_NIFTI) and not p.name.startswith(".")]
    yield from sorted(files, key=lambda p: natural_key(p.name))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


_FINDERS: dict[str, Callable[[Path], list[CaseRequest]]] = {
    f"a folder with {MANIFEST}": _from_manifest,
    "nnU-Net or Decathlon (imagesTr, labelsTr)": _nnunet,
    "3D-IRCADb (PATIENT_DICOM, MASKS_DICOM)": _ircadb,
    "CHAOS (DICOM_anon, Ground)": _chaos,
    "TotalSegmentator (ct.nii.gz, segmentations)": _totalsegmentator,
    "DICOM with SEG or RTSTRUCT that refer to their CT series": _dicom_tree,
}
