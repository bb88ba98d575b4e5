"""Slices are found, sorted and judged by geometry alone (facts: pitfalls 1, 2, 5, 6, 7 and 14)."""

import os

import numpy as np
import pytest
from made.series import PATIENT, make_series, read, refusal, rewrite

from kerasbalance.data.dicom import choose_series, fingerprint, read_volume, scan_folder
from kerasbalance.data.errors import DataError


def codes(notes):
    return [note.code for note in notes]


def test_slices_come_in_the_order_of_their_positions_whatever_their_numbers_say(tmp_path):
    numbers = np.random.default_rng(1).permutation(12)
    made = make_series(tmp_path, edit=lambda d, n: setattr(d, "InstanceNumber", int(numbers[n])))
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("value", [None, "", "abc", "1.5", "99999999999999999999"])
def test_a_missing_or_nonsensical_instance_number_does_not_matter(tmp_path, value):
    def edit(dataset, n):
        del dataset.InstanceNumber
        if value is not None:
            dataset.add_new("InstanceNumber", "LO", value)

    made = make_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_file_names_out_of_order_do_not_matter(tmp_path):
    made = make_series(tmp_path, name=lambda n: f"image_{(n * 7) % 12}")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.identity.file_names == tuple(path.name for path in made.files)


def test_spacing_comes_from_positions_and_not_from_slice_thickness(tmp_path):
    def edit(dataset, n):
        dataset.SliceThickness, dataset.SpacingBetweenSlices = 7, -7

    make_series(tmp_path, step_mm=1.25, spacing_mm=(0.9, 0.6), edit=edit)
    assert read(tmp_path).grid.spacing_mm == pytest.approx((1.25, 0.9, 0.6))


def digest(folder):
    return fingerprint(choose_series(scan_folder(folder))).digest


def test_a_shuffled_copy_under_other_uids_has_the_same_digest(tmp_path):
    one = make_series(tmp_path / "a")
    make_series(tmp_path / "b", series="1.2.826.0.7", name=lambda n: f"{99 - n}", origin_mm=(-100, -120, 999))
    digests = {digest(tmp_path / name) for name in "ab"}
    assert len(digests) == 1
    rewrite(one.files[3], lambda d: setattr(d, "RescaleSlope", 2))
    assert digest(tmp_path / "a") not in digests


@pytest.mark.parametrize("patients", ["identity", "signature"])
def test_headers_and_what_follows_the_pixels_do_not_count_in_the_digest(tmp_path, patients):
    made = make_series(tmp_path)
    before = digest(tmp_path)

    def change(dataset):
        dataset.PatientID = "other"
        if patients == "signature":
            dataset.add_new(0xFFFCFFFC, "OB", b"\1" * 64)

    for path in made.files:
        rewrite(path, change)
    assert digest(tmp_path) == before


def test_a_missing_slice_is_refused_and_allowed_by_name(tmp_path):
    made = make_series(tmp_path)
    made.files[4].unlink()
    error = refusal(tmp_path)
    assert str(error) == (
        "GAP: file 5 of 11: 1 uneven steps, the worst 5.000 mm from slice 4 to 5 of 11; "
        "expected steps of 2.500 mm (the median); complete the series, or pass --allow gap"
    )
    volume = read(tmp_path, "gap")
    assert codes(volume.notes) == ["GAP"]
    assert volume.notes[0].loud
    np.testing.assert_array_equal(volume.hu, np.delete(made.hu, 4, axis=0))
    np.testing.assert_allclose(volume.grid.depth_mm[3:5], [7.5, 12.5])


def test_uneven_spacing_is_refused_and_jitter_is_not(tmp_path):
    def shift(by):
        return lambda d: setattr(d, "ImagePositionPatient", [-100, -120, 50 + 2.5 * 5 + by])

    made = make_series(tmp_path)
    rewrite(made.files[5], shift(0.02))
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    rewrite(made.files[5], shift(0.3))
    assert refusal(tmp_path).code == "GAP"


