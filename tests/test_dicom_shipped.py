"""Every file that pydicom's wheel ships is read right or refused, and nothing else happens."""

from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from kerasbalance.data.dicom import choose_series, read_volume, scan_folder
from kerasbalance.data.errors import DataError

ROOT = Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
REFUSED = {
    "image_dfl.dcm": "DEFLATED",
    "UN_sequence.dcm": "NO_PIXELS",
    "MR_truncated.dcm": "NOT_CT",
    "MR_small_RLE.dcm": "NOT_CT",
    "no_meta.dcm": "NO_SERIES",
    "badVR.dcm": "NOT_CT",
    "rtstruct.dcm": "NOT_CT",
    "liver_1frame.dcm": "NOT_CT",
    "SC_rgb_rle.dcm": "NOT_CT",
    "JPEG-lossy.dcm": "NOT_CT",
    "JPEG2000-embedded-sequence-delimiter.dcm": "NOT_CT",
    "meta_missing_tsyntax.dcm": "MALFORMED",
    "nested_priv_SQ.dcm": "MALFORMED",
    "DICOMDIR": "NOT_CT",
}


def outcome(path):
    try:
        return read_volume(choose_series(scan_folder(path, frozenset({"single", "no-air"}))))
    except DataError as error:
        return error


def pydicom_hu(path):
    """Return HU by way of pydicom alone, or None where the file is no CT image."""
    try:
        dataset = pydicom.dcmread(path)
        if dataset.Modality != "CT" or "LOCALIZER" in dataset.ImageType:
            return None
        raw = dataset.pixel_array
    except Exception:
        return None
    hu = raw * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return np.where(raw == dataset.get("PixelPaddingValue"), -1024, hu).clip(-1024)


@pytest.mark.filterwarnings("ignore:::pydicom")
def test_every_shipped_ct_image_gives_what_pydicom_gives_and_all_else_is_refused():
    read = []
    for path in FILES:
        result = outcome(path)
        theirs = pydicom_hu(path)
        if isinstance(result, DataError):
            assert theirs is None or result.code == "DEFLATED", path.name
            continue
        poses = (theirs, theirs[:, ::-1], theirs[::-1], theirs[::-1, ::-1])  # some lie prone or feet first
        assert any(np.array_equal(result.hu[0], pose) for pose in poses), path.name
        read.append(path.name)
    assert {"CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "17106"} <= set(read)


@pytest.mark.parametrize("name", REFUSED)
def test_a_shipped_file_that_is_no_ct_image_is_refused_by_name(name):
    paths = [path for path in FILES if path.name == name]
    assert paths
    for path in paths:
        error = outcome(path)
        assert isinstance(error, DataError)
        assert error.code == REFUSED[name]


def test_a_folder_of_localizers_only_says_so():
    [path] = [path for path in FILES if path.name == "6293"]
    error = outcome(path)
    assert str(error) == (
        "NOT_CT: DICOM files but no CT image (1 localizers left out); expected a CT series; "
        "name the folder of the CT series"
    )


def test_no_shipped_file_makes_scanning_the_whole_folder_fail():
    scan = scan_folder(ROOT)
    assert all(error.code != "DEFLATED" or error.path.name == "image_dfl.dcm" for error in scan.errors)
    assert sum(len(series.slices) for series in scan.series) >= 12
