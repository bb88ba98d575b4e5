"""What counts as a CT series, and how its stored values become Hounsfield units (facts: pitfalls 3, 4, 8 to 13)."""

import numpy as np
import pytest
from made.series import SERIES, lut_item, make_series, read, refusal, rewrite, set_text
from pydicom.uid import (
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from kerasbalance.data.dicom import choose_series, scan_folder
from kerasbalance.data.dicom.checks import RELAXATIONS, check_allow
from kerasbalance.data.dicom.hounsfield import hounsfield, padding_of
from kerasbalance.data.dicom.pixels import decode
from kerasbalance.data.dicom.stack import read_stored
from kerasbalance.data.errors import DataError


def notes(volume):
    return {note.code: note for note in volume.notes}


# Rescale


def test_each_slice_has_its_own_rescale(tmp_path):
    slopes = np.linspace(0.5, 2, 12).round(3)
    made = make_series(tmp_path, slope=slopes, intercept=np.arange(-1030, -1018))
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    np.testing.assert_array_equal(made.hu[3, 0, 0], round(made.stored[3, 0, 0] * slopes[3] - 1027))


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", [None, "", "nan", "inf", "-inf", "1e400", "one", "1\\2", "1,5"])
def test_a_slice_without_a_usable_rescale_is_refused(tmp_path, keyword, value):
    def edit(dataset, n):
        del dataset[keyword]
        if value is not None:
            set_text(dataset, keyword, value)

    make_series(tmp_path, edits={9: edit})
    error = refusal(tmp_path, *RELAXATIONS)
    assert (error.code, error.where) == ("BAD_RESCALE", "file 10 of 12")
    assert error.expected == "a finite RescaleSlope other than 0 and a RescaleIntercept"


@pytest.mark.parametrize(
    ("slope", "found"), [("0", "RescaleSlope 0 and"), ("1e-300", "1e-300"), ("1e300", "1e+300")]
)
def test_an_impossible_slope_is_refused(tmp_path, slope, found):
    make_series(tmp_path, edit=lambda d, n: set_text(d, "RescaleSlope", slope))
    error = refusal(tmp_path)
    assert error.code == "BAD_RESCALE"
    assert found in error.received


def test_a_negative_slope_and_an_intercept_of_zero_are_values_like_others(tmp_path):
    made = make_series(tmp_path, slope=-1, intercept=0)
    assert made.hu.min() == -1024
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_values_of_metal_beyond_int16_stop_at_its_end(tmp_path):
    stored = np.zeros((2, 32, 32), np.uint16)
    stored[1, 9, 9], stored[0, 8:24, 8:24] = 65535, 33675
    make_series(tmp_path, slices=2, stored=stored, slope=3, intercept=-100_000)
    volume = read(tmp_path)
    assert np.unique(volume.hu).tolist() == [-1024, 1025, 32767]
    assert notes(volume)["CLIPPED"].text == "1 voxels above 32,767 HU were set to 32,767"


def values_of(folder):
    """The values of each image before anybody asks whether they can be HU."""
    return [hounsfield(decode(read_stored(s), s), s) for s in choose_series(scan_folder(folder)).slices]


@pytest.mark.parametrize("signed", [False, True])
def test_32_bit_values_do_not_wrap(tmp_path, signed):
    kind = np.int32 if signed else np.uint32
    stored = np.array([np.iinfo(kind).min, 0, 7, np.iinfo(kind).max], kind).reshape(1, 2, 2).repeat(2, 0)
    make_series(tmp_path, slices=2, size=2, stored=stored, bits=32, signed=signed, intercept=5)
    expected = [-(2**31) + 5, 5, 12, 2**31 + 4] if signed else [5, 5, 12, 2**32 + 4]
    assert values_of(tmp_path)[0].ravel().tolist() == expected


@pytest.mark.parametrize(("signed", "first"), [(False, 10), (True, -500)])
def test_a_modality_table_replaces_the_rescale_as_in_pydicom(tmp_path, signed, first):
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    table = np.random.default_rng(3).integers(0, 3000, 2000)

    def edit(dataset, n):
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.ModalityLUTSequence = [lut_item(first, np.roll(table, n), signed=signed)]

    made = make_series(tmp_path, signed=signed, edit=edit)
    oracle = [apply_modality_lut(made.stored[n], dcmread(path)) for n, path in enumerate(made.files)]
    np.testing.assert_array_equal(read(tmp_path).hu, oracle)


def test_a_modality_table_of_undefined_length_in_implicit_vr_is_read_too(tmp_path):
    def edit(dataset, n):
        dataset.ModalityLUTSequence = [lut_item(0, np.arange(3000)[::-1])]
        dataset["ModalityLUTSequence"].is_undefined_length = True

    made = make_series(tmp_path, syntax=ImplicitVRLittleEndian, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, 2999 - made.stored.astype(int))


def test_a_modality_table_shorter_than_it_says_is_refused(tmp_path):
    def edit(dataset, n):
        dataset.ModalityLUTSequence = [lut_item(0, range(100))]
        dataset.ModalityLUTSequence[0].LUTDescriptor = [200, 0, 16]

    make_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "MALFORMED"


def test_equal_pixels_under_other_modality_tables_are_no_doubles(tmp_path):
    made = make_series(
        tmp_path, edit=lambda d, n: setattr(d, "ModalityLUTSequence", [lut_item(0, range(3000))])
    )
    (tmp_path / "copy.dcm").write_bytes(made.files[2].read_bytes())
    rewrite(tmp_path / "copy.dcm", lambda d: setattr(d, "ModalityLUTSequence", [lut_item(1, range(3000))]))
    assert refusal(tmp_path).code == "UID_CONFLICT"


@pytest.mark.parametrize(("kind", "told"), [("HU", False), ("HU_MOD", False), (None, False), ("US", True)])
def test_values_in_another_unit_than_hu_are_told_loudly(tmp_path, kind, told):
    make_series(
        tmp_path, edit=lambda d, n: setattr(d, "RescaleType", kind) if kind else delattr(d, "RescaleType")
    )
    found = notes(read(tmp_path))
    assert ("RESCALE_TYPE" in found) == told
    assert not told or found["RESCALE_TYPE"].loud


# Padding


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_padding_becomes_air_whatever_vr_its_writer_chose(tmp_path, vr, syntax):
    stored = np.random.default_rng(0).integers(-1000, 2000, (12, 16, 16)).astype(np.int16)
    stored[:, :4] = -2000

    def edit(dataset, n):
        dataset.add_new("PixelPaddingValue", vr, -2000 if vr == "SS" else 63536)

    made = make_series(
        tmp_path, size=16, stored=stored, signed=True, intercept=1000, syntax=syntax, edit=edit
    )
    expected = np.where(stored == -2000, -1024, stored + 1000)
    assert made.hu[0, 0, 0] == -1000
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, expected)
    assert "PADDING" not in notes(volume)


