import gzip
import itertools
import os

import hypothesis
import hypothesis.strategies as st
import nibabel
import numpy as np
import pytest
from made.masks import (
    LPS_TO_RAS,
    REAL,
    codes,
    made_grid,
    made_labels,
    made_volume,
    refusal,
    reoriented,
    rotation,
    save_nifti,
)

from kerasbalance.data.images.ct import read_image_ct
from kerasbalance.data.ingest.organ_check import hu_spread, suspicions
from kerasbalance.data.labels import OrganRule, parse_rule
from kerasbalance.data.masks import read_mask
from kerasbalance.data.volume.geometry import Grid

LIVER = (OrganRule("liver"),)
BOTH = (OrganRule("liver", (1,)), OrganRule("spleen", (2,)))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_any_permutation_and_flip_of_a_nifti_mask_gives_the_same_labels(tmp_path, order, flips):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii", *reoriented(made_labels(), volume.grid, order, flips))
    mask = read_mask(path, volume, BOTH)
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert mask.notes == ()


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    seed=st.integers(0, 99),
)
def test_a_mask_in_any_orientation_maps_onto_an_oblique_ct(
    tmp_path_factory, shape, order, flips, angles, seed
):
    turn = rotation(angles)
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    labels.flat[0] = 1
    volume = made_volume(labels, made_grid(shape, turn=turn))
    path = tmp_path_factory.mktemp("m") / "m.nii"
    turned, grid = reoriented(labels, volume.grid, order, flips)
    mask = read_mask(save_nifti(path, turned, grid), volume, BOTH)
    np.testing.assert_array_equal(mask.labels, labels)


def test_nifti_positions_agree_with_nibabel(tmp_path):
    volume = made_volume()
    turned, grid = reoriented(made_labels(), volume.grid, (2, 0, 1), (True, False, True))
    image = nibabel.load(save_nifti(tmp_path / "m.nii.gz", turned, grid))
    voxels = np.argwhere(np.asarray(image.dataobj) == 2)
    places = nibabel.affines.apply_affine(LPS_TO_RAS @ image.affine, voxels)
    mask = read_mask(tmp_path / "m.nii.gz", volume, BOTH)
    z, y, x = np.nonzero(mask.labels == 2)
    ours = nibabel.affines.apply_affine(volume.grid.affine(), np.stack([x, y, z], axis=1))
    np.testing.assert_allclose(np.sort(places, axis=0), np.sort(ours, axis=0), atol=1e-4)


def moved(grid, offset):
    affine = grid.affine()
    affine[:3, 3] += offset
    return Grid.from_affine(grid.shape, affine)


@pytest.mark.parametrize("offset", [(0, 0, 3.0), (0, 0, 1.5), (1.0, 0, 0), (0, 0.2, 0), (500, 0, 0)])
def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, offset):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii.gz", made_labels(), moved(volume.grid, offset))
    assert refusal(path, volume, BOTH).code == "GEOMETRY"


def test_float_noise_in_the_affine_is_tolerated(tmp_path):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii.gz", made_labels(), moved(volume.grid, (0.004, -0.004, 0.004)))
    np.testing.assert_array_equal(read_mask(path, volume, BOTH).labels, made_labels())


def test_a_mask_a_tenth_of_a_voxel_off_at_most_is_taken_with_a_note(tmp_path):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii.gz", made_labels(), moved(volume.grid, (0.05, 0.12, -0.2)))
    mask = read_mask(path, volume, BOTH)
    np.testing.assert_array_equal(mask.labels, made_labels())
    text = "the mask lies up to 0.08 voxels off the CT's, which counts as the same place"
    assert [(note.code, note.text) for note in mask.notes] == [("OFF_GRID", text)]


def part_of(grid, slices, rows, columns):
    """The grid of a block of voxels, given as slices of each axis."""
    affine = grid.affine()
    affine[:3, 3] += affine[:3, :3] @ [columns.start, rows.start, slices.start]
    affine[:3, :3] *= [columns.step or 1, rows.step or 1, slices.step or 1]
    shape = tuple(len(range(n)[part]) for n, part in zip(grid.shape, (slices, rows, columns), strict=True))
    return Grid.from_affine(shape, affine)


