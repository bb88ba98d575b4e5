"""A synthetic case as a CT series: one genuine CT Image Storage file a slice.

Reference:
    DICOM PS3.3 section A.3 (CT Image IOD).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage

from kerasbalance.data.phantom.case import LOWEST_HU, PhantomCase
from kerasbalance.data.phantom.identity import DATE, TIME, CaseIdentity, common_header, file_meta

_CONTRAST = {"portal": "iodine, portal venous", "arterial": "iodine, arterial"}


def make_ct_series(case: PhantomCase, identity: CaseIdentity) -> list[FileDataset]:
    """Make the datasets of a series, in the order of the slices (ascending to the head).

    InstanceNumber counts from the head, as scanners do. Pixels are unsigned, 12 bit, intercept -1024.
    """
    return [_slice(case, identity, number, pixels) for number, pixels in enumerate(case.hu)]


def write_ct_series(datasets: list[FileDataset], folder: Path, seed: int) -> None:
    """Write a series; file names follow neither position nor InstanceNumber, as in many exports."""
    folder.mkdir(parents=True)
    names = np.random.default_rng((seed, len(datasets))).permutation(len(datasets)) + 1
    for name, dataset in zip(names, datasets, strict=True):
        dataset.save_as(folder / f"IM{name:04d}.dcm", enforce_file_format=True)


def _slice(case: PhantomCase, identity: CaseIdentity, number: int, pixels: NDArray[np.int16]) -> FileDataset:
    uid = identity.uid("ct", number)
    dataset = FileDataset(
        "", common_header(identity, "CT", 1, "Abdomen"), file_meta=file_meta(CTImageStorage, uid)
    )
    dataset.preamble = b"\0" * 128
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ContentDate = dataset.AcquisitionDate = DATE
    dataset.ContentTime = dataset.AcquisitionTime = TIME
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = len(case.hu) - number
    dataset.KVP = 120
    dataset.ContrastBolusAgent = _CONTRAST.get(case.phase, "")
    _add_plane(dataset, case, identity, number)
    _add_pixels(dataset, pixels)
    return dataset


def _add_plane(dataset: FileDataset, case: PhantomCase, identity: CaseIdentity, number: int) -> None:
    """Frame of reference, position, orientation and spacing (PS3.3 section C.7.6.2)."""
    between, row, column = case.spacing_mm
    x, y, z = case.origin_mm
    dataset.FrameOfReferenceUID = identity.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [x, y, round(z + number * between, 3)]
    dataset.SliceLocation = dataset.ImagePositionPatient[2]
    dataset.PixelSpacing = [row, column]
    dataset.SliceThickness = between


def _add_pixels(dataset: FileDataset, pixels: NDArray[np.int16]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = LOWEST_HU, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 50, 400
    dataset.PixelData = (pixels.astype(np.int32) - LOWEST_HU).astype("<u2").tobytes()