def test_half_of_the_slices_at_another_spacing_is_refused(tmp_path):
    make_series(tmp_path, slices=6, name="a{}")
    make_series(tmp_path, slices=6, step_mm=5, origin_mm=(-100, -120, 65), seed=1, name="b{}",
                edit=lambda d, n: setattr(d, "SOPInstanceUID", f"1.2.9.{n}"))  # fmt: skip
    assert refusal(tmp_path).code == "GAP"


def test_equal_doubles_are_dropped_and_told(tmp_path):
    made = make_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert [(note.code, note.text) for note in volume.notes] == [("DUPLICATE", "1 repeated images dropped")]


def test_of_two_equal_images_the_one_with_the_lower_instance_number_stays(tmp_path):
    made = make_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())
    rewrite(made.files[2], lambda d: setattr(d, "InstanceNumber", 99))
    assert read(tmp_path).identity.file_names[2] == "copy.dcm"
    rewrite(made.files[2], lambda d: setattr(d, "InstanceNumber", 1))
    assert read(tmp_path).identity.file_names[2] == made.files[2].name


def test_an_equal_double_under_another_uid_is_dropped_too(tmp_path):
    made = make_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())
    rewrite(tmp_path / "copy.dcm", lambda d: setattr(d, "SOPInstanceUID", "1.2.3"))
    assert len(read(tmp_path).hu) == 12


@pytest.mark.parametrize(
    ("uid", "code", "received"),
    [
        ("1.2.3", "DUPLICATE", "another image than file 3 of 13 at the same depth"),
        ("1.2.826.0.1.2.3", "UID_CONFLICT", "the SOPInstanceUID of file 3 of 13 on another image"),
    ],
)
def test_two_images_at_one_position_are_refused(tmp_path, uid, code, received):
    def edit(dataset, n):
        dataset.SOPInstanceUID, dataset.InstanceNumber = uid, 99

    make_series(tmp_path)
    make_series(tmp_path, slices=1, origin_mm=(-100, -120, 55), seed=9, name="zzzz.dcm", edit=edit)
    error = refusal(tmp_path)
    assert (error.code, error.received, error.where) == (code, received, "file 13 of 13")
    assert error.path == tmp_path / "zzzz.dcm"


def test_images_that_differ_only_in_their_table_of_values_are_no_doubles(tmp_path):
    made = make_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())
    rewrite(tmp_path / "copy.dcm", lambda d: setattr(d, "RescaleIntercept", 0))
    assert refusal(tmp_path).code == "UID_CONFLICT"


def test_two_images_beside_each_other_at_one_depth_are_refused(tmp_path):
    made = make_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())

    def change(dataset):
        dataset.SOPInstanceUID, dataset.ImagePositionPatient = "1.2.3", [-90, -120, 55]

    rewrite(tmp_path / "copy.dcm", change)
    assert refusal(tmp_path, "tilt", "gap").code == "DUPLICATE"


def test_one_sop_instance_uid_on_two_slices_is_refused(tmp_path):
    make_series(tmp_path, edits={7: lambda d, n: setattr(d, "SOPInstanceUID", "1.2.826.0.1.2.3")})
    error = refusal(tmp_path)
    assert str(error) == (
        "UID_CONFLICT: file 8 of 12: the SOPInstanceUID of file 3 of 12 on another image; "
        "expected a SOPInstanceUID of its own for each image; export the series again"
    )


@pytest.mark.parametrize("lie", [None, 0, 25])
def test_gantry_tilt_is_seen_in_the_geometry_and_never_believed_from_its_tag(tmp_path, lie):
    def edit(dataset, n):
        if lie is not None:
            dataset.GantryDetectorTilt = lie

    made = make_series(tmp_path, aside_mm=(0, 2.5 * np.tan(np.radians(12)), 0), edit=edit)
    error = refusal(tmp_path)
    assert (error.code, error.received) == ("TILT", "slices shifted by 12.00 degrees (gantry tilt)")
    volume = read(tmp_path, "tilt")
    assert codes(volume.notes) == ["TILT"]
    np.testing.assert_array_equal(volume.hu, made.hu)


