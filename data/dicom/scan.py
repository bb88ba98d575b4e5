"""The CT series of a folder, each sorted by position and checked, before any pixel is decoded.

Grouping, sorting and checking follow geometry, never file names or InstanceNumber (DICOM PS3.3 C.7.6.2.1.1).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kerasbalance.data.dicom.checks import check_values, has_geometry
from kerasbalance.data.dicom.frames import Frame
from kerasbalance.data.dicom.header import Header, refused
from kerasbalance.data.dicom.parse import NotDicom, read_header
from kerasbalance.data.dicom.series import Scan, Series, difference
from kerasbalance.data.dicom.stack import Slice, drop_duplicates, normal_of, sort_slices
from kerasbalance.data.dicom.stack_checks import check_stack
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import SourceFile, list_files

STRAY_LIMIT = 3
"""At most this many images of another plane count as unmarked localizers."""

MAX_STACKS = 200
"""Orientations and spacings under one series UID; every image is compared with each."""

_STRAY_COSINE = 0.7
"""Images whose normal is turned by more than 45 degrees lie in another plane."""

_DERIVED = ("KO", "PR", "REG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG", "SR")
"""Careless writers leave the series UID of the CT in these."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", ".ct")

_ORIENTATION_TOLERANCE = 1e-3
_SPACING_TOLERANCE = 1e-3


def scan_folder(root: Path, allow: frozenset[str] = frozenset()) -> Scan:
    """Read the headers of all DICOM files at or below `root` and sort CT images into series.

    Args:
        root: A folder or one file.
        allow: Relaxations by name, see `checks.RELAXATIONS`.

    Returns:
        The scan; a folder without DICOM gives one without series.

    Raises:
        DataError: If `root` cannot be read.
    """
    files, notes = list_files(root)
    headers: list[Header] = []
    errors: list[DataError] = []
    foreign: list[SourceFile] = []
    for file in files:
        try:
            headers.append(read_header(file))
        except NotDicom:
            foreign.append(file)
        except DataError as error:
            errors.append(error)
    if foreign:
        notes.append(Note("NOT_DICOM", f"{len(foreign)} files that are no DICOM skipped"))
    images, others, dropped = _sort_out(headers)
    notes += [Note("LEFT_OUT", f"{count} {what} left out") for what, count in sorted(dropped.items())]
    unread = [*errors, *_damaged(foreign, images), *_other_modalities(others, images)]
    series = _whole([_series(number, group, unread, allow) for number, group in enumerate(_group(images), 1)])
    scan = Scan(root, tuple(series), tuple(others), tuple(errors), tuple(notes), tuple(foreign))
    return _without_strays(scan)


def _sort_out(headers: Iterable[Header]) -> tuple[list[Slice], list[Header], Counter[str]]:
    images: list[Slice] = []
    others: list[Header] = []
    dropped: Counter[str] = Counter()
    for header in headers:
        reason = _not_ct(header)
        if reason is None:
            images += [Slice(header, frame) for frame in header.frames]
        elif reason == "other":
            others.append(header)
        else:
            dropped[reason] += 1
    return images, others, dropped


def _not_ct(header: Header) -> str | None:
    if not header.is_ct:
        return "secondary captures" if header.modality == "CT" and header.rows else "other"
    if "LOCALIZER" in header.image_type:
        return "localizers"
    if any(word.startswith(("SCREEN SAVE", "DOSE", "CT_SOM5 PROT")) for word in header.image_type):
        return "dose pages"
    if header.samples_per_pixel != 1 or header.photometric == "PALETTE COLOR":
        return "colour images"
    return None


def _damaged(foreign: Iterable[SourceFile], images: Sequence[Slice]) -> list[DataError]:
    """Find files that are no DICOM but bear names like the images beside them: damaged slices, most likely."""
    patterns = {_pattern(item.header.file) for item in images}
    folders = {item.header.file.path.parent for item in images}
    return [
        refused(file, "NOT_DICOM", "a file named like the images beside it that is no DICOM", "a DICOM file",
                "copy the file again, or take it away")
        for file in foreign
        if _pattern(file) in patterns
        or (
            file.path.parent in folders
            and file.path.suffix.lower() in _DICOM_SUFFIXES
            and not file.path.name.startswith(".")
        )
    ]  # fmt: skip


def _other_modalities(others: Iterable[Header], images: Sequence[Slice]) -> list[DataError]:
    """Find images of another modality that claim to belong to a series of CT: a damaged slice, most likely."""
    series = {item.header.series_uid for item in images} - {""}
    return [
        refused(header.file, "BAD_HEADER", "an image of another modality in the same series", "CT images only",
                "copy the file again, or take it away")
        for header in others
        if header.series_uid in series and header.modality not in _DERIVED
    ]  # fmt: skip


