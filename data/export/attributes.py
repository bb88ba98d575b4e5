"""What a DICOM export takes over from the headers of its CT: patient and study, each value checked."""

from pathlib import Path

import pydicom
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from kerasbalance.data.dicom.guard import lenient_pydicom, read_tags
from kerasbalance.data.files import malformed

PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip
"""The export must bear the same values, so that an archive files it with its CT. Empty is allowed for all."""

LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_OTHERS = ("SpecificCharacterSet", "SliceThickness", *LOSSY)
_CALENDAR = {"DA": DA, "TM": TM}
_SEXES = ("", "F", "M", "O")


def read_attributes(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read patient, study and a few technical values of one file.

    Args:
        path: A DICOM file that was read before.

    Returns:
        Values by DICOM keyword, "" for missing and for invalid ones; and the keywords of those that are there
        but break the rules of their type (PS3.5 section 6.2), such as letters in a date.

    Raises:
        DataError: If the file can no longer be read (code `MALFORMED`).
    """
    wanted = [*PATIENT_AND_STUDY, *_OTHERS]
    with malformed("a DICOM header", path), lenient_pydicom():
        dataset = read_tags(path, wanted)
        values = {keyword: _text(dataset, keyword) for keyword in (*PATIENT_AND_STUDY, *_OTHERS[1:])}
        invalid = tuple(keyword for keyword, value in values.items() if not _is_valid(keyword, value))
    return values | dict.fromkeys(invalid, ""), invalid


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if isinstance(value, pydicom.multival.MultiValue):
        return "\\".join(str(item) for item in value)
    return "" if value is None else str(value).strip(" \0")


def _is_valid(keyword: str, value: str) -> bool:
    if keyword == "PatientSex":
        return value in _SEXES
    if "\\" in value and keyword not in LOSSY:
        return False
    kind = dictionary_VR(keyword)
    try:
        DataElement(tag_for_keyword(keyword) or 0, kind, value, validation_mode=RAISE)
        if kind in _CALENDAR:
            _CALENDAR[kind](value)  # the form may be right and the day not in the calendar
    except (ValueError, TypeError, OverflowError):
        return False
    return True
