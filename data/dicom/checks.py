"""The checks of single images. Each has its own code, and none can be relaxed.

The relaxations that the checks of whole stacks know are named here too.
"""

from collections.abc import Callable, Sequence

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from kerasbalance.data.dicom.codestream import RLE
from kerasbalance.data.dicom.guard import CT_IMAGE, ENHANCED_CT, known_name
from kerasbalance.data.dicom.limits import EXPANSION_FREE_BYTES, MAX_EXPANSION
from kerasbalance.data.dicom.pixel_layout import BIG_ENDIAN
from kerasbalance.data.dicom.stack import Slice
from kerasbalance.data.errors import DataError
from kerasbalance.data.volume.volume import MAX_VOXELS

RELAXATIONS = {
    "gap": "slices that are missing or unevenly spaced",
    "tilt": "slices that are shifted against each other (gantry tilt)",
    "nonaxial": "sagittal or coronal slices, which are turned into axial ones",
    "single": "a series of one image",
    "phases": "slices of several acquisitions that alternate",
    "no-air": "values of which none is below 0 HU",
    "burned-in": "images that say they carry burned-in annotation",
    "frame-of-reference": "a mask in another frame of reference than its CT",
}
"""The names that `--allow` takes. The case records what was relaxed."""

SLOPE_LIMITS = (1e-6, 1e6)
INTERCEPT_LIMIT = 1e7
SPACING_LIMITS_MM = (1e-3, 100.0)
POSITION_LIMIT_MM = 1e5
AGAIN = "export the series again"


def check_allow(names: frozenset[str]) -> frozenset[str]:
    """Return `names` if all of them are relaxations.

    Raises:
        DataError: If a name is not in `RELAXATIONS` (code `USAGE`).
    """
    unknown = sorted(names - RELAXATIONS.keys())
    if unknown:
        raise DataError("USAGE", f"the relaxation {unknown[0]!r}", f"one of {', '.join(RELAXATIONS)}",
                        "correct --allow")  # fmt: skip
    return names


def check_values(slices: Sequence[Slice]) -> list[DataError]:
    """Find the first image that fails each check of single images, and whether the series is too large."""
    checks: tuple[Callable[[Slice], DataError | None], ...] = (
        _check_kind, _check_layout, _check_decoder, _check_faults, _check_rescale, _check_geometry, _check_axes,
    )  # fmt: skip
    found = [next((error for item in slices if (error := check(item)) is not None), None) for check in checks]
    return [error for error in (*found, _check_total(slices)) if error is not None]


def _check_kind(item: Slice) -> DataError | None:
    header = item.header
    if header.modality == "CT" and header.sop_class in (CT_IMAGE, *ENHANCED_CT, ""):
        return None
    return item.refused("BAD_HEADER", "a Modality and a SOPClassUID that contradict each other",
                        "Modality CT and a CT image's SOPClassUID", AGAIN)  # fmt: skip


def _check_layout(item: Slice) -> DataError | None:
    header = item.header
    allocated, stored, high = header.bit_shape
    if min(header.plane) < 1:
        return item.refused("NO_PIXELS", f"{header.rows} x {header.columns} pixels", "Rows and Columns",
                            "export the file again")  # fmt: skip
    if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated:
        received = f"{stored} bits a pixel below bit {high + 1} of {allocated}"
        return item.refused("BAD_PIXELS", received, "8, 16 or 32 bits allocated and no more stored",
                            "export the file again")  # fmt: skip
    if high + 1 != stored and not header.is_native and header.transfer_syntax != RLE:
        return item.refused("BAD_PIXELS", "compressed pixels with a shifted HighBit", "HighBit at BitsStored - 1",
                            "decompress the series first, e.g. with dcmdjpeg")  # fmt: skip
    if allocated == 8 and header.transfer_syntax == BIG_ENDIAN:
        return item.refused("BAD_PIXELS", "8-bit pixels in big endian words", "little endian",
                            "convert the series, e.g. with dcmconv +te")  # fmt: skip
    if header.signed is None or header.photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
        return item.refused("BAD_PIXELS", "no valid PixelRepresentation or PhotometricInterpretation",
                            "0 or 1, and MONOCHROME1 or MONOCHROME2", AGAIN)  # fmt: skip
    return None


