"""The facts of one file that reading CT needs, and the refusal of a file that cannot be used.

Reference:
    DICOM PS3.3 C.7.6.3 (Image Pixel), C.8.2.1 (CT Image).
"""

import re
from dataclasses import dataclass

from kerasbalance.data.dicom.frames import Frame
from kerasbalance.data.dicom.guard import CT_IMAGE, ENHANCED_CT, known_name
from kerasbalance.data.dicom.modality_values import ModalityLut
from kerasbalance.data.dicom.pixel_layout import NATIVE
from kerasbalance.data.errors import DataError
from kerasbalance.data.files import SourceFile

MODALITIES = (
    "AU", "CR", "CT", "DX", "ECG", "ES", "KO", "MG", "MR", "NM", "OPT", "OT", "PR", "PT", "REG", "RF", "RTDOSE",
    "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SC", "SEG", "SR", "US", "XA", "XC",
)  # fmt: skip
"""The modalities that a message may quote. Anything else could be a name, or damage."""


@dataclass(frozen=True)
class Header:
    """The facts of one file that reading CT needs. Identifiers stay in memory and never reach a store.

    Args:
        file: The file.
        frames: Its images; empty for what is no CT image.
        padding: Smallest and largest stored value that means "no pixel", or None.
        modality_lut: The table that replaces the rescale, or None.
        bit_shape: `(BitsAllocated, BitsStored, HighBit)`, 0 where missing.
        signed: Whether stored values are signed, None where PixelRepresentation does not say.
        faults: What is wrong with where its pixels lie.

    The other fields bear the names of their DICOM attributes.
    """

    file: SourceFile
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    transfer_syntax: str
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    frame_of_reference_uid: str
    kernel: str
    rescale_type: str
    instance_number: int
    acquisition_number: int
    rows: int
    columns: int
    samples_per_pixel: int
    photometric: str
    bit_shape: tuple[int, int, int]
    signed: bool | None
    burned_in: bool
    lossy: bool
    padding: tuple[int, int] | None = None
    modality_lut: ModalityLut | None = None
    frames: tuple[Frame, ...] = ()
    faults: tuple[DataError, ...] = ()

    @property
    def plane(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return self.rows, self.columns

    @property
    def is_native(self) -> bool:
        """Whether the pixels lie in the file uncompressed."""
        return self.transfer_syntax in NATIVE

    @property
    def is_ct(self) -> bool:
        """Whether it claims to be a CT image, classic or enhanced."""
        if self.sop_class in (CT_IMAGE, *ENHANCED_CT) or self.modality != "CT":
            return self.sop_class in (CT_IMAGE, *ENHANCED_CT)
        if known_name(self.sop_class):
            return False
        # Scanners keep raw data in classes of their own; an unknown class of another form is a damaged one.
        private = re.fullmatch(r"[0-9.]+", self.sop_class) and not self.sop_class.startswith("1.2.840.10008.")
        return self.rows > 0 or not private

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame where pixels are stored uncompressed."""
        return self.rows * self.columns * self.samples_per_pixel * self.bit_shape[0] // 8


def refused(source: SourceFile, code: str, received: str, expected: str, advice: str) -> DataError:
    """Make an error that names the file by its number."""
    return DataError(code, received, expected, advice, path=source.path, where=source.where)


def malformed(source: SourceFile, kind: str) -> DataError:
    """Make the error for a DICOM file that cannot be parsed; `kind` is a class name, never a value."""
    return refused(
        source, "MALFORMED", f"DICOM that cannot be parsed ({kind})", "a complete DICOM file",
        "export the file again or leave it out",
    )  # fmt: skip


def unreadable(source: SourceFile, error: OSError) -> DataError:
    """Make the error for a file that the system does not hand out."""
    reason = (error.strerror or type(error).__name__).lower()
    return refused(
        source,
        "UNREADABLE",
        f"a file that cannot be read ({reason})",
        "a readable file",
        "check its permissions",
    )
