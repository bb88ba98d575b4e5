"""The kinds of files that hold masks, by their content."""

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset

from kerasbalance.data.dicom.guard import SEGMENTATIONS, STRUCTURE_SET, is_dicom, parse
from kerasbalance.data.files import malformed, open_regular
from kerasbalance.data.images.image import is_image
from kerasbalance.data.masks.png import is_png

HEAD_BYTES = 4096


@dataclass(frozen=True)
class FileKind:
    """What the content of a file shows.

    Args:
        name: `"png"`, `"image"` (NIfTI, NRRD or MetaImage) or `"dicom"`.
        sop_class: SOPClassUID of a DICOM file, or of what its Modality says it must be; "" for other files.
    """

    name: str
    sop_class: str = ""


def kind_of(path: Path) -> FileKind | None:
    """Return the kind of a file by its first bytes, None for any other kind. The file is opened once.

    Raises:
        DataError: If the file cannot be read, or it is DICOM with a damaged header.
    """
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
        if is_png(head):
            return FileKind("png")
        if is_image(head):
            return FileKind("image")
        # What follows the Modality is not parsed: the header of a SEG may hold thousands of sequences.
        return (
            FileKind("dicom", _sop_class(parse(file, path, last="Modality"), path))
            if is_dicom(head)
            else None
        )


def _sop_class(header: FileDataset, path: Path) -> str:
    with malformed("a DICOM file", path):
        meta = getattr(header, "file_meta", None)
        declared = header.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta else None)
        by_modality = {"SEG": SEGMENTATIONS[0], "RTSTRUCT": STRUCTURE_SET}
        return str(declared or by_modality.get(str(header.get("Modality") or ""), ""))