@pytest.mark.parametrize(("value", "limit"), [(0, 9), (9, 0), (65535, 65530)])
def test_a_padding_range_is_inclusive_in_either_order(tmp_path, value, limit):
    stored = np.random.default_rng(0).integers(0, 20, (3, 16, 16)).astype(np.uint16)
    stored[2] = 65525 + stored[2] % 11

    def edit(dataset, n):
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = value, limit

    make_series(tmp_path, slices=3, size=16, stored=stored, intercept=-500, edit=edit)
    low, high = sorted((value, limit))
    inside = (stored >= low) & (stored <= high)
    series = choose_series(scan_folder(tmp_path))
    found = [padding_of(decode(read_stored(item), item), item) for item in series.slices]
    np.testing.assert_array_equal(found, inside)


def test_declared_padding_becomes_air(tmp_path):
    stored = np.full((3, 16, 16), 1064, np.uint16)
    stored[:, :, :4], stored[:, 5, 5] = 65525, 24
    make_series(tmp_path, slices=3, size=16, stored=stored,
                edit=lambda d, n: setattr(d, "PixelPaddingValue", 65525))  # fmt: skip
    hu = np.full((3, 16, 16), 40)
    hu[:, :, :4], hu[:, 5, 5] = -1024, -1000
    np.testing.assert_array_equal(read(tmp_path).hu, hu)


def test_padding_at_the_value_of_tissue_is_told_loudly(tmp_path):
    make_series(tmp_path, intercept=0, edit=lambda d, n: setattr(d, "PixelPaddingValue", 40))
    note = notes(read(tmp_path))["PADDING"]
    assert note.loud
    assert note.text == "padding at 40 HU was turned into air as the header says"


# What is a CT image


def test_monochrome1_is_not_inverted(tmp_path):
    made = make_series(tmp_path, edit=lambda d, n: setattr(d, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(read(tmp_path).hu, made.stored.astype(int) - 1024)


def test_a_marked_localizer_is_left_out_and_told(tmp_path):
    made = make_series(tmp_path)
    make_series(tmp_path, slices=1, size=48, cosines=(1, 0, 0, 0, 0, -1), name="scout.dcm",
                edit=lambda d, n: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    assert [note.text for note in scan_folder(tmp_path).notes] == ["1 localizers left out"]


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)])
def test_an_unmarked_localizer_is_left_out_and_told(tmp_path, cosines):
    made = make_series(tmp_path, name="m{}")
    make_series(tmp_path, slices=2, size=48, cosines=cosines, name="a{}", seed=5)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    assert scan_folder(tmp_path).notes[0].text == "2 images in another orientation than the series left out"


