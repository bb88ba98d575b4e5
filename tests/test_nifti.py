import gzip
import itertools

import nibabel
import numpy as np
import pytest
from made.masks import LPS_TO_RAS, REAL, made_grid, made_volume, reoriented, rotation, save_nifti

from kerasbalance.data.errors import DataError
from kerasbalance.data.images.ct import read_image_ct, source_digest
from kerasbalance.data.images.image import is_image, read_image
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import AIR_HU


def refused(path, read=read_image_ct):
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) not in str(caught.value)
    return caught.value


def codes(volume):
    return [note.code for note in volume.notes]


def patched(path, *changes):
    """Change bytes of an uncompressed NIfTI file: `(offset, bytes)`."""
    content = bytearray(path.read_bytes())
    for offset, data in changes:
        content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, False), (True, True, True)])
def test_a_ct_in_any_orientation_gives_the_same_volume_and_digest(tmp_path, order, flips):
    made = made_volume(grid=made_grid(turn=rotation((0.2, -0.1, 0.1))))
    straight = read_image_ct(save_nifti(tmp_path / "a.nii.gz", made.hu, made.grid))
    turned = read_image_ct(save_nifti(tmp_path / "b.nii", *reoriented(made.hu, made.grid, order, flips)))
    np.testing.assert_array_equal(turned.hu, np.maximum(made.hu, AIR_HU))
    np.testing.assert_allclose(turned.grid.affine(), made.grid.affine(), atol=1e-4)
    assert source_digest(turned.hu, turned.grid) == source_digest(straight.hu, straight.grid)
    assert (turned.source_kind, turned.hu.dtype, turned.hu.flags.c_contiguous) == ("nifti", np.int16, True)


def test_the_digest_follows_pixels_and_geometry(tmp_path):
    made = made_volume()
    other = made.hu.copy()
    other[0, 0, 0] += 1
    volumes = [
        read_image_ct(save_nifti(tmp_path / f"{n}.nii", hu, grid))
        for n, (hu, grid) in enumerate(
            [(made.hu, made.grid), (other, made.grid), (made.hu, made_grid(spacing=(3.0, 1.5, 1.001)))]
        )
    ]
    assert len({source_digest(volume.hu, volume.grid) for volume in volumes}) == 3


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64, ">i2", ">f4"])
def test_hu_equal_nibabels_for_every_number_type(tmp_path, dtype):
    made = made_volume()
    image = nibabel.Nifti1Image(
        made.hu.transpose(2, 1, 0).astype(dtype), LPS_TO_RAS @ made.grid.affine(), dtype=dtype
    )
    if np.dtype(dtype).byteorder == ">":
        image = nibabel.Nifti1Image(
            image.dataobj, image.affine, image.header.as_byteswapped(">"), dtype=dtype
        )
    nibabel.save(image, tmp_path / "ct.nii.gz")
    volume = read_image_ct(tmp_path / "ct.nii.gz")
    expected = nibabel.as_closest_canonical(nibabel.load(tmp_path / "ct.nii.gz")).get_fdata()[::-1, ::-1]
    np.testing.assert_array_equal(volume.hu, np.maximum(expected.transpose(2, 1, 0), AIR_HU))


def test_fractions_of_a_hu_are_rounded(tmp_path):
    made = made_volume()
    for offset in (0.4, -0.4):
        path = save_nifti(tmp_path / "ct.nii", (made.hu + offset).astype(np.float32), made.grid)
        np.testing.assert_array_equal(read_image_ct(path).hu, made.hu)


def test_unsigned_data_with_slope_and_intercept_becomes_hu(tmp_path):
    made = made_volume()
    stored = ((made.hu.astype(int) + 1100) * 2).astype(np.uint16)
    path = save_nifti(tmp_path / "ct.nii", stored, made.grid)
    patched(path, (112, np.array([0.5, -1100], np.float32).tobytes()))
    np.testing.assert_array_equal(read_image_ct(path).hu, np.maximum(made.hu, AIR_HU))


def test_nifti_2_and_trailing_dimensions_of_one_are_read(tmp_path):
    made = made_volume()
    data, affine = made.hu.transpose(2, 1, 0), LPS_TO_RAS @ made.grid.affine()
    nibabel.save(nibabel.Nifti2Image(data, affine), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Image(data[..., None], affine), tmp_path / "four.nii")
    for name in ("two.nii.gz", "four.nii"):
        np.testing.assert_array_equal(read_image_ct(tmp_path / name).hu, np.maximum(made.hu, AIR_HU))