def test_a_tilted_gantry_whose_slices_still_stack_straight_is_no_problem(tmp_path):
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    made = make_series(
        tmp_path, cosines=(1, 0, 0, 0, c, -s), edit=lambda d, n: setattr(d, "GantryDetectorTilt", 15)
    )
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_a_tilted_image_plane_moved_along_the_table_is_tilt(tmp_path):
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    normal = np.array([0, s, c])
    make_series(tmp_path, cosines=(1, 0, 0, 0, c, -s), aside_mm=np.array([0, 0, 2.5 / c]) - 2.5 * normal)
    assert refusal(tmp_path).code == "TILT"


def test_one_slice_shifted_sideways_is_refused(tmp_path):
    made = make_series(tmp_path)
    rewrite(made.files[5], lambda d: setattr(d, "ImagePositionPatient", [-95, -120, 62.5]))
    error = refusal(tmp_path)
    assert (error.code, error.received) == ("SHIFT", "slice 6 of 12 5.000 mm aside")
    np.testing.assert_array_equal(read(tmp_path, "tilt").hu, made.hu)


POSES = {
    "supine, head first": ((1, 0, 0, 0, 1, 0), lambda a: a),
    "prone": ((-1, 0, 0, 0, -1, 0), lambda a: a[:, ::-1, ::-1]),
    "supine, feet first": ((-1, 0, 0, 0, 1, 0), lambda a: a[::-1, :, ::-1]),
    "prone, feet first": ((1, 0, 0, 0, -1, 0), lambda a: a[::-1, ::-1]),
    "rows downwards": ((0, 1, 0, -1, 0, 0), lambda a: a.transpose(0, 2, 1)[:, :, ::-1]),
}


@pytest.mark.parametrize("pose", POSES)
def test_every_pose_comes_out_canonical(tmp_path, pose):
    cosines, turn = POSES[pose]
    made = make_series(tmp_path, cosines=cosines, size=(24, 32))
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, turn(made.hu))
    grid = volume.grid
    assert np.argmax(grid.column_step_mm) == 0
    assert np.argmax(grid.row_step_mm) == 1
    assert np.all(np.diff(grid.positions_mm[:, 2]) > 0)
    last = cosines in (POSES["supine, feet first"][0], POSES["prone, feet first"][0])
    assert volume.identity.instance_uids[0].endswith(".12" if last else ".1")


@pytest.mark.parametrize("pose", POSES)
def test_every_pose_lands_where_simpleitk_puts_it(tmp_path, pose):
    sitk = pytest.importorskip("SimpleITK")
    made = make_series(tmp_path, cosines=POSES[pose][0], size=(24, 32))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in made.files])
    image = sitk.DICOMOrient(reader.Execute(), "LPS")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image).clip(-1024))
    np.testing.assert_allclose(volume.grid.positions_mm[0], image.GetOrigin(), atol=1e-6)


@pytest.mark.parametrize(
    ("plane", "cosines"), [("sagittal", (0, 1, 0, 0, 0, -1)), ("coronal", (1, 0, 0, 0, 0, -1))]
)
def test_sagittal_and_coronal_series_are_refused_and_turned_when_allowed(tmp_path, plane, cosines):
    sitk = pytest.importorskip("SimpleITK")
    made = make_series(tmp_path, cosines=cosines, size=(24, 32))
    error = refusal(tmp_path)
    assert (error.code, error.received) == ("NON_AXIAL", f"{plane} slices")
    volume = read(tmp_path, "nonaxial")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in made.files])
    image = sitk.DICOMOrient(reader.Execute(), "LPS")
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image).clip(-1024))
    assert volume.identity.instance_uids == volume.identity.file_names == ()
    assert volume.identity.patient_id == PATIENT


def test_a_single_image_is_refused_and_allowed_by_name(tmp_path):
    made = make_series(tmp_path, slices=1)
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("ONE_IMAGE", "file 1 of 1")
    np.testing.assert_array_equal(read(tmp_path, "single").hu, made.hu)
    np.testing.assert_array_equal(read(made.files[0], "single").hu, made.hu)


def test_a_series_that_falls_apart_into_single_images_is_refused_with_what_differs(tmp_path):
    make_series(tmp_path, slices=6, edit=lambda d, n: setattr(d, "FrameOfReferenceUID", f"1.2.9.{n}"))
    message = (
        "a series that falls apart into 6 single images, which differ in FrameOfReferenceUID; expected one "
        "FrameOfReferenceUID in a series; export the series again, or correct these values in its files"
    )
    for number in (None, 2):
        with pytest.raises(DataError, match="ONE_IMAGE: file [12] of 6: " + message):
            choose_series(scan_folder(tmp_path), number)


