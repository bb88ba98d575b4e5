"""DICOM CT in: find series, check them, stream them as Hounsfield units."""

from kerasbalance.data.dicom.pixels import read_volume, source_digest
from kerasbalance.data.dicom.scan import Scan, Series, choose_series, scan_folder

__all__ = ["Scan", "Series", "choose_series", "read_volume", "scan_folder", "source_digest"]
