import numpy as np
import pytest
from made.masks import FRAME, codes, made_grid, made_labels, made_volume, refusal, save, source_images
from pydicom.uid import RLELossless

from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.masks import read_mask

LIVER = (OrganRule("liver"),)


def save_series(folder, labels, grid, *, names=None, series="1.2.4", change=None):
    """One image for each slice, Modality CT, values as given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(source_images(grid)):
        image.SeriesInstanceUID = series
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = labels[number].astype("<u2").tobytes()
        if change:
            change(number, image)
        save(image, folder / (names[number] if names else f"image_{number}"))
    return folder


def test_a_series_of_0_and_255_is_sorted_by_position_whatever_the_names(tmp_path):
    volume = made_volume()
    labels = (made_labels() == 1) * 255
    folder = save_series(tmp_path / "m", labels, volume.grid, names=["z", "b", "10", "9", "a", "1"])
    mask = read_mask(folder, volume, LIVER)
    np.testing.assert_array_equal(mask.labels, made_labels() == 1)
    assert (mask.kind, codes(mask)) == ("dicom-series", ["VALUE_255"])


def test_a_folder_with_a_series_for_each_organ_is_read_by_name(tmp_path):
    volume, labels = made_volume(), made_labels()
    for name, value in (("liver", 1), ("leftkidney", 2), ("venoussystem", 3)):
        save_series(tmp_path / "MASKS_DICOM" / name, (labels == value) * 255, volume.grid)
    rules = (parse_rule("kidney=leftkidney,rightkidney"), OrganRule("liver"))
    mask = read_mask(tmp_path / "MASKS_DICOM", volume, rules)
    np.testing.assert_array_equal(mask.labels, np.array([0, 2, 1])[labels])
    assert codes(mask) == ["VALUE_255"]
    recognised = read_mask(tmp_path / "MASKS_DICOM", volume)
    assert recognised.organs == ("kidney", "liver")


def test_a_label_map_series_takes_named_values(tmp_path):
    volume = made_volume()
    folder = save_series(tmp_path / "m", made_labels(), volume.grid)
    mask = read_mask(folder, volume, (parse_rule("spleen=2"), parse_rule("liver=1")))
    np.testing.assert_array_equal(mask.labels, np.array([0, 2, 1])[made_labels()])
    assert mask.notes == ()


def test_compressed_series_are_read(tmp_path):
    volume = made_volume()
    compress = lambda number, image: image.compress(RLELossless, generate_instance_uid=False)  # noqa: E731
    folder = save_series(tmp_path / "m", made_labels(), volume.grid, change=compress)
    mask = read_mask(folder, volume, (parse_rule("liver=1"),))
    np.testing.assert_array_equal(mask.labels, made_labels() == 1)


def test_a_ct_taken_for_a_mask_is_refused(tmp_path):
    volume = made_volume()
    folder = save_series(tmp_path / "m", volume.hu + 1024, volume.grid)
    error = refusal(folder, volume, LIVER)
    assert error.code == "LABEL_VALUE"


def test_a_series_of_another_place_or_frame_of_reference_is_refused(tmp_path):
    volume = made_volume()
    elsewhere = save_series(tmp_path / "a", made_labels(), made_grid(origin=(-20.0, -30.0, 101.0)))
    assert refusal(elsewhere, volume, (parse_rule("liver=1"),)).code == "GEOMETRY"

    def rename(number, image):
        image.FrameOfReferenceUID = FRAME + ".9"

    other = save_series(tmp_path / "b", made_labels(), volume.grid, change=rename)
    assert refusal(other, volume, (parse_rule("liver=1"),)).code == "FRAME_OF_REFERENCE"


def test_a_missing_slice_is_refused(tmp_path):
    volume = made_volume()
    folder = save_series(tmp_path / "m", made_labels(), volume.grid)
    (folder / "image_3").unlink()
    assert refusal(folder, volume, (parse_rule("liver=1"),)).code == "GEOMETRY"


@pytest.mark.parametrize(
    ("tag", "value", "code"),
    [
        ("SeriesInstanceUID", "1.2.99", "AMBIGUOUS"),
        ("PixelSpacing", [1, 2], "NO_GEOMETRY"),
        ("PixelSpacing", [0, 0], "NO_GEOMETRY"),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], "NO_GEOMETRY"),
        ("ImagePositionPatient", [-20, -30, 100], "NO_GEOMETRY"),
        ("Rows", 65_535, "MALFORMED"),
        ("PixelData", b"\0\0", "MALFORMED"),
        ("SamplesPerPixel", 3, "MASK_KIND"),
        ("NumberOfFrames", 2, "MASK_KIND"),
    ],
)
def test_a_series_that_does_not_belong_together_is_refused(tmp_path, tag, value, code):
    volume = made_volume()

    def change(number, image):
        if number == 3:
            setattr(image, tag, value)

    folder = save_series(tmp_path / "m", made_labels(), volume.grid, change=change)
    assert refusal(folder, volume, (parse_rule("liver=1"),)).code == code


def test_absurd_sizes_are_refused_before_decoding(tmp_path):
    volume = made_volume()

    def change(number, image):
        image.Rows = image.Columns = 65_535

    folder = save_series(tmp_path / "m", made_labels(), volume.grid, change=change)
    assert refusal(folder, volume, (parse_rule("liver=1"),)).code == "TOO_LARGE"
