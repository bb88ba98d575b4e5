"""Which values count as HU, from one CT of air, fat, tissue and bone that is stored wrongly in one way at a time."""

import nibabel
import numpy as np
import pytest
from made.cases import write_nifti
from made.series import make_series, read, refusal

from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.images.ct import read_image_ct

SHAPE = (6, 48, 48)
ROW, COLUMN = np.mgrid[:48, :48] - 23.5
OUTSIDE = np.hypot(ROW, COLUMN) > 23.5
"""The corners, beyond the circle that a scanner reconstructs."""


def body():
    hu = np.full(SHAPE, -1000) + np.random.default_rng(0).integers(-20, 20, SHAPE)
    for radius, value in ((18, -100), (15, 50), (3, 1300)):
        inside = np.hypot(ROW, COLUMN) < radius
        hu[:, inside] = value + np.random.default_rng(radius).integers(-20, 20, (6, int(inside.sum())))
    return hu


HU = body()
CUT = np.where(OUTSIDE, -1024, HU)


def dicom(tmp_path, values, **options):
    """The volume of a series that stores the low bits of given values."""
    options = {"intercept": 0, **options}
    bits = options.get("bits", 16)
    stored = (values & (2**bits - 1)).astype(f"u{bits // 8}")
    make_series(
        tmp_path,
        slices=6,
        stored=stored.view(f"i{bits // 8}") if options.get("signed") else stored,
        **options,
    )
    return read(tmp_path)


def nifti(tmp_path, values):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([-2, -2, 3, 1])), tmp_path / "ct.nii")
    return read_image_ct(tmp_path / "ct.nii")


def told(volume):
    return [(note.code, note.loud) for note in volume.notes]


@pytest.mark.parametrize("stored", [63536, 65535, 32768, 30000, 4095])
def test_padding_without_a_tag_is_air_in_an_unsigned_series(tmp_path, stored):
    volume = dicom(tmp_path, np.where(OUTSIDE, stored, HU + 1024), intercept=-1024)
    np.testing.assert_array_equal(volume.hu, CUT)
    assert told(volume) == [("PADDING", True)]
    assert (
        volume.notes[0].text == f"padding at {stored - 1024} HU, which no tag declares, was turned into air"
    )


@pytest.mark.parametrize("value", [63536, 62512, 31744, 3071])
def test_padding_is_air_in_a_nifti_too(tmp_path, value):
    volume = nifti(tmp_path, np.where(OUTSIDE, value, HU).astype(np.int32))
    np.testing.assert_array_equal(volume.hu, CUT)
    assert told(volume) == [("PADDING", True)]


def test_padding_below_air_is_counted_as_clipped(tmp_path):
    volume = dicom(tmp_path, np.where(OUTSIDE, -2000, HU), signed=True)
    np.testing.assert_array_equal(volume.hu, CUT)
    assert told(volume) == [("CLIPPED", False)]
    assert volume.notes[0].text == f"{6 * OUTSIDE.sum():,} voxels below -1024 HU were set to -1024"


@pytest.mark.parametrize("bits_stored", [12, 16])
@pytest.mark.parametrize("is_padded", [False, True])
def test_a_signed_series_flagged_as_unsigned_is_turned_back(tmp_path, bits_stored, is_padded):
    values = np.where(OUTSIDE & is_padded, -1024, HU) & (2**bits_stored - 1)
    volume = dicom(tmp_path, values, bits_stored=bits_stored)
    np.testing.assert_array_equal(volume.hu, CUT if is_padded else HU)
    assert ("WRAPPED", True) in told(volume)
    assert "negative values stored as unsigned were turned back" in volume.notes[-1].text


def test_an_unsigned_series_flagged_as_signed_is_turned_back(tmp_path):
    for name, values, options in (
        ("bone", HU + 1024, {"intercept": -1024, "bits_stored": 12}),
        ("tissue", HU + 32768, {"intercept": -32768}),
    ):
        volume = dicom(tmp_path / name, values, signed=True, **options)
        np.testing.assert_array_equal(volume.hu, HU)
        assert told(volume) == [("WRAPPED", True)]


