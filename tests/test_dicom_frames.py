"""Multi-frame files: frames have positions and a rescale of their own, in any order (facts: pitfall 10)."""

import numpy as np
import pytest
from made.series import make_enhanced, make_series, read, refusal, set_text
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage, RLELossless


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 1, 0, 4, 2)])
def test_frames_of_an_enhanced_file_come_in_the_order_of_their_positions(tmp_path, order, syntax):
    made = make_enhanced(tmp_path, order=order, syntax=syntax)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.8, 0.8))
    assert len(volume.identity.instance_uids) == 5
    assert volume.identity.file_names == ()


def test_frames_have_their_own_rescale(tmp_path):
    made = make_enhanced(tmp_path, order=(2, 0, 1), slopes=(0.5, 1, 2))
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_a_legacy_converted_file_is_read_and_its_unassigned_attributes_are_not_believed(tmp_path):
    def edit(dataset):
        stale = Dataset()
        stale.ImagePositionPatient, stale.RescaleSlope, stale.PixelSpacing = [0, 0, 0], 9, [9, 9]
        for groups in (*dataset.PerFrameFunctionalGroupsSequence, *dataset.SharedFunctionalGroupsSequence):
            groups.UnassignedPerFrameConvertedAttributesSequence = [stale]
            groups.UnassignedSharedConvertedAttributesSequence = [stale]

    made = make_enhanced(
        tmp_path, order=(1, 0, 2), sop_class=LegacyConvertedEnhancedCTImageStorage, edit=edit
    )
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_groups_of_undefined_length_are_read(tmp_path):
    def edit(dataset):
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            groups.is_undefined_length_sequence_item = True

    made = make_enhanced(tmp_path, order=(1, 0, 2), edit=edit)
    np.testing.assert_array_equal(read(tmp_path).hu, made.hu)


def test_frames_spread_over_two_enhanced_files_are_one_stack(tmp_path):
    def move(number, depths):
        def edit(dataset):
            dataset.SOPInstanceUID = f"1.2.826.9.{number}"
            for groups, z in zip(dataset.PerFrameFunctionalGroupsSequence, depths, strict=True):
                groups.PlanePositionSequence[0].ImagePositionPatient = [-100, -120, z]

        return edit

    a = make_enhanced(tmp_path, order=(2, 1, 0), name="a.dcm", edit=move(1, [60, 55, 50])).hu
    b = make_enhanced(tmp_path, order=(1, 0), name="b.dcm", seed=1, edit=move(2, [57.5, 52.5])).hu
    np.testing.assert_array_equal(read(tmp_path).hu, [a[0], b[0], a[1], b[1], a[2]])


def test_frames_without_positions_are_refused(tmp_path):
    def edit(dataset):
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            del groups.PlanePositionSequence

    make_enhanced(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert (error.code, error.received) == ("NO_GEOMETRY", "no ImagePositionPatient")


def test_frames_without_rescale_are_refused(tmp_path):
    def edit(dataset):
        del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence

    make_enhanced(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "BAD_RESCALE"


@pytest.mark.parametrize("count", [4, 6, 0, -1, "1A"])
def test_a_number_of_frames_unlike_the_groups_is_refused(tmp_path, count):
    make_enhanced(tmp_path, edit=lambda d: set_text(d, "NumberOfFrames", str(count)))
    assert refusal(tmp_path).code == "MALFORMED"


def test_a_classic_file_of_many_frames_is_refused(tmp_path):
    def edit(dataset, n):
        dataset.NumberOfFrames = 3
        dataset.PixelData = dataset.PixelData * 3

    make_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert (error.code, error.received) == ("FRAMES", "3 frames without a position each")


def test_a_repeated_frame_is_dropped_and_another_one_at_its_position_is_refused(tmp_path):
    def repeat(dataset):
        groups = dataset.PerFrameFunctionalGroupsSequence
        groups[3].PlanePositionSequence[0].ImagePositionPatient = [-100, -120, 55]
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(5, 32, 32).copy()
        pixels[3] = pixels[2]
        dataset.PixelData = pixels.tobytes()

    def contradict(dataset):
        repeat(dataset)
        dataset.PixelData = dataset.PixelData[:-3000] + b"\1" * 3000

    make_enhanced(tmp_path / "same", order=(0, 1, 2, 3, 4), edit=repeat)
    volume = read(tmp_path / "same", "gap")
    assert len(volume.hu) == 4
    assert [(note.code, note.text) for note in volume.notes if note.code != "GAP"] == [
        ("DUPLICATE", "1 repeated images dropped")
    ]
    make_enhanced(tmp_path / "other", edit=contradict)
    assert refusal(tmp_path / "other", "gap").code == "DUPLICATE"
