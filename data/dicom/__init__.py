"""DICOM CT in: find series, check them, stream them as Hounsfield units."""

from kerasbalance.data.dicom.pixels import fingerprint, read_volume
from kerasbalance.data.dicom.scan import Scan, Series, choose_series, scan_folder

__all__ = ["Scan", "Series", "choose_series", "fingerprint", "read_volume", "scan_folder"]
