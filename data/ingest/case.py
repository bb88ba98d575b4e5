"""One case from its sources: CT and mask read, mapped, shaped, checked, and described without identifiers."""

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.ct import CT, open_ct
from kerasbalance.data.dicom.checks import check_allow
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.files import list_files
from kerasbalance.data.ingest.mask_files import mask_digest, mask_states
from kerasbalance.data.ingest.organ_check import HuSpread, hu_spread, suspicions
from kerasbalance.data.labels import OrganRule, check_rules
from kerasbalance.data.masks import Mask
from kerasbalance.data.masks.read import MaskSource, read_masks
from kerasbalance.data.store.facts import CaseFacts
from kerasbalance.data.store.keys import Pseudonyms
from kerasbalance.data.store.sealed_case import CaseArrays
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.shaping import PlaneMap, Shaping
from kerasbalance.data.volume.stated_grid import StatedGrid
from kerasbalance.data.volume.volume import MAX_SIDE, Identity, Volume

SPACINGS_MM = (0.1, 20.0)
"""The smallest and the largest pixel that slices are resampled to."""


@dataclass(frozen=True)
class CaseRequest:
    """One case as the user names it.

    Args:
        ct: Folder or file of the CT.
        mask: Folder or file of the mask.
        rules: Which values mean which organ; empty to recognise known names.
        patient: The patient as the user names it, "" to take it from the CT.
        series: Number of the series in the CT's folder, None where there is only one.
        series_uid: Or its SeriesInstanceUID, "" where there is only one.
        png_order: How a PNG stack is ordered, see `masks.read_mask`.
        where: How messages name the case, e.g. "case 3 of 12".
        more: Further masks of the same CT, each with rules of its own.
        grid: Where the voxels of CT and masks lie, for image files whose headers do not state it.
        origin: Where a CT comes from that was unpacked into a temporary folder, "" for others.
    """

    ct: Path
    mask: Path
    rules: tuple[OrganRule, ...] = ()
    patient: str = ""
    series: int | None = None
    series_uid: str = ""
    png_order: str | None = None
    where: str = "case 1 of 1"
    more: tuple[MaskSource, ...] = ()
    grid: StatedGrid | None = None
    origin: str = ""

    @property
    def source(self) -> str:
        """The place of the CT that stays the same from one ingest to the next."""
        return self.origin or os.path.realpath(self.ct)

    @property
    def masks(self) -> tuple[MaskSource, ...]:
        """All masks of the case."""
        return (MaskSource(self.mask, self.rules, self.png_order), *self.more)


def join_masks(first: CaseRequest, second: CaseRequest) -> CaseRequest:
    """Return the first case with the masks of the second one, which names the same CT, added."""
    added = tuple(mask for mask in second.masks if mask not in first.masks)
    return replace(
        first,
        patient=first.patient or second.patient,
        grid=first.grid or second.grid,
        more=(*first.more, *added),
    )


@dataclass(frozen=True)
class CaseOptions:
    """The options of one ingest.

    Args:
        allow: Relaxations by name, see `dicom.checks.RELAXATIONS`.
        resample_mask: Map masks of another grid by position, nearest voxel.
        crop: Rows and columns to cut out of each slice, after `spacing_mm` and before `resize`; None keeps all.
        resize: Rows and columns to resample each slice to; None keeps them.
        spacing_mm: Size of a pixel to resample each slice to; None keeps it.
        keep_uids: Store the original UIDs, so that the series can be referenced from the store alone.

    Raises:
        DataError: If a relaxation is unknown or a size impossible (code `USAGE`).
    """

    allow: frozenset[str] = frozenset()
    resample_mask: bool = False
    crop: int | None = None
    resize: int | None = None
    spacing_mm: float | None = None
    keep_uids: bool = False

    def __post_init__(self) -> None:
        check_allow(self.allow)
        for name, size in (("--crop", self.crop), ("--resize", self.resize)):
            if size is not None and not 8 <= size <= MAX_SIDE:
                raise DataError("USAGE", f"{name} {size}", f"8 to {MAX_SIDE} pixels", f"correct {name}")
        low, high = SPACINGS_MM
        if self.spacing_mm is not None and not low <= self.spacing_mm <= high:
            raise DataError(
                "USAGE", f"--spacing {self.spacing_mm:g}", f"{low:g} to {high:g} mm", "correct --spacing"
            )
        if self.spacing_mm is not None and self.resize is not None:
            raise DataError("USAGE", "--spacing and --resize, which both resample", "one of them",
                            "leave out --resize; --crop makes planes of one size")  # fmt: skip

    @property
    def shaping(self) -> Shaping:
        """What happens to the slices."""
        return Shaping(self.crop, self.resize, self.spacing_mm)