def _pattern(file: SourceFile) -> tuple[Path, str]:
    return file.path.parent, re.sub("[0-9]+", "0", file.path.name).casefold()


def _group(images: Sequence[Slice]) -> list[list[Slice]]:
    """Put together what belongs to one stack; the order of groups follows their first file."""
    groups: dict[tuple[object, ...], list[list[Slice]]] = {}
    for item in images:
        header = item.header
        place = header.series_uid or str(header.file.path.parent)
        key = (place, header.patient_id, header.plane, header.frame_of_reference_uid, header.kernel)
        clusters = groups.setdefault(key, [])
        home = next((cluster for cluster in clusters if _alike(cluster[0].frame, item.frame)), None)
        if home is None and len(clusters) == MAX_STACKS:
            raise refused(header.file, "SEVERAL_SERIES", f"more than {MAX_STACKS} orientations in one series",
                          "one", "name the folder of one series")  # fmt: skip
        if home is None:
            clusters.append([item])
        else:
            home.append(item)
    ordered = [cluster for clusters in groups.values() for cluster in clusters]
    return sorted(ordered, key=lambda cluster: cluster[0].header.file.number)


def _alike(a: Frame, b: Frame) -> bool:
    return _close(a.orientation, b.orientation, _ORIENTATION_TOLERANCE) and _close(
        a.spacing_mm, b.spacing_mm, _SPACING_TOLERANCE
    )


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None, tolerance: float) -> bool:
    if a is None or b is None or not all(map(math.isfinite, (*a, *b))):
        return True  # a missing value is a problem of the stack it belongs to, not a stack of its own
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def _series(number: int, group: list[Slice], errors: list[DataError], allow: frozenset[str]) -> Series:
    folders = {item.header.file.path.parent for item in group}
    unread = [error for error in errors if error.path is not None and error.path.parent in folders]
    problems = [*unread, *check_values(group)]
    if problems:
        return Series(number, tuple(group), (), tuple(problems))
    slices, notes, conflicts = drop_duplicates(sort_slices(group))
    found, stack_notes = check_stack(slices, allow)
    return Series(number, tuple(slices), (*notes, *stack_notes), (*conflicts, *found), allow)


def _whole(series: list[Series]) -> list[Series]:
    """Return the series; single images of one SeriesInstanceUID get a problem that names what separates them."""
    single: dict[str, list[Series]] = {}
    for each in series:
        if len(each.slices) == 1 and each.slices[0].header.series_uid:
            single.setdefault(each.slices[0].header.series_uid, []).append(each)
    apart = {part.number: parts for parts in single.values() if len(parts) > 1 for part in parts}
    return [replace(each, problems=_apart(each, apart[each.number])) if each.number in apart else each
            for each in series]  # fmt: skip


def _apart(series: Series, parts: Sequence[Series]) -> tuple[DataError, ...]:
    what = difference(parts)
    error = series.slices[0].refused("ONE_IMAGE", f"a series that falls apart into {len(parts)} single images, which "
                                     f"differ in {what}", f"one {what} in a series",
                                     "export the series again, or correct these values in its files")  # fmt: skip
    return (error, *(problem for problem in series.problems if problem.code != "ONE_IMAGE"))


def _without_strays(scan: Scan) -> Scan:
    """Leave out unmarked localizers: a few images of the same series in another orientation."""
    main = max(scan.series, key=lambda series: len(series.slices), default=None)
    if main is None:
        return scan
    strays = [s for s in scan.series if s is not main and _is_stray(s, main)]
    if not strays:
        return scan
    count = sum(len(series.slices) for series in strays)
    kept = [series for series in scan.series if series not in strays]
    kept = [replace(series, number=number) for number, series in enumerate(kept, 1)]
    note = Note("LEFT_OUT", f"{count} images in another orientation than the series left out")
    return replace(scan, series=tuple(kept), notes=(*scan.notes, note))


def _is_stray(series: Series, main: Series) -> bool:
    a, b = series.slices[0], main.slices[0]
    same = a.header.series_uid == b.header.series_uid and a.header.patient_id == b.header.patient_id
    if not same or len(series.slices) > STRAY_LIMIT or len(main.slices) <= STRAY_LIMIT:
        return False
    return has_geometry(a) and has_geometry(b) and _turned(a, b)


def _turned(a: Slice, b: Slice) -> bool:
    return bool(abs(normal_of([a]) @ normal_of([b])) < _STRAY_COSINE)
