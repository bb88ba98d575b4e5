"""Masks of a synthetic case as DICOM SEG and as NIfTI."""

import gzip
from pathlib import Path

import highdicom
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from kerasbalance.data.phantom.case import LABELS, PhantomCase
from kerasbalance.data.phantom.identity import (
    DATE,
    IMPLEMENTATION_NAME,
    IMPLEMENTATION_UID,
    MANUFACTURER,
    TIME,
    CaseIdentity,
)

NAMES = {"liver": "Liver", "spleen": "Spleen", "kidney_left": "Left kidney", "kidney_right": "Right kidney"}
"""Segment labels and ROI names."""

_CODES = {
    "liver": Code("10200004", "SCT", "Liver"),
    "spleen": Code("78961009", "SCT", "Spleen"),
    "kidney_left": Code("18639004", "SCT", "Left kidney"),
    "kidney_right": Code("9846003", "SCT", "Right kidney"),
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_affine(case: PhantomCase) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the 4 x 4 matrix from `(column, row, slice, 1)` to LPS millimetres."""
    between, row, column = case.spacing_mm
    matrix = np.diag([column, row, between, 1.0])
    matrix[:3, 3] = case.origin_mm
    return matrix


def write_seg(case: PhantomCase, source: list[FileDataset], identity: CaseIdentity, path: Path) -> None:
    """Write the masks as one DICOM SEG (BINARY) with four segments that refer to the CT series.

    Reference:
        DICOM PS3.3 section A.51 (Segmentation IOD); SNOMED CT codes of PS3.16 CID 7166 and its neighbours.
    """
    # A volume carries its geometry; a bare array would be paired with the files in whatever order they come.
    order = lps_affine(case)[:, [2, 1, 0, 3]]
    volume = highdicom.Volume(case.labels, order, "PATIENT", identity.uid("frame of reference"))
    seg = highdicom.seg.Segmentation(
        source_images=source,
        pixel_array=volume,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(organ, value) for organ, value in LABELS.items()],
        series_instance_uid=identity.uid("series", "SEG"),
        series_number=2,
        sop_instance_uid=identity.uid("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="0",
        content_label="ORGANS",
        content_description="Organs of a synthetic abdomen",
        content_creator_name="Phantom^",
        series_description="Organs",
    )
    _fix_stamps(seg, identity)
    seg.save_as(path, enforce_file_format=True)


def _segment(organ: str, number: int) -> highdicom.seg.SegmentDescription:
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=NAMES[organ],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=_CODES[organ],
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def _fix_stamps(seg: Dataset, identity: CaseIdentity) -> None:
    """Replace the clock and the random UIDs that highdicom puts in."""
    for element in seg.iterall():
        if element.VR == "DA" and element.value:
            element.value = DATE
        elif element.VR == "TM" and element.value:
            element.value = TIME
        elif element.VR == "DT" and element.value:
            element.value = DATE + TIME
        elif element.keyword == "DimensionOrganizationUID":
            element.value = identity.uid("dimensions")
    seg.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    seg.file_meta.ImplementationVersionName = IMPLEMENTATION_NAME


def write_nifti(case: PhantomCase, path: Path) -> None:
    """Write the label values of `LABELS` as `.nii.gz` with the exact affine (RAS)."""
    affine = _LPS_TO_RAS @ lps_affine(case)
    image = nibabel.Nifti1Image(np.ascontiguousarray(case.labels.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    # gzip would stamp the time and the name.
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
