"""What makes a CT series unfit, each check with its own code and, where it is safe, a relaxation by name."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from kerasbalance.data.dicom.header import Header
from kerasbalance.data.dicom.stack import Slice, grid_of, normal_of
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.geometry import REGULAR_TOLERANCE

TILT_LIMIT_DEG = 0.1

RELAXATIONS = {
    "gap": "slices that are missing or unevenly spaced",
    "tilt": "slices that are shifted against each other (gantry tilt)",
    "nonaxial": "sagittal or coronal slices, which are turned into axial ones",
    "single": "a series of one image",
    "burned-in": "images that say they carry burned-in annotation",
    "frame-of-reference": "a mask in another frame of reference than its CT",
}
"""What `--allow` takes; whatever was relaxed is recorded in the case."""


def check_allow(names: frozenset[str]) -> frozenset[str]:
    """Return `names` if all of them are relaxations.

    Raises:
        DataError: a name is not in `RELAXATIONS` (code `USAGE`).
    """
    unknown = sorted(names - RELAXATIONS.keys())
    if unknown:
        raise DataError("USAGE", f"the relaxation {unknown[0]!r}", f"one of {', '.join(RELAXATIONS)}",
                        "correct --allow")  # fmt: skip
    return names


def _refuse(item: Slice, code: str, received: str, expected: str, advice: str) -> DataError:
    file = item.header.file
    return DataError(code, received, expected, advice, path=file.path, where=file.where)


def check_values(slices: Sequence[Slice]) -> list[DataError]:
    """Find the first image that fails each check of single images; these cannot be relaxed."""
    found = []
    checks: tuple[Callable[[Slice], DataError | None], ...] = (
        _check_layout, _check_decoder, _check_length, _check_rescale, _check_geometry,
    )  # fmt: skip
    for check in checks:
        error = next((error for item in slices if (error := check(item)) is not None), None)
        if error is not None:
            found.append(error)
    return found


def _check_layout(item: Slice) -> DataError | None:
    header = item.header
    if header.rows < 1 or header.columns < 1:
        return _refuse(item, "NO_PIXELS", f"{header.rows} x {header.columns} pixels", "Rows and Columns",
                       "export the file again")  # fmt: skip
    if header.bits_allocated not in (8, 16, 32) or not 0 < header.bits_stored <= header.bits_allocated:
        return _refuse(item, "BAD_PIXELS", f"{header.bits_stored} of {header.bits_allocated} bits a pixel",
                       "8, 16 or 32 bits allocated", "export the file again")  # fmt: skip
    return None


def _check_decoder(item: Slice) -> DataError | None:
    syntax = UID(item.header.transfer_syntax)
    if is_native(item.header):
        return None
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return _refuse(item, "UNSUPPORTED_SYNTAX", f"the transfer syntax {known_name(syntax)}",
                       "an image transfer syntax", "convert the series, e.g. with dcmdjpeg")  # fmt: skip
    if decoder.is_available:
        return None
    return _refuse(item, "NO_DECODER", f"the transfer syntax {known_name(syntax)} and no decoder for it",
                   "an installed decoder", "pip install 'kerasbalance[codecs]'")  # fmt: skip


def known_name(syntax: UID) -> str:
    """Return the standard's name of a transfer syntax; a private one stays unnamed."""
    return "private" if syntax.is_private else syntax.name


def is_native(header: Header) -> bool:
    """Whether the pixels lie in the file uncompressed."""
    return header.transfer_syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def _check_length(item: Slice) -> DataError | None:
    header = item.header
    held = header.file.size - header.pixel_offset - 8
    wanted = header.frame_bytes * len(header.frames) if is_native(header) else 1
    if held >= wanted:
        return None
    return _refuse(item, "TRUNCATED", f"{max(held, 0)} bytes of pixel data", f"{wanted} bytes",
                   "export or copy the file again")  # fmt: skip


def _check_rescale(item: Slice) -> DataError | None:
    slope, intercept = item.frame.slope, item.frame.intercept
    if item.header.has_modality_lut:
        return None
    if slope is None or intercept is None:
        received = "no RescaleSlope or no RescaleIntercept"
    elif not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        received = f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g}"
    else:
        return None
    return _refuse(item, "BAD_RESCALE", received, "a finite RescaleSlope other than 0 and a RescaleIntercept",
                   "export the series again with its rescale values")  # fmt: skip