def test_a_nifti_of_wrapped_values_is_turned_back(tmp_path):
    volume = nifti(tmp_path, (HU & 0xFFFF).astype(np.uint16))
    np.testing.assert_array_equal(volume.hu, HU)
    assert told(volume) == [("WRAPPED", True)]


@pytest.mark.parametrize("bits_stored", [12, 13, 16])
def test_dense_bone_of_a_right_series_is_left_alone(tmp_path, bits_stored):
    volume = dicom(tmp_path, HU + 1024, intercept=-1024, bits_stored=bits_stored)
    np.testing.assert_array_equal(volume.hu, HU)
    assert volume.notes == ()


def picture():
    return np.clip((HU + 160) * 255 / 400, 0, 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_windowed_picture_is_refused(tmp_path, bits):
    stored = picture().astype(np.uint16 if bits == 16 else np.uint8)
    make_series(tmp_path / "d", slices=6, stored=stored, bits=bits, intercept=0)
    error = refusal(tmp_path / "d")
    assert error.code == "NOT_HU"
    assert error.received == "values from 0 to 255, as in a picture of 8 bits"
    with pytest.raises(DataError, match="NOT_HU"):
        nifti(tmp_path, picture().astype(np.float32))


@pytest.mark.parametrize("air", [0, -1024, -2000])
def test_a_ct_without_any_value_of_air_or_fat_is_refused_unless_it_is_allowed_by_name(tmp_path, air):
    values = np.where(OUTSIDE, air, HU + 1024)
    path = write_nifti(tmp_path / "a.nii", values.astype(np.int16))
    make_series(tmp_path / "d", slices=6, stored=values.astype(np.int16), signed=True, intercept=0)
    for source in (path, tmp_path / "d"):
        with pytest.raises(
            DataError, match=r"NOT_HU: .*none lies between -1024 and 0: an offset of 1024 may be"
        ):
            open_ct(source).read()
        notes = [
            note
            for note in open_ct(source, allow=frozenset({"no-air"})).read().notes
            if note.code == "NO_AIR"
        ]
        if air == 0:
            assert [note.text.startswith("allowed (no-air): no voxel is below 0") for note in notes] == [True]


def test_values_without_air_or_without_tissue_are_told(tmp_path):
    assert told(nifti(tmp_path, np.clip(HU, -160, 240).astype(np.int16))) == [("NO_AIR", True)]
    assert told(dicom(tmp_path / "c", picture().astype(int), bits=8, intercept=-1024)) == [
        ("NO_TISSUE", True)
    ]


def test_metal_beyond_int16_is_cut_and_counted_and_much_of_it_refused(tmp_path):
    metal = HU.astype(np.int32)
    metal[2, 22:25, 22:25] = 40_000
    volume = nifti(tmp_path, metal)
    np.testing.assert_array_equal(volume.hu, np.minimum(metal, 32767))
    assert [n.text for n in volume.notes] == ["9 voxels above 32,767 HU were set to 32,767"]
    metal[:, 20:27, 20:27] = 40_000
    with pytest.raises(DataError, match="294 voxels lie above 32,767"):
        nifti(tmp_path, metal)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_at_the_rim_is_air(tmp_path, value):
    volume = nifti(tmp_path, np.where(OUTSIDE, value, HU).astype(np.float32))
    np.testing.assert_array_equal(volume.hu, CUT)
    assert told(volume) == [("NAN", True)]
    assert volume.notes[0].text.startswith(f"{6 * OUTSIDE.sum():,} voxels at the rim")


def test_nan_inside_the_body_or_in_a_whole_slice_between_others_is_refused(tmp_path):
    for place in ((3, 24, 24), (3,)):
        values = HU.astype(np.float32)
        values[place] = np.nan
        with pytest.raises(DataError, match="NaN or infinite, some inside the body"):
            nifti(tmp_path, values)
    values[0] = np.nan
    with pytest.raises(DataError, match="NOT_HU"):
        nifti(tmp_path, values)


def test_slices_of_nan_at_the_ends_are_air(tmp_path):
    values = HU.astype(np.float32)
    values[[0, 1, 5]] = np.nan
    volume = nifti(tmp_path, values)
    assert (volume.hu[[0, 1, 5]] == -1024).all()
    np.testing.assert_array_equal(volume.hu[2:5], HU[2:5])