def test_a_mask_cropped_to_a_part_of_the_ct_is_placed_exactly(tmp_path):
    volume, labels = made_volume(), made_labels()
    block = (slice(1, 5), slice(4, 39), slice(7, 41))
    path = save_nifti(tmp_path / "m.nii.gz", labels[block], part_of(volume.grid, *block))
    mask = read_mask(path, volume, BOTH)
    np.testing.assert_array_equal(mask.labels, labels)
    assert [(note.code, note.loud) for note in mask.notes] == [("COVERAGE", True)]
    assert "2 of 6 slices" in mask.notes[0].text


def test_a_ct_cropped_out_of_its_mask_takes_its_part(tmp_path):
    labels, block = made_labels(), (slice(0, 6), slice(10, 30), slice(10, 40))
    volume = made_volume(labels[block].copy(), part_of(made_grid(), *block))
    mask = read_mask(save_nifti(tmp_path / "m.nii.gz", labels, made_grid()), volume, BOTH)
    np.testing.assert_array_equal(mask.labels, labels[block])
    lost = np.count_nonzero(labels) - np.count_nonzero(labels[block])
    text = f"{lost:,} labelled voxels lie where the CT has no voxels"
    assert [(note.code, note.text) for note in mask.notes] == [("OUTSIDE", text)]


def test_a_mask_of_every_second_slice_is_taken_only_when_resampling_is_asked_for(tmp_path):
    volume = made_volume()
    grid = part_of(volume.grid, slice(0, 6, 2), slice(0, 40), slice(0, 48))
    path = save_nifti(tmp_path / "m.nii.gz", made_labels()[::2], grid)
    assert refusal(path, volume, BOTH).code == "GEOMETRY"
    mask = read_mask(path, volume, BOTH, resample=True)
    np.testing.assert_array_equal(mask.labels[::2], made_labels()[::2])
    assert codes(mask)[0] == "RESAMPLED"


@pytest.mark.parametrize("offset", [(8, 0, 0), (0, 9, 0), (0, 0, 6), (20, 20, 0)])
def test_resampling_never_takes_a_mask_that_lies_elsewhere(tmp_path, offset):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii.gz", made_labels(), moved(volume.grid, offset))
    error = refusal(path, volume, BOTH, resample=True)
    assert error.code == "GEOMETRY"
    assert "it cannot be mapped by position" in str(error)


@pytest.mark.parametrize("offset", [(4, 0, 0), (0, 3, 0), (0, 0, -6)])
def test_resampling_never_takes_the_grid_of_the_ct_moved_by_more_than_a_voxel(tmp_path, offset):
    volume = made_volume(np.zeros((60, 60, 60), np.uint8))
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[20:40, 20:40, 20:40] = 1
    path = save_nifti(tmp_path / "m.nii.gz", labels, moved(volume.grid, offset))
    assert "voxels beside it; expected the CT's place" in str(refusal(path, volume, LIVER, resample=True))
    near = save_nifti(tmp_path / "n.nii.gz", labels, moved(volume.grid, (0.5, 0, 0)))
    assert codes(read_mask(near, volume, LIVER, resample=True))[0] == "RESAMPLED"


def test_a_mask_of_more_slices_is_cut_and_what_is_lost_is_counted(tmp_path):
    volume = made_volume()
    larger = np.ones((8, *volume.grid.shape[1:]), np.uint8)
    larger[:6] = made_labels()
    path = save_nifti(tmp_path / "m.nii.gz", larger, Grid.from_affine(larger.shape, volume.grid.affine()))
    mask = read_mask(path, volume, BOTH)
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert codes(mask) == ["OUTSIDE"]
    assert f"{2 * 40 * 48:,} labelled voxels" in mask.notes[0].text


def test_resampling_takes_the_nearest_voxel(tmp_path):
    volume = made_volume()
    fine = made_grid((12, 80, 96), spacing=(1.5, 0.75, 0.5), origin=(-20.25, -30.375, 99.25))
    path = save_nifti(tmp_path / "m.nii.gz", made_labels().repeat(2, 0).repeat(2, 1).repeat(2, 2), fine)
    assert refusal(path, volume, BOTH).code == "GEOMETRY"
    mask = read_mask(path, volume, BOTH, resample=True)
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_resampling_a_mask_of_another_patient_is_refused(tmp_path):
    volume = made_volume()
    path = save_nifti(tmp_path / "m.nii.gz", made_labels(), moved(volume.grid, (900, 0, 0)))
    assert refusal(path, volume, BOTH, resample=True).code == "GEOMETRY"