def _check_geometry(item: Slice) -> DataError | None:
    frame = item.frame
    values = (frame.position_mm, frame.orientation, frame.spacing_mm)
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    for name, value in zip(names, values, strict=True):
        if value is None or not np.all(np.isfinite(value)):
            return _refuse(item, "NO_GEOMETRY", f"{'no' if value is None else 'a non-finite'} {name}",
                           f"a finite {name}", "export the series again with its geometry")  # fmt: skip
    along_row, along_column = item.axes
    skew = abs(float(along_row @ along_column))
    lengths = np.abs([np.linalg.norm(along_row) - 1, np.linalg.norm(along_column) - 1])
    if skew > 1e-2 or lengths.max() > 1e-2:
        return _refuse(item, "BAD_GEOMETRY", "ImageOrientationPatient not of two unit vectors at right angles",
                       "direction cosines", "export the series again")  # fmt: skip
    if min(frame.spacing_mm or (0.0,)) <= 0:
        return _refuse(item, "BAD_GEOMETRY", f"PixelSpacing {frame.spacing_mm}", "two values above 0 mm",
                       "export the series again")  # fmt: skip
    return None


def check_stack(slices: Sequence[Slice], allow: frozenset[str]) -> tuple[list[DataError], list[Note]]:
    """Check a sorted stack as a whole.

    Returns:
        The errors, and a note for each that `allow` turned into one, each relaxation by its name.
    """
    errors: list[DataError] = []
    notes: list[Note] = []
    for relaxation, error in _stack_problems(slices):
        if relaxation in allow:
            notes.append(Note(error.code, f"allowed ({relaxation}): {error.received}", loud=True))
        else:
            errors.append(error)
    lossy = sum(item.header.lossy for item in slices)
    if lossy:
        notes.append(Note("LOSSY", f"{lossy} images were compressed with loss"))
    return errors, notes


def _stack_problems(slices: Sequence[Slice]) -> Iterator[tuple[str, DataError]]:
    burned = next((item for item in slices if item.header.burned_in), None)
    if burned is not None:
        yield "burned-in", _refuse(burned, "BURNED_IN", "BurnedInAnnotation YES", "images without annotation",
                                   "check for names in the pixels, then pass --allow burned-in")  # fmt: skip
    normal = normal_of(slices)
    if abs(normal[2]) < np.cos(np.pi / 4):
        plane = "sagittal" if abs(normal[0]) > abs(normal[1]) else "coronal"
        yield "nonaxial", _refuse(slices[0], "NON_AXIAL", f"{plane} slices", "axial slices",
                                  "name the axial series, or pass --allow nonaxial")  # fmt: skip
    if len(slices) == 1:
        yield "single", _refuse(slices[0], "ONE_IMAGE", "a series of one image", "at least two",
                                "name the folder of the series, or pass --allow single")  # fmt: skip
        return
    yield from _spacing_problems(slices, normal)


def _spacing_problems(slices: Sequence[Slice], normal: np.ndarray) -> Iterator[tuple[str, DataError]]:
    positions = grid_of(slices).positions_mm
    steps = np.diff(positions @ normal)
    median = float(np.median(steps))
    worst = int(np.abs(steps - median).argmax())
    if abs(steps[worst] - median) > max(0.05, REGULAR_TOLERANCE * median):
        count = int((np.abs(steps - median) > max(0.05, REGULAR_TOLERANCE * median)).sum())
        received = (
            f"{count} uneven steps, the worst {steps[worst]:.3f} mm from slice {worst + 1} to {worst + 2} "
            f"of {len(slices)}"
        )
        yield "gap", _refuse(slices[worst + 1], "GAP", received, f"steps of {median:.3f} mm (the median)",
                             "complete the series, or pass --allow gap")  # fmt: skip
    way = positions[-1] - positions[0]
    angle = float(np.degrees(np.arccos(np.clip(way @ normal / np.linalg.norm(way), -1, 1))))
    if angle > TILT_LIMIT_DEG:
        yield "tilt", _refuse(slices[0], "TILT", f"slices shifted by {angle:.2f} degrees (gantry tilt)",
                              f"at most {TILT_LIMIT_DEG} degrees", "pass --allow tilt to keep them")  # fmt: skip
