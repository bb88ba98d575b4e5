"""Cases of DICOM: masks that refer to their CT series, and masks in image files that lie beside one."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.dicom import Scan, Series, scan_folder
from kerasbalance.data.dicom.guard import SEGMENTATIONS, STRUCTURE_SET, lenient_pydicom, read_up_to
from kerasbalance.data.dicom.header import Header
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import malformed
from kerasbalance.data.ingest.case import CaseRequest, join_masks
from kerasbalance.data.ingest.isolate import Limits, run_isolated, usable_cores
from kerasbalance.data.ingest.named_layouts import Found, masks_beside

_REFERENCE_TIMEOUT_S = 120.0


def find_dicom_cases(root: Path, claimed: Sequence[Path] = ()) -> list[Found]:
    """Pair the CT series below a folder with their masks.

    Args:
        root: The folder.
        claimed: Files and folders that belong to cases already.

    Returns:
        The cases, what no case could be made of, and a note where CT series have no mask.
    """
    scan = scan_folder(root)
    masks = [header for header in scan.others if header.sop_class in (*SEGMENTATIONS, STRUCTURE_SET)]
    masks = [header for header in masks if not _within(header.file.path, claimed)]
    found = _by_series([*_referring(masks, scan), *_beside(scan, claimed)])
    paired = {(item.ct, item.series_uid) for item in found if isinstance(item, CaseRequest)}
    free = [series for series in scan.series if not _within(series.folder, claimed)]
    bare = sum((_folder_of(series), _uid_of(series)) not in paired for series in free)
    if bare and found:
        found.append(Note("NO_MASK", f"{bare} CT series without a mask were left out"))
    homes = {item.header.file.path.parent for series in scan.series for item in series.slices}
    lost = [e for e in scan.errors if e.path and e.path.parent not in homes and not _within(e.path, claimed)]
    return [*found, *lost] if found else found


def _within(path: Path, places: Sequence[Path]) -> bool:
    return any(path == place or path.is_relative_to(place) for place in places)


def _uid_of(series: Series) -> str:
    return series.slices[0].header.series_uid


def _beside(scan: Scan, claimed: Sequence[Path]) -> list[Found]:
    """Pair a series with the masks in image files in its folder or the one above, where no other series lies."""
    homes = [_folder_of(series) for series in scan.series]
    found: list[Found] = []
    for series, home in zip(scan.series, homes, strict=True):
        if _within(home, claimed):
            continue
        for place in dict.fromkeys([home, home.parent if home != scan.root else home]):
            alone = sum(other.is_relative_to(place) for other in homes) == 1
            found += masks_beside(home, place, _uid_of(series)) if alone else []
    return found


def _referring(masks: Sequence[Header], scan: Scan) -> list[Found]:
    if not masks:
        return []
    paths, jobs = [header.file.path for header in masks], usable_cores()
    limits = Limits.for_jobs(jobs, timeout_s=_REFERENCE_TIMEOUT_S)
    with closing(run_isolated(_references, paths, jobs=jobs, limits=limits)) as results:
        found = dict(results)
    return [_case_of(header, found[n], scan) for n, header in enumerate(masks)]


def _by_series(found: list[Found]) -> list[Found]:
    """Make one case of all masks that refer to one series."""
    cases: dict[tuple[Path, str], CaseRequest] = {}
    for item in found:
        if isinstance(item, CaseRequest):
            known = cases.get((item.ct, item.series_uid))
            cases[item.ct, item.series_uid] = join_masks(known, item) if known else item
    return [*cases.values(), *(item for item in found if not isinstance(item, CaseRequest))]


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
"""The last attribute with references of a mask; frames and contours come after it."""


@dataclass(frozen=True)
class _References:
    """The references of a SEG or RTSTRUCT: UIDs of series and of frames of reference. They stay in memory."""

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
