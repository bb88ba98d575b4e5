"""NIfTI: images with their geometry, and CT in Hounsfield units."""
