import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from made.masks import (
    REAL,
    codes,
    made_grid,
    made_labels,
    made_seg,
    made_volume,
    real_volume,
    refusal,
    rotation,
    save,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from kerasbalance.data.ingest.organ_check import hu_spread
from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.masks import read_mask
from kerasbalance.data.volume.geometry import Grid

pytestmark = pytest.mark.filterwarnings("ignore:The string .* is unlikely to represent the intended person")

DCMQI = shutil.which("segimage2itkimage") or shutil.which(
    "segimage2itkimage", path=Path(sys.executable).parent
)


def channels(labels=None):
    labels = made_labels() if labels is None else labels
    return np.stack([labels == 1, labels == 2], axis=-1)


@pytest.fixture(scope="module")
def seg_path(tmp_path_factory):
    return save(made_seg(channels(), made_grid()), tmp_path_factory.mktemp("seg") / "s.dcm")


def test_segments_are_recognised_by_code_and_placed_by_position(seg_path):
    mask = read_mask(seg_path, made_volume())
    assert (mask.organs, mask.kind, mask.notes) == (("liver", "spleen"), "dicom-seg", ())
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_segment_counts_equal_highdicoms(seg_path):
    mask = read_mask(seg_path, made_volume())
    volume = highdicom.seg.segread(seg_path).get_volume(combine_segments=True)
    expected = [int((volume.array == number).sum()) for number in (1, 2)]
    assert [int((mask.labels == number).sum()) for number in (1, 2)] == expected


@pytest.mark.skipif(not DCMQI, reason="dcmqi (segimage2itkimage) is not installed")
def test_segment_counts_equal_dcmqis(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = save(made_seg(channels(), made_grid()), tmp_path / "s.dcm")
    command = [DCMQI, "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nifti"]
    subprocess.run([*command, "--mergeSegments"], check=True, capture_output=True)
    (merged,) = tmp_path.glob("*.nii.gz")
    theirs = np.asarray(nibabel.load(merged).dataobj)
    mask = read_mask(path, made_volume())
    assert [int((mask.labels == n).sum()) for n in (1, 2)] == [int((theirs == n).sum()) for n in (1, 2)]
    again = read_mask(merged, made_volume(), (parse_rule("liver=1"), parse_rule("spleen=2")), resample=True)
    np.testing.assert_array_equal(again.labels, mask.labels)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("spleen",), [0, 0, 1]),
        (("spleen=2", "liver=1"), [0, 2, 1]),
        (("target=liver",), [0, 1, 0]),
        (("target=LIVER,2",), [0, 1, 1]),
        (("liver", "kidney"), [0, 1, 0]),
    ],
)
def test_rules_choose_segments_by_number_or_label(seg_path, rules, expected):
    mask = read_mask(seg_path, made_volume(), tuple(map(parse_rule, rules)))
    np.testing.assert_array_equal(mask.labels, np.array(expected)[made_labels()])
    assert mask.organs == tuple(rule.partition("=")[0] for rule in rules)
    assert codes(mask) == (["EMPTY"] if "kidney" in rules else [])


def test_frames_in_any_order_and_absent_frames_are_placed_right(tmp_path):
    dataset = made_seg(channels(), made_grid())
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    pixels = np.stack(list(pydicom.pixels.iter_pixels(dataset, raw=True)))
    order = np.random.default_rng(1).permutation(len(frames))
    dataset.PerFrameFunctionalGroupsSequence = [frames[n] for n in order]
    dataset.PixelData = pydicom.pixels.pack_bits(pixels[order])
    assert len(frames) < 2 * made_labels().shape[0]
    mask = read_mask(save(dataset, tmp_path / "s.dcm"), made_volume())
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_overlapping_segments_go_to_the_first_named_organ(tmp_path):
    both = channels()
    both[..., 1] |= both[..., 0]
    path = save(made_seg(both, made_grid()), tmp_path / "s.dcm")
    mask = read_mask(path, made_volume())
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert [(n.code, f"{int((made_labels() == 1).sum()):,}" in n.text) for n in mask.notes] == [
        ("OVERLAP", True)
    ]
    other = read_mask(path, made_volume(), (OrganRule("spleen"), OrganRule("liver")))
    np.testing.assert_array_equal(other.labels, np.where(made_labels() > 0, 1, 0))


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_label_map_segmentations_are_read(tmp_path, syntax):
    options = {} if syntax is None else {"transfer_syntax_uid": syntax}
    path = save(made_seg(made_labels(), made_grid(), kind="LABELMAP", **options), tmp_path / "s.dcm")
    mask = read_mask(path, made_volume())
    np.testing.assert_array_equal(mask.labels, made_labels())
    one = read_mask(path, made_volume(), (OrganRule("spleen"),))
    np.testing.assert_array_equal(one.labels, made_labels() == 2)


