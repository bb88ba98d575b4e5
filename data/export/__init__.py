"""Predictions out: DICOM SEG that refers to its CT series, and NIfTI that lies on its CT voxel by voxel."""

from kerasbalance.data.export.headers import check_exportable
from kerasbalance.data.export.nifti import write_nifti
from kerasbalance.data.export.segmentation import Algorithm, write_segmentation

__all__ = ["Algorithm", "check_exportable", "write_nifti", "write_segmentation"]
