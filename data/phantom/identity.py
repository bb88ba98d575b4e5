"""UIDs, dates and names of the phantom's DICOM objects: fixed, so that one seed gives the same bytes."""

from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DATE = "20000101"
TIME = "120000"
MANUFACTURER = "kerasbalance"
IMPLEMENTATION_UID = generate_uid(entropy_srcs=["kerasbalance", "phantom", "implementation"])
IMPLEMENTATION_NAME = "KBPHANTOM"


@dataclass(frozen=True)
class CaseIdentity:
    """The identifiers of a synthetic case.

    Args:
        seed: Seed of the whole phantom.
        number: The case's number in it.
        size: Rows and columns; another size is another study.
    """

    seed: int
    number: int
    size: int

    @property
    def name(self) -> str:
        """Folder and case name."""
        return f"case-{self.number:03d}"

    @property
    def patient(self) -> str:
        """PatientID."""
        return f"PHANTOM-{self.number:03d}"

    def uid(self, *parts: str | int) -> str:
        """Return the UID of one thing of this case, always the same."""
        sources = ["kerasbalance phantom", self.seed, self.number, self.size, *parts]
        return str(generate_uid(entropy_srcs=[str(source) for source in sources]))


def file_meta(sop_class: str, instance_uid: str) -> FileMetaDataset:
    """Make the file meta information (DICOM PS3.10 section 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta


def common_header(identity: CaseIdentity, modality: str, series_number: int, description: str) -> Dataset:
    """Make what all objects of a case share: patient, study, series and equipment modules."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = f"Phantom^{identity.number:03d}"
    header.PatientID = identity.patient
    header.PatientBirthDate = ""
    header.PatientSex = ""
    header.StudyInstanceUID = identity.uid("study")
    header.StudyDate, header.StudyTime = DATE, TIME
    header.StudyID = str(identity.number)
    header.StudyDescription = "Synthetic abdomen"
    header.ReferringPhysicianName = ""
    header.AccessionNumber = ""
    header.Modality = modality
    header.SeriesInstanceUID = identity.uid("series", modality)
    header.SeriesNumber = series_number
    header.SeriesDate, header.SeriesTime = DATE, TIME
    header.SeriesDescription = description
    header.Manufacturer = MANUFACTURER
    header.ManufacturerModelName = "phantom"
    header.DeviceSerialNumber = "0"
    header.SoftwareVersions = "1"
    return header