def _check_decoder(item: Slice) -> DataError | None:
    if item.header.is_native or item.header.transfer_syntax == RLE:
        return None
    name = known_name(item.header.transfer_syntax)
    try:
        # Without a name it is no valid UID, perhaps, and pydicom would quote it in a warning.
        decoder = get_decoder(UID(item.header.transfer_syntax)) if name else None
    except NotImplementedError:
        decoder = None
    if decoder is None:
        received = f"the transfer syntax {name or 'that the standard does not know'}"
        return item.refused("UNSUPPORTED_SYNTAX", received, "an image transfer syntax",
                            "convert the series, e.g. with dcmdjpeg")  # fmt: skip
    if decoder.is_available:
        return None
    return item.refused("NO_DECODER", f"the transfer syntax {name} and no decoder for it", "an installed decoder",
                        "pip install python-gdcm pylibjpeg pylibjpeg-openjpeg")  # fmt: skip


def _check_faults(item: Slice) -> DataError | None:
    return item.header.faults[0] if item.header.faults else None


def _check_rescale(item: Slice) -> DataError | None:
    slope, intercept = item.frame.slope, item.frame.intercept
    if item.header.modality_lut is not None:
        return None
    if slope is None or intercept is None:
        received = "no RescaleSlope or no RescaleIntercept"
    elif not SLOPE_LIMITS[0] <= abs(slope) <= SLOPE_LIMITS[1] or not abs(intercept) <= INTERCEPT_LIMIT:
        received = f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g}"
    else:
        return None
    return item.refused("BAD_RESCALE", received, "a finite RescaleSlope other than 0 and a RescaleIntercept",
                        "export the series again with its rescale values")  # fmt: skip


def _check_geometry(item: Slice) -> DataError | None:
    frame = item.frame
    values = (frame.position_mm, frame.orientation, frame.spacing_mm)
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    for name, value in zip(names, values, strict=True):
        if value is None or not np.all(np.isfinite(value)):
            return item.refused("NO_GEOMETRY", f"{'no' if value is None else 'a non-finite'} {name}",
                                f"a finite {name}", "export the series again with its geometry")  # fmt: skip
    return None


def _check_axes(item: Slice) -> DataError | None:
    frame = item.frame
    if (
        _check_geometry(item)
        or frame.position_mm is None
        or frame.orientation is None
        or frame.spacing_mm is None
    ):
        return None  # reported already
    low, high = SPACING_LIMITS_MM
    if not all(low <= value <= high for value in frame.spacing_mm):
        values = " and ".join(f"{value:g}" for value in frame.spacing_mm)
        return item.refused("BAD_GEOMETRY", f"PixelSpacing {values} mm", f"{low:g} to {high:g} mm", AGAIN)
    if max(map(abs, frame.position_mm)) > POSITION_LIMIT_MM:
        return item.refused("BAD_GEOMETRY", "an ImagePositionPatient outside any scanner",
                            f"at most {POSITION_LIMIT_MM:g} mm", AGAIN)  # fmt: skip
    if max(map(abs, frame.orientation)) <= 1.01:
        along_row, along_column = item.axes
        skew = abs(float(along_row @ along_column))
        lengths = [abs(float(np.linalg.norm(axis)) - 1) for axis in (along_row, along_column)]
        if max(skew, *lengths) <= 1e-2:
            return None
    return item.refused("BAD_GEOMETRY", "an ImageOrientationPatient not of two unit vectors at right angles",
                        "direction cosines", AGAIN)  # fmt: skip


def has_geometry(item: Slice) -> bool:
    """Return whether an image has a position, an orientation and a spacing to calculate with."""
    return _check_geometry(item) is None and _check_axes(item) is None


def _check_total(slices: Sequence[Slice]) -> DataError | None:
    """Refuse what would decode to more than memory is for: by size, or by size for its stored bytes."""
    voxels = sum(item.header.rows * item.header.columns for item in slices)
    stored = sum(length for item in slices for _, length in item.frame.spans)
    limit = max(EXPANSION_FREE_BYTES, MAX_EXPANSION * stored)
    if voxels <= MAX_VOXELS and 2 * voxels <= limit:
        return None
    return slices[0].refused("TOO_LARGE", f"a series of {voxels} voxels in {stored} bytes",
                             f"at most {MAX_VOXELS} voxels, {MAX_EXPANSION} times the stored bytes",
                             "leave it out, or name a part of it")  # fmt: skip
