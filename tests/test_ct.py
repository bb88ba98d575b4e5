"""The CT at a path: each form that is taken, and what is refused."""

import gzip

import numpy as np
import pytest
from made.masks import made_grid, made_volume, save_nifti
from made.series import make_enhanced, make_series

from kerasbalance.data.ct import DicomCT, ImageCT, find_cts, open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.images import image as image_file


def saved(path):
    """Write a CT of 7 slices, 20 rows and 30 columns, whose first voxel has -1000 HU."""
    hu = np.arange(7 * 20 * 30, dtype=np.int16).reshape(7, 20, 30) - 1000
    return save_nifti(path, hu, made_grid((7, 20, 30), spacing=(3.0, 1.5, 1.0)))


def test_a_folder_of_a_dicom_series_is_read(tmp_path):
    made = make_series(tmp_path / "ct", slices=4, size=(16, 24))
    ct = open_ct(tmp_path / "ct")
    assert isinstance(ct, DicomCT)
    assert ct.grid.shape == (4, 16, 24)
    assert ct.grid.spacing_mm == pytest.approx((2.5, 0.8, 0.8))
    np.testing.assert_array_equal(ct.read().hu, made.hu)


def test_one_dicom_file_of_several_frames_is_read(tmp_path):
    made = make_enhanced(tmp_path)
    np.testing.assert_array_equal(open_ct(made.files[0]).read().hu, made.hu)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "named without ending"])
def test_a_nifti_file_is_read_whatever_its_name(tmp_path, name):
    path = saved(tmp_path / ("ct.nii.gz" if name.endswith("gz") else "ct.nii"))
    path = path.rename(tmp_path / name)
    ct = open_ct(path)
    assert isinstance(ct, ImageCT)
    assert ct.grid.shape == (7, 20, 30)
    assert ct.read().hu[0, 0, :3].tolist() == [-1000, -999, -998]


def test_a_folder_with_one_nifti_file_is_read(tmp_path):
    saved(tmp_path / "ct.nii.gz")
    (tmp_path / "notes.txt").write_text("not an image")
    assert open_ct(tmp_path).read().hu[6, 19, 29] == 3199


def test_a_dicom_series_counts_before_a_nifti_file_beside_it(tmp_path):
    make_series(tmp_path, slices=4)
    saved(tmp_path / "mask.nii.gz")
    assert open_ct(tmp_path).grid.shape[0] == 4


def test_the_voxels_of_a_nifti_file_are_unpacked_once_and_only_when_read(tmp_path, monkeypatch):
    path, unpacked = saved(tmp_path / "ct.nii.gz"), []
    read = image_file.read_content
    monkeypatch.setattr(image_file, "read_content", lambda *a: unpacked.append(1) or read(*a))
    ct = open_ct(path)
    assert ct.grid.shape == (7, 20, 30)
    assert unpacked == []
    ct.digest(), ct.read(), ct.read()
    assert unpacked == [1]


def test_a_nifti_header_is_known_though_its_voxels_are_cut_off(tmp_path):
    path = saved(tmp_path / "ct.nii")
    path.write_bytes(path.read_bytes()[:1000])
    assert open_ct(path).grid.shape == (7, 20, 30)
    with pytest.raises(DataError, match="MALFORMED: a file that ends after"):
        open_ct(path).read()


def test_the_grid_is_that_of_the_volume_and_the_source_grid_that_of_the_file(tmp_path):
    made = made_volume()
    turned = save_nifti(tmp_path / "ct.nii", made.hu, made.grid)
    ct = open_ct(turned)
    np.testing.assert_allclose(ct.grid.affine(), ct.read().grid.affine())
    np.testing.assert_allclose(ct.source_grid.affine(), image_file.read_image(turned).grid.affine())


def test_a_dicom_file_that_changes_after_its_digest_is_refused(tmp_path):
    made = make_series(tmp_path, slices=4)
    ct = open_ct(tmp_path)
    ct.digest()
    content = made.files[2].read_bytes()
    made.files[2].write_bytes(content[:-2] + b"\x01\x02")
    with pytest.raises(DataError, match="CHANGING: file 3 of 4: a file that changed while it was read"):
        ct.read()


