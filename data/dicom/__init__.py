"""DICOM CT in: find series, check them, stream them as Hounsfield units."""

from kerasbalance.data.dicom.choosing import choose_series
from kerasbalance.data.dicom.pixels import fingerprint, read_volume
from kerasbalance.data.dicom.scan import scan_folder
from kerasbalance.data.dicom.series import Scan, Series

__all__ = ["Scan", "Series", "choose_series", "fingerprint", "read_volume", "scan_folder"]