@pytest.mark.parametrize("fractional_type", ["PROBABILITY", "OCCUPANCY"])
def test_fractional_segmentations_are_cut_at_half_of_their_maximum(tmp_path, fractional_type):
    shares = channels() * 0.6 + np.random.default_rng(0).uniform(0, 0.39, (*made_labels().shape, 2))
    seg = made_seg(
        shares, made_grid(), kind="FRACTIONAL", fractional_type=fractional_type, max_fractional_value=200
    )
    mask = read_mask(save(seg, tmp_path / "s.dcm"), made_volume())
    assert "FRACTIONAL" in codes(mask)
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_an_empty_segmentation_is_kept_with_a_loud_note(tmp_path):
    empty = channels() & False
    path = save(made_seg(empty, made_grid(), omit_empty_frames=False), tmp_path / "s.dcm")
    mask = read_mask(path, made_volume())
    assert not mask.labels.any()
    assert [(n.code, n.loud) for n in mask.notes] == [("EMPTY", True)]


def test_another_frame_of_reference_is_refused_unless_allowed(seg_path, tmp_path):
    dataset = pydicom.dcmread(seg_path)
    dataset.FrameOfReferenceUID = "1.2.3.4.5"
    path = save(dataset, tmp_path / "s.dcm")
    error = refusal(path, made_volume(), ())
    assert error.code == "FRAME_OF_REFERENCE"
    assert "1.2.3.4.5" not in str(error)
    mask = read_mask(path, made_volume(), allow=frozenset({"frame-of-reference", "gap"}))
    assert [(n.code, n.loud) for n in mask.notes] == [("FRAME_OF_REFERENCE", True)]


@pytest.mark.parametrize("shift", [(0, 0, 1.5), (2.0, 0, 0), (0, 0, 300.0)])
def test_a_segmentation_that_lies_elsewhere_is_refused(tmp_path, shift):
    grid = made_grid(origin=tuple(np.add((-20.0, -30.0, 100.0), shift)))
    path = save(made_seg(channels(), grid), tmp_path / "s.dcm")
    assert refusal(path, made_volume(), ()).code == "GEOMETRY"


def test_segmented_voxels_outside_the_ct_are_counted(tmp_path):
    long = made_grid((9, 40, 48), origin=(-20.0, -30.0, 91.0))
    labels = np.concatenate([np.ones((3, 40, 48), np.uint8), made_labels()])
    path = save(made_seg(channels(labels), long), tmp_path / "s.dcm")
    mask = read_mask(path, made_volume())
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert [(n.code, n.loud) for n in mask.notes] == [("OUTSIDE", True)]
    assert f"{3 * 40 * 48:,}" in mask.notes[0].text


def test_a_finer_segmentation_is_resampled_only_when_asked(tmp_path):
    fine = made_grid((6, 80, 96), spacing=(3.0, 0.75, 0.5), origin=(-20.25, -30.375, 100))
    path = save(made_seg(channels(made_labels().repeat(2, 1).repeat(2, 2)), fine), tmp_path / "s.dcm")
    assert refusal(path, made_volume(), ()).code == "GEOMETRY"
    mask = read_mask(path, made_volume(), resample=True)
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert codes(mask) == ["RESAMPLED", "COVERAGE"]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [1, -1])
def test_segmentations_of_coronal_and_sagittal_series_are_turned(tmp_path, axis, side):
    # The CT was acquired with `axis` of the canonical frame as its slice axis; only slices with organs have frames.
    shape, turn = (30, 33, 36), rotation((0.1, -0.2, 0.15))
    labels = made_labels(shape)
    canonical = made_grid(shape, spacing=(2.0, 1.5, 1.0), turn=turn)
    order = {0: (0, 1, 2), 1: (1, 0, 2), 2: (2, 0, 1)}[axis]
    affine = canonical.affine()
    columns = np.stack([affine[:3, 2 - n] for n in order[::-1]], axis=1)
    origin, acquired = affine[:3, 3], labels.transpose(order)
    if side < 0:
        origin, acquired = origin + columns[:, 2] * (acquired.shape[0] - 1), acquired[::-1]
        columns = columns * [1, 1, -1]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = columns, origin
    grid = Grid.from_affine(acquired.shape, matrix)
    path = save(made_seg(channels(acquired), grid), tmp_path / "s.dcm")
    mask = read_mask(path, made_volume(labels, canonical))
    np.testing.assert_array_equal(mask.labels, labels)
    assert mask.notes == ()


