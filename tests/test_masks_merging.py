"""Several masks of one CT are one mask with all organs, or a refusal that names both."""

import numpy as np
import pytest
from made.cases import made_pair, write_nifti
from made.masks import (
    contour_points,
    made_grid,
    made_labels,
    made_rtstruct,
    made_seg,
    made_volume,
    save,
    save_nifti,
)
from made.series import make_series
from made.stores import statuses, take

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.layouts import find_cases, read_manifest
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks import read_mask
from kerasbalance.data.masks.read import MaskSource, read_masks
from kerasbalance.data.store import SliceStore

LIVER, SPLEEN = made_labels() == 1, made_labels() == 2


def save_seg(path, marked, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(made_seg(marked[..., None].astype(np.uint8), made_grid(), names=(name,)), path)


def codes(mask):
    return [note.code for note in mask.notes]


def test_two_segmentations_of_one_organ_each_are_one_mask(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    save_seg(tmp_path / "b.dcm", SPLEEN, "Spleen")
    mask = read_mask(tmp_path, made_volume())
    assert (mask.organs, codes(mask)) == (("liver", "spleen"), [])
    np.testing.assert_array_equal(mask.labels, made_labels())


def test_organs_follow_the_order_of_the_rules(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    save_seg(tmp_path / "b.dcm", SPLEEN, "Spleen")
    mask = read_mask(tmp_path, made_volume(), (OrganRule("spleen"), OrganRule("liver")))
    assert mask.organs == ("spleen", "liver")
    np.testing.assert_array_equal(mask.labels, made_labels() * 2 % 3)


def test_a_structure_set_beside_a_segmentation_adds_its_organ(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    square = contour_points(made_grid(), 3, [(30, 30), (30, 35), (35, 35), (35, 30)])
    save(made_rtstruct({"Spleen": [square]}), tmp_path / "b.dcm")
    mask = read_mask(tmp_path, made_volume())
    assert (mask.organs, mask.kind) == (("liver", "spleen"), "dicom-seg+rtstruct")
    np.testing.assert_array_equal(mask.labels == 1, LIVER)
    assert np.count_nonzero(mask.labels[3] == 2) == 25


def test_one_organ_twice_with_other_voxels_is_refused_with_both_counts(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    save_seg(tmp_path / "b.dcm", np.roll(LIVER, 1, axis=2), "Liver")
    count = np.count_nonzero(LIVER)
    with pytest.raises(DataError, match=rf"AMBIGUOUS: liver with {count} voxels in mask 1 and with {count} voxels in "
                       r"mask 2 of 2 of one CT, \d+ of them in both; .*name only the mask that counts"):  # fmt: skip
        read_mask(tmp_path, made_volume())


def test_a_left_and_a_right_kidney_are_joined_but_two_livers_are_not(tmp_path):
    for name in ("Kidney", "Liver"):
        save_seg(tmp_path / name / "a.dcm", LIVER, f"{name}")
        save_seg(tmp_path / name / "b.dcm", SPLEEN, f"{name}")
    kidney = read_mask(tmp_path / "Kidney", made_volume())
    np.testing.assert_array_equal(kidney.labels, made_labels() > 0)
    with pytest.raises(DataError, match=r"AMBIGUOUS: liver .* 0 of them in both"):
        read_mask(tmp_path / "Liver", made_volume())


def test_an_overlap_is_told_with_both_names_and_the_count(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    both = SPLEEN.copy()
    both[1, 5, 8:11] = True
    save_seg(tmp_path / "b.dcm", both, "Spleen")
    mask = read_mask(tmp_path, made_volume())
    np.testing.assert_array_equal(mask.labels, made_labels())
    assert [note.text for note in mask.notes] == [
        "3 voxels belong to both liver and spleen; liver keeps them, as it is named first"
    ]


def test_a_mask_without_a_known_organ_is_left_out_aloud(tmp_path):
    save_seg(tmp_path / "a.dcm", LIVER, "Liver")
    save_seg(tmp_path / "b.dcm", SPLEEN, "Lesion")
    mask = read_mask(tmp_path, made_volume())
    (note,) = mask.notes
    assert (mask.organs, note.code, note.loud) == (("liver",), "MASK_LEFT_OUT", True)
    assert note.text.startswith(
        "mask 2 of 2 was left out: a mask with segment 1 (lesion); expected a segment for"
    )


def test_masks_with_rules_of_their_own_are_merged_and_a_refusal_says_which(tmp_path):
    paths = [
        save_nifti(tmp_path / f"{n}.nii", m.astype(np.uint8), made_grid())
        for n, m in enumerate((LIVER, SPLEEN))
    ]
    sources = [MaskSource(p, (OrganRule(o, (1,)),)) for p, o in zip(paths, ("liver", "spleen"), strict=True)]
    np.testing.assert_array_equal(read_masks(sources, made_volume()).labels, made_labels())
    with pytest.raises(DataError, match="LABEL_RULE: mask 2 of 2: a label map and no --label"):
        read_masks([sources[0], MaskSource(paths[1])], made_volume())


def make_two_masks(folder):
    hu, labels = made_pair(0)
    write_nifti(folder / "ct.nii", hu)
    for value, organ in ((1, "liver"), (2, "spleen")):
        write_nifti(folder / f"{organ}.nii", (labels == value).astype(np.uint8))
    return labels


def stored(folder):
    y = SliceStore(folder / "store").source(("liver", "spleen")).read(np.arange(5))[1]
    return y[..., 0]


def test_two_rows_of_a_manifest_for_one_ct_are_one_case(tmp_path):
    labels = make_two_masks(tmp_path)
    path = tmp_path / "list.csv"
    path.write_text("ct,mask,labels,patient\nct.nii,liver.nii,liver,P1\n./ct.nii,spleen.nii,spleen,\n")
    (request,) = read_manifest(path).requests
    assert (request.patient, request.where) == ("P1", "case 1 of 1")
    (outcome,) = take(tmp_path, [request])
    assert (outcome.status, outcome.facts.organs) == ("taken", ("liver", "spleen"))
    np.testing.assert_array_equal(stored(tmp_path), labels)
    assert statuses(take(tmp_path, list(read_manifest(path).requests))) == ["unchanged"]


def test_rows_of_one_ct_with_two_patients_are_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("ct,mask,patient\nct.nii,a.nii,P1\nct.nii,b.nii,P2\n")
    with pytest.raises(
        DataError, match="MANIFEST: row 2 with another patient than an earlier row of the same CT"
    ):
        read_manifest(path)


def test_no_advice_about_a_changed_mask_loses_an_organ(tmp_path):
    make_two_masks(tmp_path)
    liver, spleen = (
        read_manifest(write_row(tmp_path, f"ct.nii,{organ}.nii,{organ}")).requests[0]
        for organ in ("liver", "spleen")
    )
    assert statuses(take(tmp_path, [liver])) == ["taken"]
    (outcome,) = take(tmp_path, [spleen])
    assert outcome.error.message() == (
        "CHANGED: case 1 of 1: a mask with spleen for a series that is stored with liver as well; expected a mask with "
        "all stored organs; ingest all masks of the CT as one case: in one folder, or repeat --mask, or a manifest row "
        "for each"
    )


def write_row(folder, row):
    path = folder / "row.csv"
    path.write_text(f"ct,mask,labels\n{row}\n")
    return path


def test_a_case_never_replaces_another_case_of_the_same_ingest(tmp_path):
    make_two_masks(tmp_path)
    (tmp_path / "copy.nii").write_bytes((tmp_path / "ct.nii").read_bytes())
    rows = ("ct.nii,liver.nii,liver", "copy.nii,spleen.nii,spleen")
    requests = [read_manifest(write_row(tmp_path, row)).requests[0] for row in rows]
    outcomes = take(tmp_path, requests, replace_changed=True)
    assert statuses(outcomes) == ["taken", "CHANGED"]
    assert "a CT series that another case of this ingest has with other content" in str(outcomes[1].error)


def test_segmentations_that_refer_to_one_series_are_one_case(tmp_path):
    grid, labels = made_grid(), made_labels()
    hu = made_volume().hu.astype(int)
    make_series(tmp_path / "data" / "ct", slices=6, size=(40, 48), stored=hu + 1024, intercept=-1024, step_mm=3.0,
                spacing_mm=(1.5, 1.0), origin_mm=grid.positions_mm[0], series="1.2.4")  # fmt: skip
    for organ, marked in (("Liver", LIVER), ("Spleen", SPLEEN)):
        dataset = made_seg(marked[..., None].astype(np.uint8), grid, names=(organ,))
        dataset.FrameOfReferenceUID = "1.2.826.0.1.3"
        save(dataset, tmp_path / "data" / f"{organ}.dcm")
    (request,) = find_cases(tmp_path / "data").requests
    (outcome,) = take(tmp_path, [request])
    assert (outcome.status, outcome.facts.organs) == ("taken", ("liver", "spleen"))
    y = SliceStore(tmp_path / "store").source(("liver", "spleen")).read(np.arange(6))[1]
    np.testing.assert_array_equal(y[..., 0], labels)
