"""CT in, slices out: DICOM and NIfTI readers, mask readers, the slice store and a phantom."""