def test_frames_of_an_uneven_series_are_placed_by_position(tmp_path):
    even = made_grid()
    positions = even.positions_mm + np.array([[0, 0, z] for z in (0, 0, 0, 3, 3, 7)])
    grid = Grid(even.shape, positions, even.row_step_mm, even.column_step_mm)
    path = save(made_seg(channels(), grid), tmp_path / "s.dcm")
    np.testing.assert_array_equal(read_mask(path, made_volume(grid=grid)).labels, made_labels())


def test_a_folder_with_the_series_and_one_segmentation_takes_the_segmentation(seg_path, tmp_path):
    shutil.copy(seg_path, tmp_path / "0001")
    mask = read_mask(tmp_path, made_volume())
    assert mask.kind == "dicom-seg"
    shutil.copy(seg_path, tmp_path / "0002")
    np.testing.assert_array_equal(read_mask(tmp_path, made_volume()).labels, mask.labels)


def test_names_of_segments_are_shown_only_when_they_are_plain(tmp_path):
    seg = made_seg(channels(), made_grid(), names=("Left lung", "Canary Jane"))
    error = refusal(save(seg, tmp_path / "s.dcm"), made_volume(), (OrganRule("liver"),))
    assert error.code == "LABEL_NAME"
    assert "segment 1 (left lung), segment 2;" in str(error)
    assert "canary" not in str(error).lower()


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize("broken", ["position", "frames", "bombs", "columns", "pixels", "orientation"])
def test_broken_segmentations_are_refused_in_words(seg_path, tmp_path, broken):
    dataset = pydicom.dcmread(seg_path)
    expected = {"MALFORMED"}
    if broken == "position":
        dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [
            0,
            0,
            "nan",
        ]
        expected = {"NO_GEOMETRY"}
    elif broken == "frames":
        del dataset.PerFrameFunctionalGroupsSequence[3]
    elif broken == "bombs":
        dataset.NumberOfFrames = 2_000_000
    elif broken == "columns":
        dataset.Rows = dataset.Columns = 65_535
        expected = {"TOO_LARGE"}
    elif broken == "pixels":
        dataset.PixelData = dataset.PixelData[:100]
    else:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
        expected = {"NO_GEOMETRY"}
    assert refusal(save(dataset, tmp_path / "s.dcm"), made_volume(), ()).code in expected


def test_frames_of_segments_that_nobody_asked_for_are_not_interpreted(seg_path, tmp_path):
    dataset, whole = pydicom.dcmread(seg_path), read_mask(seg_path, made_volume(), (OrganRule("spleen"),))
    left_out = [item for item in dataset.PerFrameFunctionalGroupsSequence
                if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1]  # fmt: skip
    for item in left_out:
        del item.PlanePositionSequence
    dataset.save_as(tmp_path / "seg.dcm")
    mask = read_mask(tmp_path / "seg.dcm", made_volume(), (OrganRule("spleen"),))
    np.testing.assert_array_equal(mask.labels, whole.labels)
    assert refusal(tmp_path / "seg.dcm", made_volume(), ()).code == "NO_GEOMETRY"


@pytest.mark.filterwarnings("ignore:.*File Meta Information")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_segmentation_without_the_header_of_a_file_is_read(tmp_path, syntax):
    dataset = made_seg(channels(), made_grid())
    bare = pydicom.Dataset(dataset)
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(
        tmp_path / "s.dcm", bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False
    )
    assert (tmp_path / "s.dcm").read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_mask(tmp_path / "s.dcm", made_volume()).labels, made_labels())