def test_two_images_are_a_series(tmp_path):
    made = make_series(tmp_path, slices=2)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_alternating_acquisitions_are_refused_and_successive_ones_are_not(tmp_path):
    def alternate(dataset, n):
        dataset.AcquisitionNumber = 1 + n % 2

    def advance(dataset, n):
        dataset.AcquisitionNumber = 12 - n // 4

    made = make_series(tmp_path / "steps", edit=advance)
    np.testing.assert_array_equal(read(tmp_path / "steps").hu, made.hu)
    make_series(tmp_path / "phases", edit=alternate)
    error = refusal(tmp_path / "phases")
    assert (error.code, error.received) == ("PHASES", "2 acquisitions whose slices alternate")
    assert codes(read(tmp_path / "phases", "phases").notes) == ["PHASES"]


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize("value", [None, "", "nan", "1e400", "-inf", "left\\right\\up", "1"])
def test_a_slice_without_finite_geometry_is_refused(tmp_path, keyword, value):
    def edit(dataset, n):
        count = len(dataset[keyword].value)
        del dataset[keyword]
        if value is not None:
            text = "\\".join([value] * count) if "\\" not in value and value != "1" else value
            dataset.add_new(keyword, "LO", text.split("\\") if text else "")

    make_series(tmp_path, edits={11: edit})
    error = refusal(tmp_path, *["gap", "tilt", "nonaxial"])
    assert (error.code, error.where) == ("NO_GEOMETRY", "file 12 of 12")
    assert keyword in error.received


@pytest.mark.parametrize(
    ("keyword", "values", "found"),
    [
        ("PixelSpacing", ["0", "0.8"], "PixelSpacing 0 and 0.8 mm"),
        ("PixelSpacing", ["-1", "1"], "PixelSpacing -1 and 1 mm"),
        ("PixelSpacing", ["1e300", "1"], "PixelSpacing 1e+300 and 1 mm"),
        ("ImagePositionPatient", ["1e300", "0", "0"], "outside any scanner"),
        ("ImageOrientationPatient", ["0"] * 6, "not of two unit vectors"),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"], "not of two unit vectors"),
        ("ImageOrientationPatient", ["1e200"] * 6, "not of two unit vectors"),
    ],
)
def test_impossible_geometry_is_refused(tmp_path, keyword, values, found):
    make_series(tmp_path, edit=lambda d, n: d.add_new(keyword, "DS", values))
    error = refusal(tmp_path)
    assert error.code == "BAD_GEOMETRY"
    assert found in error.received


@pytest.mark.parametrize("group", [0x0009, 0x0029, 0x0043])
@pytest.mark.parametrize("length", [65_000, 70_000, 1_000_000])
def test_a_header_of_any_length_is_read_to_its_end(tmp_path, group, length):
    def edit(dataset, _):
        dataset.add_new((group, 0x0010), "LO", "PRIVATE")
        dataset.add_new((group, 0x1010), "OB", b"\0" * length)

    made = make_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_a_file_that_changes_between_hashing_and_decoding_is_refused(tmp_path):
    made = make_series(tmp_path)
    series = choose_series(scan_folder(tmp_path))
    known = fingerprint(series)
    read_volume(series, known)
    content, state = bytearray(made.files[4].read_bytes()), made.files[4].stat()
    content[-7] ^= 1
    made.files[4].write_bytes(content)
    os.utime(made.files[4], ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ValueError, match=r"^CHANGING: file 5 of 12: a file that changed while it was read"):
        read_volume(series, known)


def test_reading_refuses_what_scanning_found(tmp_path):
    made = make_series(tmp_path)
    made.files[4].unlink()
    series = scan_folder(tmp_path).series[0]
    assert [error.code for error in series.problems] == ["GAP"]
    for function in (read_volume, fingerprint):
        with pytest.raises(ValueError, match=r"^GAP: file 5 of 11: 1 uneven steps"):
            function(series)