def values_mask(tmp_path, values, dtype=np.uint8):
    volume = made_volume()
    labels = np.asarray(values, dtype)[made_labels()]
    return save_nifti(tmp_path / "m.nii.gz", labels, volume.grid), volume


def test_255_is_taken_as_1_with_a_note(tmp_path):
    path, volume = values_mask(tmp_path, [0, 255, 0])
    for rules in (LIVER, (parse_rule("liver=1"),)):
        mask = read_mask(path, volume, rules)
        np.testing.assert_array_equal(mask.labels, made_labels() == 1)
        assert codes(mask) == ["VALUE_255"]
    assert codes(read_mask(path, volume, (parse_rule("liver=255"),))) == []


def test_an_unknown_value_is_refused_with_its_count(tmp_path):
    path, volume = values_mask(tmp_path, [0, 1, 7])
    error = refusal(path, volume, LIVER)
    assert error.code == "LABEL_VALUE"
    assert f"7: {int((made_labels() == 2).sum()):,} px" in str(error)


def test_named_values_are_taken_and_the_others_ignored_with_a_note(tmp_path):
    path, volume = values_mask(tmp_path, [0, 5, 7])
    mask = read_mask(path, volume, (parse_rule("liver=5,6"),))
    np.testing.assert_array_equal(mask.labels, made_labels() == 1)
    (note,) = mask.notes
    assert (note.code, note.loud) == ("IGNORED", True)
    assert "7: " in note.text


def test_none_of_the_named_values_present_is_refused(tmp_path):
    path, volume = values_mask(tmp_path, [0, 1, 2])
    error = refusal(path, volume, (parse_rule("liver=5"),))
    assert error.code == "LABEL_VALUE"
    assert "none of the named values" in str(error)


def test_an_organ_without_voxels_is_noted_loudly(tmp_path):
    path, volume = values_mask(tmp_path, [0, 1, 2])
    mask = read_mask(path, volume, (*BOTH, OrganRule("kidney", (3,))))
    assert mask.organs == ("liver", "spleen", "kidney")
    (note,) = mask.notes
    assert (note.code, note.loud, "kidney" in note.text) == ("EMPTY", True, True)


def test_an_empty_mask_is_kept_with_a_loud_note(tmp_path):
    path, volume = values_mask(tmp_path, [0, 0, 0])
    for rules in (LIVER, BOTH):
        mask = read_mask(path, volume, rules)
        assert not mask.labels.any()
        assert [(n.code, n.loud) for n in mask.notes] == [("EMPTY", True)]


def test_floats_near_whole_numbers_are_rounded_and_others_refused(tmp_path):
    path, volume = values_mask(tmp_path, [0, 0.9999, 2.0004], np.float32)
    np.testing.assert_array_equal(read_mask(path, volume, BOTH).labels, made_labels())
    for bad in ([0, 0.5, 1], [0, np.nan, 1], [0, np.inf, 1]):
        path, volume = values_mask(tmp_path, bad, np.float32)
        assert refusal(path, volume, BOTH).code == "LABEL_VALUE"


def test_a_named_value_that_is_absent_below_the_largest_value_is_refused_too(tmp_path):
    path, volume = values_mask(tmp_path, [0, 2, 3, 5], np.int16)
    error = refusal(path, volume, (parse_rule("liver=1"),))
    assert (error.code, "none of the named values; it has" in str(error)) == ("LABEL_VALUE", True)


def test_negative_and_absurd_values_are_refused(tmp_path):
    for bad in ([0, -1, 1], [0, 1, 70_000]):
        path, volume = values_mask(tmp_path, bad, np.int32)
        error = refusal(path, volume, BOTH)
        assert (error.code, "name the mask" in str(error)) == ("LABEL_VALUE", True)


