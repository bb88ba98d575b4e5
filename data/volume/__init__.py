"""CT in memory: the volume, its grid, and how planes are cropped and resampled."""
