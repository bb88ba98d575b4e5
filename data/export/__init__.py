"""Predictions out: DICOM SEG and RTSTRUCT that refer to their CT series, NIfTI that lies on its CT voxel by voxel."""

from kerasbalance.data.export.content import Algorithm
from kerasbalance.data.export.headers import check_exportable
from kerasbalance.data.export.nifti import write_nifti
from kerasbalance.data.export.segmentation import write_segmentation
from kerasbalance.data.export.structure_set import write_structure_set

__all__ = ["Algorithm", "check_exportable", "write_nifti", "write_segmentation", "write_structure_set"]