def test_two_images_turned_a_little_are_no_localizers(tmp_path):
    c, s = np.cos(np.radians(5)), np.sin(np.radians(5))
    make_series(tmp_path, name="m{}")
    make_series(tmp_path, slices=2, cosines=(1, 0, 0, 0, c, s), origin_mm=(0, 0, 80), name="z{}", seed=5)
    assert refusal(tmp_path).code == "SEVERAL_SERIES"


def test_one_slice_of_nonsensical_orientation_is_not_taken_for_a_localizer(tmp_path):
    make_series(tmp_path, edits={11: lambda d, n: d.add_new("ImageOrientationPatient", "DS", ["nan"] * 6)})
    assert refusal(tmp_path).code == "NO_GEOMETRY"
    make_series(tmp_path, edits={11: lambda d, n: d.add_new("ImageOrientationPatient", "DS", ["9"] * 6)})
    assert refusal(tmp_path).code == "SEVERAL_SERIES"


def test_secondary_captures_dose_pages_and_colour_are_left_out_and_told(tmp_path):
    made = make_series(tmp_path)

    def capture(dataset, n):
        dataset.SOPClassUID, dataset.ImageType = SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY"]

    def page(dataset, n):
        dataset.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]

    def colour(dataset, n):
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.PixelData = dataset.PixelData * 3

    for number, edit in enumerate((capture, page, colour)):
        make_series(
            tmp_path, slices=1, edit=edit, name=f"x{number}", seed=number, series=f"{SERIES}.{number}"
        )
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)
    texts = [note.text for note in scan_folder(tmp_path).notes]
    assert texts == ["1 colour images left out", "1 dose pages left out", "1 secondary captures left out"]


@pytest.mark.parametrize(
    ("sop_class", "modality"), [(MRImageStorage, "MR"), (PositronEmissionTomographyImageStorage, "PT")]
)
def test_a_folder_of_another_modality_is_refused(tmp_path, sop_class, modality):
    def edit(dataset, n):
        dataset.SOPClassUID, dataset.Modality = sop_class, modality

    make_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert str(error) == (
        f"NOT_CT: DICOM files but no CT image (12 of modality {modality}); expected a CT series; "
        "name the folder of the CT series"
    )


def test_a_modality_that_the_standard_does_not_know_is_not_quoted(tmp_path):
    def edit(dataset, n):
        dataset.SOPClassUID = MRImageStorage
        set_text(dataset, "Modality", "DOE^JANE")

    make_series(tmp_path, slices=1, edit=edit)
    assert "1 of modality unknown" in str(refusal(tmp_path))