@pytest.mark.parametrize(("digit", "is_taken"), [("0.99999999", True), ("0.9999", True), ("0.99", False)])
def test_last_digits_of_the_orientation_in_each_frame_do_not_matter(seg_path, tmp_path, digit, is_taken):
    dataset = pydicom.dcmread(seg_path)
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        orientation = pydicom.Dataset()
        orientation.ImageOrientationPatient = [1, 0, 0, 0, digit if number % 2 else 1, 0]
        frame.PlaneOrientationSequence = [orientation]
    path = save(dataset, tmp_path / "s.dcm")
    if is_taken:
        np.testing.assert_array_equal(read_mask(path, made_volume()).labels, made_labels())
    else:
        assert refusal(path, made_volume(), ()).code == "NO_GEOMETRY"


def test_a_deflated_file_is_refused_before_it_is_inflated(seg_path, tmp_path):
    dataset = pydicom.dcmread(seg_path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert refusal(save(dataset, tmp_path / "s.dcm"), made_volume(), ()).code == "DEFLATED"


def test_a_deflated_file_is_refused_wherever_its_transfer_syntax_stands(seg_path, tmp_path, monkeypatch):
    dataset = pydicom.dcmread(seg_path)
    dataset.file_meta.ImplementationVersionName = "X"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2"
    dataset.file_meta.PrivateInformation = b"\1" * 100_000
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(dataset, tmp_path / "s.dcm")
    content = path.read_bytes()
    # The transfer syntax is moved behind 100 kB of private information.
    element = content.index(b"\2\0\x10\0UI")
    length = 8 + int.from_bytes(content[element + 6 : element + 8], "little")
    end = content.index(b"\1" * 100_000) + 100_000
    moved = content[:element] + content[element + length : end] + content[element : element + length]
    path.write_bytes(moved + content[end:])
    monkeypatch.setattr("zlib.decompressobj", lambda *_: pytest.fail("it was inflated"))
    assert refusal(path, made_volume(), ()).code == "DEFLATED"


def test_sequences_nested_without_end_are_refused_in_words(tmp_path):
    level = b"\x08\x00\x40\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    element = b"\x08\x00\x16\x00UI\x1c\x001.2.840.10008.5.1.4.1.1.66.4"
    (tmp_path / "s.dcm").write_bytes(element + level * 20_000)
    assert refusal(tmp_path / "s.dcm", made_volume(), ()).code == "MALFORMED"


def test_a_file_cut_at_any_byte_or_with_random_bytes_never_raises_anything_else(seg_path, tmp_path):
    whole, path = seg_path.read_bytes(), tmp_path / "s.dcm"
    random = np.random.default_rng(0)
    for _ in range(60):
        path.write_bytes(whole[: random.integers(0, len(whole))])
        refusal(path, made_volume(), ())
    outcomes = set()
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(132, len(whole), 4):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            outcomes.add(read_mask(path, made_volume()).kind)
        except ValueError as error:
            outcomes.add(error.code)
    assert "dicom-seg" in outcomes


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not there: no real DICOM SEG to read")
def test_dcmqis_old_segmentation_lands_on_the_liver():
    volume = real_volume(REAL / "dcmqi/ct-3slice")
    mask = read_mask(REAL / "dcmqi/liver.dcm", volume)
    theirs = highdicom.seg.segread(REAL / "dcmqi/liver.dcm").get_volume(combine_segments=True).array
    (spread,) = hu_spread(volume.hu, mask.labels, mask.organs)
    assert (spread.organ, spread.voxels) == ("liver", int(theirs.sum()))
    assert 17 <= spread.iqr <= 55


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not there: no real NIfTI mask on DICOM")
def test_a_nifti_mask_in_las_lands_on_its_dicom_series():
    volume = real_volume(REAL / "totalsegmentator/example_ct_dicom")
    rules = (parse_rule("liver=5"), parse_rule("spleen=1"))
    mask = read_mask(REAL / "totalsegmentator/example_seg_dicom.nii.gz", volume, rules)
    spreads = hu_spread(volume.hu, mask.labels, mask.organs)
    assert [s.voxels for s in spreads] == [366_708, 130_634]
    assert all(17 <= s.iqr <= 55 for s in spreads)


def test_a_segmentation_is_opened_twice_and_read_whole_once(tmp_path, monkeypatch):
    path = save(made_seg(made_labels(), made_grid()), tmp_path / "s.dcm")
    opened, real_open = [], os.open
    monkeypatch.setattr(os, "open", lambda file, *rest: opened.append(file) or real_open(file, *rest))
    read_mask(path, made_volume(), (OrganRule("liver"),))
    assert opened.count(path) == 2
