"""Real CT, one command each: right HU, masks on the organ, a clean store. Skips where the data is not at hand."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main
from kerasbalance.data.store import SliceStore
from kerasbalance.data.volume.volume import AIR_HU

REAL = Path(__file__).parents[2] / "shared" / "real"
TOTAL = "totalsegmentator"
PAIRS = {
    "chaos": ["chaos"],
    "nifti-small": [f"{TOTAL}/example_ct_sm.nii.gz", "--mask", f"{TOTAL}/example_seg.nii.gz", "--label", "liver=5"],
    "nifti": [f"{TOTAL}/example_ct.nii.gz", "--mask", f"{TOTAL}/example_seg_fast_force_split.nii.gz",
              "--label", "liver=5", "--label", "spleen=1", "--label", "kidney=2,3"],
    "jpeg-2000": [f"{TOTAL}/example_ct_dicom", "--mask", f"{TOTAL}/example_seg_dicom.nii.gz", "--label", "liver=5"],
    "dicom-seg": ["dcmqi"],
}  # fmt: skip
CT = {
    "chaos": "chaos/DICOM_anon",
    "nifti-small": f"{TOTAL}/example_ct_sm.nii.gz",
    "nifti": f"{TOTAL}/example_ct.nii.gz",
    "jpeg-2000": f"{TOTAL}/example_ct_dicom",
    "dicom-seg": "dcmqi/ct-3slice",
}

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real CT series are not beside the checkout")


def call(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(params=PAIRS)
def ingested(request, tmp_path):
    words = [REAL / word if (REAL / word).exists() else word for word in PAIRS[request.param]]
    printed = call("ingest", *words, "--out", tmp_path / "store", "--key-file", tmp_path / "key", "--json")
    return request.param, tmp_path / "store", json.loads(printed)


def stored(store):
    opened = SliceStore(store)
    return opened.source("liver").read(np.arange(len(opened)))


def oracle(path):
    """Return HU as another program reads them, slices towards the head, rows to the back, columns to the left."""
    if path.is_file():
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return np.rint(image.get_fdata()).transpose(2, 1, 0)[:, ::-1, ::-1]
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return sitk.GetArrayFromImage(sitk.DICOMOrient(reader.Execute(), "LPS"))


def test_hounsfield_units_equal_another_programs(ingested):
    name, store, _ = ingested
    expected = np.maximum(oracle(REAL / CT[name]), AIR_HU)
    np.testing.assert_array_equal(stored(store)[0][..., 0], expected)


def test_the_mask_lies_on_the_liver(ingested):
    _, store, _ = ingested
    x, y = stored(store)
    q1, q3 = np.percentile(x[y == 1], (25, 75))
    assert 15 <= q3 - q1 <= 55


def test_the_store_is_sound_and_says_so(ingested):
    _, store, outcomes = ingested
    assert [outcome["status"] for outcome in outcomes] == ["taken"]
    assert "1 cases sound, 0 damaged" in call("verify", store)