def test_a_scanners_raw_data_of_a_private_class_are_no_image(tmp_path):
    made = make_series(tmp_path)

    def edit(dataset, n):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.3.12.2.1107.5.9.1"
        for keyword in ("PixelData", "Rows", "Columns"):
            delattr(dataset, keyword)

    make_series(tmp_path, slices=1, series="1.2.826.0.9", name="raw", edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_an_image_of_another_modality_in_the_same_series_is_refused(tmp_path):
    def edit(dataset, n):
        dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"

    make_series(tmp_path, edits={11: edit})
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("BAD_HEADER", "file 12 of 12")
    assert error.received == "an image of another modality in the same series"


def test_a_segmentation_under_the_series_uid_of_its_ct_is_tolerated(tmp_path):
    def edit(dataset, n):
        dataset.SOPClassUID, dataset.Modality = SegmentationStorage, "SEG"

    made = make_series(tmp_path)
    make_series(tmp_path, slices=1, name="seg", edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


@pytest.mark.parametrize("keyword", ["Modality", "SOPClassUID"])
def test_an_image_that_is_half_ct_is_refused_and_not_skipped(tmp_path, keyword):
    value = {"Modality": "CU", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.999"}[keyword]
    make_series(tmp_path, edits={11: lambda d, n: setattr(d, keyword, value)})
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("BAD_HEADER", "file 12 of 12")


@pytest.mark.parametrize("keyword", ["Modality", "SOPClassUID"])
def test_an_image_without_modality_is_refused_and_without_sop_class_it_is_read(tmp_path, keyword):
    def edit(dataset, n):
        delattr(dataset, keyword)
        dataset.file_meta.pop("MediaStorageSOPClassUID", None)

    made = make_series(tmp_path, edit=edit)
    if keyword == "Modality":
        assert refusal(tmp_path).code == "BAD_HEADER"
    else:
        np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


# Several series


def test_several_series_in_a_folder_are_listed_and_one_is_chosen_by_number(tmp_path):
    make_series(tmp_path, name="b{}", series=f"{SERIES}.8")
    two = make_series(tmp_path, slices=7, size=16, name="c{}", series=f"{SERIES}.9", seed=4)
    error = refusal(tmp_path)
    assert str(error) == (
        "SEVERAL_SERIES: 2 CT series (1: 12 images of 32 x 32; 2: 7 images of 16 x 16) that differ in "
        "SeriesInstanceUID, size; expected one; "
        "name the folder of one, or with --mask its number: --series NUMBER"
    )
    np.testing.assert_array_equal(read(tmp_path, number=2).hu, two.hu)
    with pytest.raises(DataError, match=r"^NO_SERIES: series number 3; expected 1 to 2"):
        choose_series(scan_folder(tmp_path), 3)


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "ROE"}, {"PatientID": ""}, {"ConvolutionKernel": "B70f"}, {"FrameOfReferenceUID": "1.2.3"},
        {"PixelSpacing": [0.7, 0.7]}, {"PixelSpacing": [0.8, 0.9]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.9998, 0.02]},
    ],
)  # fmt: skip
def test_what_does_not_belong_together_under_one_uid_is_refused(tmp_path, change):
    def edit(dataset, n):
        if n >= 6:
            for keyword, value in change.items():
                setattr(dataset, keyword, value)

    make_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert error.code == "SEVERAL_SERIES"
    assert "1: 6 images of 32 x 32; 2: 6 images of 32 x 32" in error.received


def test_slices_of_several_sizes_are_refused(tmp_path):
    make_series(tmp_path, slices=6, name="a{}")
    make_series(tmp_path, slices=6, size=16, origin_mm=(-100, -120, 65), name="b{}")
    assert refusal(tmp_path).code == "SEVERAL_SERIES"


def test_blanks_around_a_patient_id_do_not_make_another_patient(tmp_path):
    made = make_series(tmp_path, edit=lambda d, n: setattr(d, "PatientID", ["12", " 12 ", "12 "][n % 3]))
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.identity.patient_id == "12"


def test_blank_uids_are_no_obstacle(tmp_path):
    def edit(dataset, n):
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            dataset.add_new(keyword, "UI", "")
        dataset.file_meta.MediaStorageSOPInstanceUID = ""

    made = make_series(tmp_path / "one", edit=edit)
    volume = read(tmp_path / "one")
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.identity.instance_uids == ()
    make_series(tmp_path / "two", edit=edit, seed=1)
    assert refusal(tmp_path).code == "SEVERAL_SERIES"


@pytest.mark.parametrize("value", ["../../../../x", "a\0b", "x" * 5000, "Müller^Jörg", "\\\\", "%s{}"])
def test_hostile_identifiers_are_only_ever_values(tmp_path, value):
    def edit(dataset, n):
        for keyword in ("PatientID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            set_text(dataset, keyword, value)

    made = make_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_a_patient_id_of_a_megabyte_is_refused(tmp_path):
    def edit(dataset, n):
        set_text(dataset, "PatientID", "x" * 2**20)

    make_series(tmp_path, slices=1, syntax=ImplicitVRLittleEndian, edit=edit)
    assert refusal(tmp_path).code == "TOO_LARGE"


def test_burned_in_annotation_is_refused_and_allowed_by_name(tmp_path):
    make_series(tmp_path, edits={3: lambda d, n: setattr(d, "BurnedInAnnotation", "YES")})
    error = refusal(tmp_path)
    assert (error.code, error.where) == ("BURNED_IN", "file 4 of 12")
    assert notes(read(tmp_path, "burned-in"))["BURNED_IN"].loud


def test_lossy_compression_is_told(tmp_path):
    make_series(tmp_path, edit=lambda d, n: setattr(d, "LossyImageCompression", "01"))
    assert notes(read(tmp_path))["LOSSY"].text == "12 images were compressed with loss"


def test_an_unknown_relaxation_is_refused():
    with pytest.raises(
        DataError, match=r"^USAGE: the relaxation 'tilts'; expected one of gap, tilt, .*correct --allow"
    ):
        check_allow(frozenset({"gap", "tilts"}))
    assert check_allow(frozenset({"gap"})) == {"gap"}