@dataclass(frozen=True)
class OpenedCase:
    """A case after the headers of its CT were checked, before any pixel of a DICOM series is decoded.

    Args:
        request: The case as the user names it.
        options: What holds for all cases.
        ct: The opened CT.
        digest: SHA-256 of all that shapes the case: stored pixels and geometry of the CT, bytes of the mask's
            files, rules and options.
        mask_state: Names, sizes and times of the mask's files when they were hashed.
    """

    request: CaseRequest
    options: CaseOptions
    ct: CT
    digest: str
    mask_state: tuple[tuple[object, ...], ...]

    def key(self, pseudonyms: Pseudonyms) -> str:
        """Return the key of the case."""
        return pseudonyms.of("series", "\0".join(self.ct.identifiers()))


def open_case(request: CaseRequest, options: CaseOptions) -> OpenedCase:
    """Open a case: the headers of its CT are checked, and all that shapes it is hashed.

    Raises:
        DataError: If it is refused.
    """
    ct = open_ct(
        request.ct,
        allow=options.allow,
        series=request.series,
        series_uid=request.series_uid,
        grid=request.grid,
    )
    ct_digest = ct.digest()
    with _place_in_errors("mask"):
        state = mask_states(request.masks)
        return OpenedCase(request, options, ct, _case_digest(request, options, ct_digest), state)


@contextmanager
def _place_in_errors(where: str) -> Iterator[None]:
    """Add to an error that names no place which part of the case it is about."""
    try:
        yield
    except DataError as error:
        if error.where is not None:
            raise
        raise error.at(where=where) from None


def _case_digest(request: CaseRequest, options: CaseOptions, ct_digest: str) -> str:
    digest = hashlib.sha256(ct_digest.encode())
    for mask in request.masks:
        digest.update(mask_digest(mask.path).encode())
    if any(
        mask.png_order == "file" for mask in request.masks
    ):  # masks are paired with the CT's files in the order of their names
        names = [file.path.name for file in list_files(request.ct)[0]]
        digest.update(repr(names).encode("utf-8", "surrogatepass"))
    shaping: tuple[object, ...] = (
        sorted(options.allow),
        options.resample_mask,
        options.crop,
        options.resize,
        options.keep_uids,
    )
    if options.spacing_mm is not None:
        shaping += (options.spacing_mm,)
    digest.update(repr((request.rules, request.png_order, request.patient, shaping)).encode())
    digest.update("".join(repr((mask.rules, mask.png_order)) for mask in request.more).encode())
    return digest.hexdigest()