def test_a_time_series_is_refused(tmp_path):
    made = made_volume()
    data = np.stack([made.hu.transpose(2, 1, 0)] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "t.nii")
    assert refused(tmp_path / "t.nii").code == "NOT_3D"


def test_values_below_air_are_clipped_with_a_note(tmp_path):
    made = made_volume()
    hu = made.hu.copy()
    hu[0, 0, :5] = -3024
    volume = read_image_ct(save_nifti(tmp_path / "ct.nii", hu, made.grid))
    assert volume.hu.min() == AIR_HU
    assert codes(volume) == ["CLIPPED"]
    assert volume.notes[0].text.startswith(f"{np.count_nonzero(hu < AIR_HU)} voxels")


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 11520),
        np.random.default_rng(0).normal(0, 1, 11520),
        np.full(11520, -1024.0),
        np.linspace(-1000, 40_000, 11520),
        np.where(np.arange(11520) == 500, np.nan, np.linspace(-1000, 1000, 11520)),
        np.where(np.arange(11520) == 500, np.inf, np.linspace(-1000, 1000, 11520)),
    ],
    ids=["share", "z-score", "constant", "too high", "nan", "inf"],
)
def test_values_that_are_no_hu_are_refused(tmp_path, values):
    path = save_nifti(tmp_path / "ct.nii", values.reshape(6, 40, 48).astype(np.float32), made_grid())
    error = refused(path)
    assert error.code == "NOT_HU"
    if not np.isfinite(values).all():
        assert "1 voxels that are NaN" in str(error)


def test_a_ct_without_air_gets_a_loud_note(tmp_path):
    made = made_volume()
    volume = read_image_ct(save_nifti(tmp_path / "ct.nii", made.hu.clip(-150, 250), made.grid))
    assert [(note.code, note.loud) for note in volume.notes] == [("NO_AIR", True)]


def header_of(path):
    return save_nifti(path, made_volume().hu, made_grid())


def test_a_header_without_geometry_is_refused(tmp_path):
    path = patched(header_of(tmp_path / "a.nii"), (252, b"\0\0\0\0"))
    assert refused(path).code == "NO_GEOMETRY"
    assert "sform and qform" in str(refused(path))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_a_placeholder_for_a_header_is_told_loudly(tmp_path, signs):
    data = made_volume().hu.transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*signs, 1])), tmp_path / "a.nii")
    (note,) = read_image_ct(tmp_path / "a.nii").notes
    assert (note.code, note.loud) == ("PLACEHOLDER", True)
    assert "orientation and millimetres are unknown" in note.text


@pytest.mark.parametrize("change", [(0, 0, 0.9), (1, 3, 5.0)])
def test_voxels_of_one_millimetre_elsewhere_are_no_placeholder(tmp_path, change):
    affine = np.eye(4)
    affine[change[:2]] = change[2]
    nibabel.save(nibabel.Nifti1Image(made_volume().hu.transpose(2, 1, 0), affine), tmp_path / "a.nii")
    assert read_image_ct(tmp_path / "a.nii").notes == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e9])
def test_a_degenerate_affine_is_refused(tmp_path, value):
    row = np.full(4, value, np.float32).tobytes()
    path = patched(header_of(tmp_path / "a.nii"), (280, row), (296, row))
    assert refused(path).code == "NO_GEOMETRY"


def test_a_sheared_plane_is_refused_and_a_tilt_noted(tmp_path):
    made = made_volume()
    affine = made.grid.affine()
    affine[:3, 2] += [0, 0.3, 0]
    tilted = read_image_ct(save_nifti(tmp_path / "t.nii", made.hu, Grid.from_affine(made.hu.shape, affine)))
    assert [(note.code, note.loud) for note in tilted.notes] == [("TILT", True)]
    assert "5.7 degrees" in tilted.notes[0].text
    affine[:3, 1] += [0.1, 0, 0]
    path = save_nifti(tmp_path / "s.nii", made.hu, Grid.from_affine(made.hu.shape, affine))
    assert refused(path).code == "NO_GEOMETRY"


def test_positions_in_metres_are_taken_in_millimetres(tmp_path):
    made = made_volume()
    image = nibabel.Nifti1Image(
        made.hu.transpose(2, 1, 0), LPS_TO_RAS @ np.diag([1e-3, 1e-3, 1e-3, 1]) @ made.grid.affine()
    )
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "m.nii")
    volume = read_image_ct(tmp_path / "m.nii")
    np.testing.assert_allclose(volume.grid.affine(), made.grid.affine(), atol=1e-3)
    assert codes(volume) == ["UNITS"]