def test_scl_slope_is_applied_to_labels(tmp_path):
    volume = made_volume()
    image = nibabel.Nifti1Image(made_labels().transpose(2, 1, 0), LPS_TO_RAS @ volume.grid.affine())
    image.header.set_slope_inter(5, 0)
    (tmp_path / "m.nii").write_bytes(image.to_bytes())
    content = bytearray((tmp_path / "m.nii").read_bytes())
    content[112:116] = np.float32(5).tobytes()
    (tmp_path / "m.nii").write_bytes(content)
    mask = read_mask(tmp_path / "m.nii", volume, (parse_rule("liver=5"), parse_rule("spleen=10")))
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_a_label_map_without_rules_is_refused_and_lists_the_values(tmp_path):
    path, volume = values_mask(tmp_path, [0, 5, 7])
    error = refusal(path, volume, ())
    assert error.code == "LABEL_RULE"
    assert f"5: {int((made_labels() == 1).sum()):,} px" in str(error)
    assert "--label" in str(error)


@pytest.mark.parametrize("rules", [("liver", "spleen"), ("liver=1", "spleen"), ("liver=Liver",)])
def test_rules_that_a_label_map_cannot_obey_are_refused(tmp_path, rules):
    path, volume = values_mask(tmp_path, [0, 1, 2])
    assert refusal(path, volume, tuple(map(parse_rule, rules))).code == "LABEL_RULE"


def organ_folder(folder, grid, parts):
    folder.mkdir()
    for name, labels in parts.items():
        save_nifti(folder / f"{name}.nii.gz", labels.astype(np.uint8), grid)
    return folder


def test_a_folder_with_one_nifti_for_each_organ_is_read_by_name(tmp_path):
    volume, labels = made_volume(), made_labels()
    left, right = (labels == 2) & (np.arange(48) < 30), (labels == 2) & (np.arange(48) >= 30)
    parts = {"kidney_left": left, "kidney_right": right, "liver": labels == 1, "aorta": labels == 3}
    folder = organ_folder(tmp_path / "segmentations", volume.grid, parts)
    (folder / "notes.txt").write_text("not a mask")
    mask = read_mask(folder, volume, (OrganRule("liver"), OrganRule("kidney")))
    np.testing.assert_array_equal(mask.labels, labels)
    recognised = read_mask(folder, volume)
    assert recognised.organs == ("kidney", "liver")
    np.testing.assert_array_equal(recognised.labels == 2, labels == 1)
    named = read_mask(folder, volume, (parse_rule("kidney=kidney_left"),))
    np.testing.assert_array_equal(named.labels, left)


def test_overlapping_organs_go_to_the_first_named_and_are_counted(tmp_path):
    volume, labels = made_volume(), made_labels()
    both = {"liver": labels > 0, "spleen": labels == 2}
    folder = organ_folder(tmp_path / "s", volume.grid, both)
    first = read_mask(folder, volume, (OrganRule("liver"), OrganRule("spleen")))
    np.testing.assert_array_equal(first.labels, labels > 0)
    shared = int((labels == 2).sum())
    assert [(note.code, note.text, note.loud) for note in first.notes] == [
        (
            "OVERLAP",
            f"{shared:,} voxels belong to both liver and spleen; liver keeps them, as it is named first",
            True,
        ),
        (
            "EMPTY",
            "no voxel of spleen is left: other organs keep all of them; name spleen before those",
            True,
        ),
    ]
    second = read_mask(folder, volume, (OrganRule("spleen"), OrganRule("liver")))
    np.testing.assert_array_equal(second.labels, np.select([labels == 2, labels == 1], [1, 2]))
    text = f"{shared:,} voxels belong to both spleen and liver; spleen keeps them, as it is named first"
    assert [note.text for note in second.notes] == [text]


def test_a_folder_of_organs_refuses_numbers_and_lists_only_plain_names(tmp_path):
    volume, labels = made_volume(), made_labels()
    folder = organ_folder(tmp_path / "s", volume.grid, {"aorta": labels, "jane_canary": labels})
    assert refusal(folder, volume, (parse_rule("liver=5"),)).code == "LABEL_RULE"
    error = refusal(folder, volume, LIVER)
    assert error.code == "LABEL_NAME"
    assert "aorta" in str(error)
    assert "canary" not in str(error)


