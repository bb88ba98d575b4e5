"""What every DICOM export holds beside its geometry: who made it, what the organs are called, when, and its UIDs."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from kerasbalance.data.export.headers import SourceHeaders
from kerasbalance.data.export.labels import Labels

UNKNOWN_DATE = datetime(1900, 1, 1)
"""For an attribute that must not be empty, of a study without a date."""

CODES = {
    "liver": Code("10200004", "SCT", "Liver"),
    "kidney": Code("64033007", "SCT", "Kidney"),
    "kidney_left": Code("18639004", "SCT", "Left kidney"),
    "kidney_right": Code("9846003", "SCT", "Right kidney"),
    "spleen": Code("78961009", "SCT", "Spleen"),
    "pancreas": Code("15776009", "SCT", "Pancreas"),
    "gallbladder": Code("28231008", "SCT", "Gallbladder"),
    "stomach": Code("69695003", "SCT", "Stomach"),
    "duodenum": Code("38848004", "SCT", "Duodenum"),
    "esophagus": Code("32849002", "SCT", "Esophagus"),
    "colon": Code("71854001", "SCT", "Colon"),
    "aorta": Code("15825003", "SCT", "Aorta"),
    "adrenal_gland": Code("23451007", "SCT", "Adrenal gland"),
    "bladder": Code("89837001", "SCT", "Bladder"),
    "prostate": Code("41216001", "SCT", "Prostate"),
    "lung": Code("39607008", "SCT", "Lung"),
    "heart": Code("80891009", "SCT", "Heart"),
}
"""SNOMED CT codes by organ; any other organ is coded as "Organ" and identified by its label."""


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation, as the SEG says.

    Args:
        name: Of the model or the run, at most 64 characters.
        version: Of the model or the software that ran it.
        creator: ContentCreatorName, in DICOM's form `family^given`.
    """

    name: str
    version: str
    creator: str = "kerasbalance^"


@dataclass(frozen=True, eq=False)
class Uids:
    """UIDs that follow from everything that shapes the file.

    Args:
        modality: Of the file, such as `"SEG"`.
        frames: The labels, in the order of the source.
        headers: The CT that the file refers to.
        facts: What else shapes the file; its `repr` counts.
    """

    modality: str
    frames: Labels
    headers: SourceHeaders
    facts: tuple[object, ...]

    def make(self, what: str) -> str:
        """Return the UID of one of the file's entities, always the same for the same content."""
        content = hashlib.sha256(np.ascontiguousarray(self.frames).data).hexdigest()
        images = ",".join(str(image.SOPInstanceUID) for image in self.headers.images)
        facts = repr((self.frames.shape, *self.facts))
        return str(generate_uid(entropy_srcs=[f"kerasbalance {self.modality}", what, content, images, facts]))


def label_of(organ: str) -> str:
    """Return the name of an organ as a person reads it in a viewer."""
    return organ.replace("_", " ").capitalize()


def study_stamp(headers: SourceHeaders) -> datetime | None:
    """Return date and time of the study, None where the headers hold no valid ones."""
    date = headers.attributes["StudyDate"].replace(".", "")
    time = headers.attributes["StudyTime"].replace(":", "").partition(".")[0]
    try:
        return datetime.strptime(date + time.ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