def two_series(folder):
    make_series(folder / "a", slices=4, series="1.2.3")
    make_series(folder / "b", slices=5, series="1.2.4")
    return folder


def test_one_of_several_series_is_chosen_by_number_or_uid(tmp_path):
    folder = two_series(tmp_path)
    assert open_ct(folder, series=2).grid.shape[0] == 5
    assert open_ct(folder, series_uid="1.2.4").grid.shape[0] == 5
    assert open_ct(folder, series_uid="1.2.3", series=1).grid.shape[0] == 4


@pytest.mark.parametrize(
    ("make", "series", "message"),
    [
        (
            two_series,
            None,
            r"^SEVERAL_SERIES: 2 CT series \(1: 4 images of 32 x 32; 2: 5 images of 32 x 32\)",
        ),
        (two_series, 3, "^NO_SERIES: series number 3; expected 1 to 2; see kerasbalance inspect"),
        (
            lambda p: p,
            None,
            "^NO_SERIES: no DICOM image and no image file .NIfTI, NRRD, MetaImage.; expected a CT; name the folder or",
        ),
        (lambda p: p / "absent", None, r"^UNREADABLE: a source that cannot be read \(No such file"),
        (
            lambda p: [saved(p / "a.nii"), saved(p / "b.nii.gz")] and p,
            None,
            "^SEVERAL_SERIES: 2 image files; expected one CT; name the file of the CT",
        ),
        (lambda p: saved(p / "a.nii"), 2, "^NO_SERIES: series number 2 of an image file; expected 1, since"),
    ],
)
def test_what_is_not_one_ct_is_refused_in_words(tmp_path, make, series, message):
    with pytest.raises(DataError, match=message):
        open_ct(make(tmp_path), series=series)


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"text" * 400, mtime=0)])
def test_a_file_that_is_neither_is_refused(tmp_path, content):
    (tmp_path / "ct").write_bytes(content)
    with pytest.raises(DataError, match="NO_SERIES: no DICOM image and no image file"):
        open_ct(tmp_path / "ct")


def test_an_unknown_relaxation_is_refused_for_any_form(tmp_path):
    with pytest.raises(DataError, match="USAGE: the relaxation 'gaps'"):
        open_ct(saved(tmp_path / "ct.nii"), allow=frozenset({"gaps"}))


def test_a_nifti_ct_that_is_no_hu_is_refused_when_it_is_read(tmp_path):
    path = save_nifti(tmp_path / "ct.nii", np.ones((7, 20, 30), np.int16), made_grid((7, 20, 30)))
    with pytest.raises(DataError, match="NOT_HU: values from 1 to 1"):
        open_ct(path).read()


def test_every_ct_below_a_folder_is_found_and_a_refused_one_keeps_its_place(tmp_path):
    make_series(tmp_path / "a", slices=4)
    broken = make_series(tmp_path / "b", slices=5, series="1.2.826.0.1.9")
    broken.files[2].unlink()  # a gap
    (tmp_path / "c").mkdir()
    saved(tmp_path / "c" / "ct.nii.gz")
    saved(tmp_path / "a" / "mask.nii.gz")
    first, second, third = find_cts(tmp_path)
    assert [found.number for found in (first, second, third)] == [1, 2, 3]
    assert first.open().grid.shape[0] == 4
    assert second.source.code == "GAP"
    with pytest.raises(DataError, match="GAP"):
        second.open()
    assert third.open().grid.shape == (7, 20, 30)
    assert (first.path, third.path) == (tmp_path / "a", tmp_path / "c" / "ct.nii.gz")


def test_a_damaged_dicom_file_is_one_refused_ct_and_not_two(tmp_path):
    made = make_series(tmp_path / "a", slices=4)
    made.files[1].write_bytes(made.files[1].read_bytes()[:300])
    (found,) = find_cts(tmp_path)
    with pytest.raises(DataError):
        found.open()


def test_no_ct_below_a_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(DataError, match=r"NO_SERIES.*name the folder or file of the CT"):
        find_cts(tmp_path)