def read_opened(opened: OpenedCase, pseudonyms: Pseudonyms) -> tuple[CaseFacts, CaseArrays]:
    """Read an opened case whole.

    Raises:
        DataError: If the CT or the mask is refused.
    """
    request, options = opened.request, opened.options
    for mask_source in request.masks:
        check_rules(mask_source.rules)
    volume = opened.ct.read()
    shape = options.shaping.of(volume.hu.shape[1:], volume.grid.spacing_mm[1:])
    _check_sides(shape)
    with _place_in_errors("mask"):
        mask = _read_mask(request, volume, options)
        if opened.mask_state != mask_states(request.masks):
            raise DataError("CHANGING", "files that changed while they were read", "files at rest",
                            "ingest the case when its files are complete")  # fmt: skip
    hu, labels, grid = _shape(volume, mask, shape)
    keeps_ct = options.shaping != Shaping() and max(mask.labels.shape[1:]) <= MAX_SIDE
    patient, patient_notes = _patient(opened, volume, pseudonyms)
    spreads = hu_spread(hu, labels, mask.organs)
    notes = (*volume.notes, *mask.notes, *patient_notes, *suspicions(spreads))
    facts = CaseFacts(
        key=opened.key(pseudonyms),
        patient=patient,
        patient_spelling=pseudonyms.of("spelling", request.patient or volume.identity.patient_id),
        slices=len(hu),
        rows=hu.shape[1],
        columns=hu.shape[2],
        spacing_mm=_spacing(grid),
        organs=mask.organs,
        organ_hu=tuple(_quartiles(spread) for spread in spreads),
        hu_percentiles=tuple(np.percentile(hu[:, ::4, ::4], (0.5, 50, 99.5)).round(1).tolist()),
        source_kind=volume.source_kind,
        mask_kind=mask.kind,
        tags=volume.tags,
        notes=tuple(dict.fromkeys(notes)),
        source_digest=opened.digest,
        reader_version=_version(),
        crop=options.crop,
        resize=options.resize,
        resampled_mm=options.spacing_mm,
        ct_plane=mask.labels.shape[1:] if keeps_ct else None,
        ct_pixel_mm=volume.grid.spacing_mm[1:] if keeps_ct else None,
        has_uids=options.keep_uids,
    )
    uids = _uids(volume.identity) if options.keep_uids else ()
    return facts, CaseArrays(hu, labels, grid.depth_mm, uids, mask.labels if keeps_ct else None)


def _shape(volume: Volume, mask: Mask, shape: PlaneMap) -> tuple[NDArray[np.int16], NDArray[np.uint8], Grid]:
    if shape.is_identity:
        return volume.hu, mask.labels, volume.grid
    return shape.image(volume.hu), shape.labels(mask.labels), shape.grid(volume.grid)


def _check_sides(shape: PlaneMap) -> None:
    rows, columns = shape.plane
    if max(rows, columns) > MAX_SIDE:
        raise DataError("TOO_LARGE", f"slices of {rows} x {columns} pixels", f"at most {MAX_SIDE} a side",
                        "pass --crop, --resize or a larger --spacing", where="CT")  # fmt: skip


def _read_mask(request: CaseRequest, volume: Volume, options: CaseOptions) -> Mask:
    resample, allow = options.resample_mask, options.allow
    return read_masks(request.masks, volume, resample=resample, allow=allow, grid=request.grid)


def _patient(opened: OpenedCase, volume: Volume, pseudonyms: Pseudonyms) -> tuple[str, tuple[Note, ...]]:
    stated = opened.request.patient.strip() or volume.identity.patient_id
    if stated:
        return pseudonyms.patient(stated), ()
    fallback = volume.identity.study_uid or opened.ct.digest()
    note = Note("PATIENT_UNKNOWN", "no PatientID: the case counts as a patient of its own")
    return pseudonyms.of("patient", fallback), (note,)


def _spacing(grid: Grid) -> tuple[float | None, float, float]:
    between, row, column = (round(value, 6) for value in grid.spacing_mm)
    return None if math.isnan(between) else between, row, column


def _quartiles(spread: HuSpread) -> tuple[float, ...]:
    return (spread.q1, spread.median, spread.q3) if spread.voxels else ()


def _uids(identity: Identity) -> tuple[str, ...]:
    return (identity.study_uid, identity.series_uid, identity.frame_of_reference_uid, *identity.instance_uids)


def _version() -> str:
    try:
        return version("kerasbalance")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
