"""The CT at a path, whatever its form: a DICOM series or an image file (NIfTI, NRRD, MetaImage)."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerasbalance.data.dicom import Scan, Series, choose_series, fingerprint, read_volume, scan_folder
from kerasbalance.data.dicom.checks import check_allow
from kerasbalance.data.dicom.pixels import Fingerprint
from kerasbalance.data.dicom.stack import grid_of
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.images.ct import read_image_ct, source_digest
from kerasbalance.data.images.image import begins_as_image, read_image_header
from kerasbalance.data.volume.geometry import Grid, to_canonical
from kerasbalance.data.volume.stated_grid import StatedGrid, parse_grid
from kerasbalance.data.volume.volume import Volume


class DicomCT:
    """A CT series of which the headers were checked.

    Args:
        series: The series, sorted and without problems.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self._known: Fingerprint | None = None

    @property
    def notes(self) -> tuple[Note, ...]:
        """The remarks on the headers."""
        return self.series.notes

    @property
    def grid(self) -> Grid:
        """The grid of the volume."""
        return _canonical(grid_of(self.series.slices))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the stored pixels and the geometry; nothing is decoded.

        Raises:
            DataError: If a file has become unreadable.
        """
        if self._known is None:
            self._known = fingerprint(self.series)
        return self._known.digest

    def identifiers(self) -> tuple[str, ...]:
        """Return what identifies this CT: UIDs and PatientID, or the digest where there are none."""
        header = self.series.slices[0].header
        named = (header.series_uid, header.patient_id, header.frame_of_reference_uid)
        return named if header.series_uid else (self.digest(),)

    def read(self) -> Volume:
        """Decode the series.

        Raises:
            DataError: If an image cannot be decoded, or a file has changed since `digest` was taken.
        """
        return read_volume(self.series, self._known)


class ImageCT:
    """An image file of which the header was checked.

    Args:
        path: The file.
        grid: Where the voxels lie, for a header that does not state it.
        allow: Relaxations by name, for the checks of its values.

    Attributes:
        source_grid: Where the voxels lie, in the axis order of the file.
        notes: The remarks on the header.

    Raises:
        DataError: If the file has no usable header, or if its header states where the voxels lie and `grid` does too
            (code `USAGE`).
    """

    def __init__(
        self, path: Path, grid: StatedGrid | None = None, allow: frozenset[str] = frozenset()
    ) -> None:
        header = read_image_header(path, grid)
        if grid is not None and not any(note.code == "STATED_GRID" for note in header.notes):
            raise _needless_grid("an image file whose header states where its voxels lie", path)
        self.path, self.source_grid, self.notes = path, header.grid, header.notes
        self._stated, self._allow = grid, allow
        self._volume: Volume | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the volume."""
        return _canonical(self.source_grid)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the voxels and the geometry, for which the file is unpacked."""
        volume = self.read()
        return source_digest(volume.hu, volume.grid)

    def identifiers(self) -> tuple[str, ...]:
        """Return what identifies this CT: the digest, since image files have no identifiers.

        A stated grid does not count, so that a CT is the same one before and after its grid was stated.
        """
        return (self.digest() if self._stated is None else self._digest_without_grid(),)

    def _digest_without_grid(self) -> str:
        try:
            volume = read_image_ct(self.path, allow=self._allow)
        except DataError as error:
            if error.code != "NO_GEOMETRY":
                raise
            volume = read_image_ct(self.path, parse_grid("LPS:1x1x1"), self._allow)
        return source_digest(volume.hu, volume.grid)

    def read(self) -> Volume:
        """Unpack the file, once; later calls return the same volume.

        Raises:
            DataError: If the voxels cannot be read or are not Hounsfield units.
        """
        if self._volume is None:
            self._volume = read_image_ct(self.path, self._stated, self._allow)
        return self._volume


CT = DicomCT | ImageCT


@dataclass(frozen=True)
class FoundCT:
    """One of the CT below a folder, not opened yet.

    Args:
        number: Its place: DICOM series first, by the numbers that `inspect` and `--series` use.
        source: The series, the NIfTI file, or why it is refused.
    """

    number: int
    source: Series | Path | DataError

    def open(self) -> CT:
        """Open it anew; two calls share no voxels.

        Raises:
            DataError: If it is refused.
        """
        if isinstance(self.source, DataError):
            raise self.source
        return DicomCT(self.source) if isinstance(self.source, Series) else ImageCT(self.source)

    @property
    def path(self) -> Path | None:
        """Folder of a series or path of a file, None where neither is known; it may tell who the patient is."""
        if isinstance(self.source, DataError):
            return self.source.path
        return self.source.folder if isinstance(self.source, Series) else self.source


def find_cts(path: Path, *, allow: frozenset[str] = frozenset()) -> tuple[FoundCT, ...]:
    """List every CT at or below a path, those included that are refused; no pixel is decoded.

    Args:
        path: A folder or a file.
        allow: Relaxations by name, as for `open_ct`.

    Returns:
        At least one. A NIfTI file in a folder with a DICOM CT is taken for its mask and left out.

    Raises:
        DataError: If a relaxation is unknown (code `USAGE`), or there is no CT (`NO_SERIES`, `NOT_CT`).
    """
    check_allow(allow)
    if os.path.isfile(path) and begins_as_image(path):
        return (FoundCT(1, path),)
    scan = scan_folder(path, allow)
    found: list[Series | Path | DataError] = [
        series.problems[0].at(path=series.folder) if series.problems else series for series in scan.series
    ]
    told = [problem for series in scan.series for problem in series.problems]
    found += [error for error in scan.errors if error not in told]
    folders = {item.header.file.path.parent for series in scan.series for item in series.slices}
    found += [
        file.path for file in scan.not_dicom if file.path.parent not in folders and begins_as_image(file.path)
    ]
    if not found:
        choose_series(scan)  # raises, with what there is instead
    return tuple(FoundCT(number, source) for number, source in enumerate(found, 1))


def open_ct(
    path: Path,
    *,
    allow: frozenset[str] = frozenset(),
    series: int | None = None,
    series_uid: str = "",
    grid: StatedGrid | None = None,
) -> CT:
    """Open the CT at a path: its headers are read and checked, and no pixel is decoded.

    Args:
        path: A folder with a DICOM series, a DICOM file, an image file, or a folder with one image file and
            no DICOM CT.
        allow: Relaxations by name, see `dicom.checks.RELAXATIONS`; most concern DICOM only.
        series: Number of the series in the folder, as `inspect` lists them; None where there is only one.
        series_uid: The SeriesInstanceUID instead; "" where there is only one.
        grid: Where the voxels lie, for an image file whose header does not state it.

    Raises:
        DataError: If a relaxation is unknown (code `USAGE`), there is no CT (`NO_SERIES`, `NOT_CT`) or there
            are several (`SEVERAL_SERIES`), `grid` is not needed (`USAGE`), or its headers have a problem.
    """
    check_allow(allow)
    if os.path.isfile(path) and begins_as_image(path):
        return _open_image(path, series, grid, allow)
    scan = scan_folder(path, allow)
    if not scan.series and not scan.errors:
        images = [file.path for file in scan.not_dicom if begins_as_image(file.path)]
        if len(images) > 1:
            raise DataError("SEVERAL_SERIES", f"{len(images)} image files", "one CT", "name the file of the CT",
                            path=path)  # fmt: skip
        if images:
            return _open_image(images[0], series, grid, allow)
    if grid is not None:
        raise _needless_grid("a DICOM series", path)
    if series_uid:
        scan = _only(scan, series_uid)
    return DicomCT(choose_series(scan, series))


def _open_image(path: Path, series: int | None, grid: StatedGrid | None, allow: frozenset[str]) -> ImageCT:
    if series not in (None, 1):
        raise DataError("NO_SERIES", f"series number {series} of an image file", "1, since it holds one CT",
                        "leave --series out", path=path)  # fmt: skip
    return ImageCT(path, grid, allow)


def _needless_grid(received: str, path: Path) -> DataError:
    return DataError("USAGE", f"a stated grid for {received}", "an image file with a placeholder for a header",
                     "leave out --grid, or the cell `grid` of the manifest", path=path)  # fmt: skip


def _only(scan: Scan, series_uid: str) -> Scan:
    own = [series for series in scan.series if series.slices[0].header.series_uid == series_uid]
    return replace(scan, series=tuple(replace(series, number=n) for n, series in enumerate(own, 1)))


def _canonical(grid: Grid) -> Grid:
    return to_canonical(np.broadcast_to(np.int16(0), grid.shape), grid)[1]