def test_a_truncated_or_foreign_file_is_refused_in_words(tmp_path):
    path, volume = values_mask(tmp_path, [0, 1, 2])
    whole = path.read_bytes()
    raw = gzip.decompress(whole)
    for name, content in {
        "cut.nii.gz": whole[: len(whole) // 2],
        "cut.nii": raw[:5000],
        "header.nii": raw[:348],
        "crc.nii.gz": whole[:-8] + b"\0\0\0\0" + whole[-4:],
        "analyze.nii": raw[:344] + b"\0\0\0\0" + raw[348:],
        "text.nii": b"hello",
        "empty.nii": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name, volume, BOTH).code in ("MALFORMED", "MASK_KIND")


def test_a_mask_that_unpacks_to_far_more_than_its_ct_is_refused_before_it_is_read(tmp_path):
    volume = made_volume()
    header = nibabel.Nifti1Header()
    header.set_data_shape((4096, 4096, 64))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(2**20)))
    assert refusal(tmp_path / "bomb.nii.gz", volume, BOTH).code == "TOO_LARGE"


def test_fifo_missing_file_and_links_that_lead_out_are_refused(tmp_path):
    volume = made_volume()
    os.mkfifo(tmp_path / "fifo.nii")
    assert refusal(tmp_path / "fifo.nii", volume, BOTH).code == "NOT_REGULAR"
    assert refusal(tmp_path / "missing.nii", volume, BOTH).code == "UNREADABLE"
    save_nifti(tmp_path / "liver.nii.gz", (made_labels() == 1).astype(np.uint8), volume.grid)
    folder = organ_folder(tmp_path / "s", volume.grid, {"liver": made_labels() == 1})
    (folder / "spleen.nii.gz").symlink_to(tmp_path / "liver.nii.gz")
    os.mkfifo(folder / "pipe")
    mask = read_mask(folder, volume)
    assert mask.organs == ("liver",)
    assert codes(mask) == ["NOT_REGULAR"]
    assert "2 entries" in mask.notes[0].text


real = pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not there: no real CT to read")


@real
@pytest.mark.parametrize(
    ("ct", "seg"),
    [
        ("example_ct_sm.nii.gz", "example_seg.nii.gz"),
        ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
    ],
)
def test_totalsegmentator_masks_land_on_their_organs(ct, seg):
    folder = REAL / "totalsegmentator"
    volume = read_image_ct(folder / ct)
    rules = tuple(map(parse_rule, ("liver=5", "kidney=2,3", "spleen=1")))
    mask = read_mask(folder / seg, volume, rules)
    expected = np.asarray(nibabel.load(folder / seg).dataobj)
    spreads = hu_spread(volume.hu, mask.labels, mask.organs)
    assert [s.voxels for s in spreads] == [int(np.isin(expected, v).sum()) for v in ([5], [2, 3], [1])]
    assert 17 <= spreads[0].iqr <= 55
    assert suspicions(spreads) == ()
    for axis in range(3):
        flipped = hu_spread(volume.hu, np.flip(mask.labels, axis), mask.organs)
        assert [note.text.split(":")[0] for note in suspicions(flipped)] == ["liver", "kidney", "spleen"]


def test_a_mask_with_one_other_value_needs_no_more_than_the_name_of_the_organ(tmp_path):
    labels = (made_labels() == 1).astype(np.uint8)
    path = save_nifti(tmp_path / "m.nii", labels * 63, made_grid())
    mask = read_mask(path, made_volume(), (parse_rule("liver"),))
    np.testing.assert_array_equal(mask.labels, labels)
    assert [note.text for note in mask.notes] == ["the mask's only value, 63, was taken as liver"]


def test_the_advice_for_a_folder_of_one_file_for_each_organ_is_no_other_error(tmp_path):
    save_nifti(tmp_path / "hepatic.nii", (made_labels() == 1).astype(np.uint8), made_grid())
    save_nifti(tmp_path / "splenic.nii", (made_labels() == 2).astype(np.uint8), made_grid())
    error = refusal(tmp_path, made_volume(), ())
    assert error.advice == "say which file it is by its name without ending, e.g. --label liver=NAME"
    mask = read_mask(tmp_path, made_volume(), (parse_rule("liver=hepatic"),))
    np.testing.assert_array_equal(mask.labels, made_labels() == 1)