def test_disagreeing_forms_are_noted(tmp_path):
    made = made_volume()
    image = nibabel.Nifti1Image(made.hu.transpose(2, 1, 0), LPS_TO_RAS @ made.grid.affine())
    image.header.set_qform(np.eye(4), code=1)
    image.header.set_sform(LPS_TO_RAS @ made.grid.affine(), code=1)
    nibabel.save(image, tmp_path / "f.nii")
    volume = read_image_ct(tmp_path / "f.nii")
    np.testing.assert_allclose(volume.grid.affine(), made.grid.affine(), atol=1e-4)
    assert codes(volume) == ["FORMS"]


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_real_numbers_are_refused(tmp_path, dtype):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype), np.eye(4)), tmp_path / "c.nii")
    assert refused(tmp_path / "c.nii").code == "NOT_NUMBERS"


def bomb(path, shape, dtype, payload):
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4 + payload))
    return path


def test_huge_shapes_and_gzip_bombs_are_refused_before_they_are_unpacked(tmp_path):
    huge = bomb(tmp_path / "huge.nii.gz", (32767, 32767, 32767), np.float64, b"")
    assert refused(huge).code == "TOO_LARGE"
    packed = bomb(tmp_path / "bomb.nii.gz", (1024, 1024, 100), np.int16, bytes(2**20))
    assert refused(packed).code == "TOO_LARGE"
    longer = bomb(tmp_path / "long.nii.gz", (2, 2, 2), np.int16, bytes(2**22))
    assert refused(longer).code == "TOO_LARGE"


def test_files_cut_anywhere_or_foreign_are_refused_in_words(tmp_path):
    whole = header_of(tmp_path / "ct.nii").read_bytes()
    packed = gzip.compress(whole)
    random = np.random.default_rng(0)
    for content in (whole, packed):
        for length in [0, 1, 2, 10, *random.integers(11, len(content) - 1, 40)]:
            (tmp_path / "cut").write_bytes(content[:length])
            assert refused(tmp_path / "cut").code == "MALFORMED"
    for content in (b"hello", bytes(1000), packed[:-8] + b"\1\2\3\4" + packed[-4:], b"\x1f\x8b" + bytes(100)):
        (tmp_path / "cut").write_bytes(content)
        assert refused(tmp_path / "cut").code == "MALFORMED"


def test_random_header_bytes_never_raise_anything_else(tmp_path):
    whole, random = header_of(tmp_path / "ct.nii").read_bytes(), np.random.default_rng(0)
    read = 0
    for _ in range(400):
        content = bytearray(whole)
        for place in random.integers(0, 352, 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "f.nii").write_bytes(content)
        try:
            read += read_image_ct(tmp_path / "f.nii").hu.size > 0
        except DataError as error:
            read += not error.code
    assert read > 50


def test_a_pair_of_files_is_refused_with_advice(tmp_path):
    image = nibabel.Nifti1Pair(np.zeros((2, 2, 2), np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "pair.hdr")
    assert "convert the image to .nii.gz" in str(refused(tmp_path / "pair.hdr"))


def test_nifti_is_told_by_its_content(tmp_path):
    raw = header_of(tmp_path / "ct.nii").read_bytes()
    assert is_image(raw[:540])
    assert is_image(gzip.compress(raw)[:2000])
    assert not is_image(gzip.compress(b"text" * 400))
    assert not is_image(b"\x1f\x8b nonsense")
    assert not is_image(b"")


def test_stored_values_come_in_file_order(tmp_path):
    made = made_volume()
    turned, grid = reoriented(made.hu, made.grid, (1, 2, 0), (True, False, False))
    image = read_image(save_nifti(tmp_path / "a.nii.gz", turned, grid))
    np.testing.assert_array_equal(image.stored, turned)
    np.testing.assert_array_equal(np.stack(list(image.slices())), turned)
    np.testing.assert_allclose(image.grid.affine(), grid.affine(), atol=1e-4)


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not there: no real NIfTI CT to read")
@pytest.mark.parametrize("name", ["example_ct_sm.nii.gz", "example_ct.nii.gz"])
def test_real_ct_equals_nibabels_and_simpleitks(name):
    sitk = pytest.importorskip("SimpleITK")
    volume = read_image_ct(REAL / "totalsegmentator" / name)
    theirs = sitk.DICOMOrient(sitk.ReadImage(str(REAL / "totalsegmentator" / name)), "LPS")
    np.testing.assert_array_equal(volume.hu, np.maximum(sitk.GetArrayFromImage(theirs), AIR_HU))
    np.testing.assert_allclose(volume.grid.positions_mm[0], theirs.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(volume.grid.spacing_mm, theirs.GetSpacing()[::-1], atol=1e-4)
