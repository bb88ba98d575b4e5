"""Layouts of public data sets, and trees that mix several: no CT with a mask is lost without a word."""

import numpy as np
import pytest
from made.cases import made_pair, write_nifti
from made.images import write_metaimage, write_nrrd
from made.stores import statuses, take

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.case import CaseRequest
from kerasbalance.data.ingest.layouts import find_cases
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.phantom import write_phantom
from kerasbalance.data.store import SliceStore

LAYOUTS = {
    "LiTS (volume-N, segmentation-N)": ("Batch 1/volume-10.nii", "seg/segmentation-10.nii", (1, 2), {"liver": (1, 2)}),
    "KiTS (imaging, segmentation)": (
        "data/case_00000/imaging.nii.gz", "data/case_00000/segmentation.nii.gz", (1, 2), {"kidney": (1, 2)},
    ),
    "BTCV (img, label)": (
        "RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz", (6, 1),
        {"spleen": (2,), "kidney": (), "liver": (1,)},
    ),
    "FLARE (TrainingImg, TrainingMask or images, labels)": (
        "images/FLARE22_Tr_0001_0000.nii.gz", "labels/FLARE22_Tr_0001.nii.gz", (2, 13),
        {"liver": (), "kidney": (1, 2), "spleen": ()},
    ),
    "nnU-Net or Decathlon (imagesTr, labelsTr)": (
        "Task/imagesTr/a_0000.nii.gz", "Task/labelsTr/a.nii.gz", (1, 2), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_layout_is_found_at_any_depth_with_the_values_of_its_organs(tmp_path, name):
    image, label, values, organs = LAYOUTS[name]
    hu, made = made_pair(0)
    write_nifti(tmp_path / "data" / image, hu)
    write_nifti(tmp_path / "data" / label, np.array([0, *values], np.uint8)[made])
    layout = find_cases(tmp_path / "data")
    assert (layout.name, len(layout.requests), layout.problems, layout.notes) == (name, 1, (), ())
    (outcome,) = take(tmp_path, list(layout.requests))
    if organs is None:
        assert outcome.error.code == "LABEL_RULE"
        return
    assert (outcome.status, outcome.facts.organs) == ("taken", tuple(organs))
    y = SliceStore(tmp_path / "store").source(tuple(organs)).read(np.arange(5))[1][..., 0]
    for number, made_values in enumerate(organs.values(), 1):
        np.testing.assert_array_equal(y == number, np.isin(made, made_values))


LPS = np.diag([0.8, 0.8, 3.0, 1.0])


@pytest.mark.parametrize(
    ("ct", "mask", "layout"),
    [
        ("p1/CT.nrrd", "p1/Segmentation.seg.nrrd", "a CT file with its masks beside it"),
        ("p1/volume.mha", "p1/label.mha", "a CT file with its masks beside it"),
        ("a_7.nrrd", "a_7.seg.nrrd", "3D Slicer (NAME.nrrd, NAME.seg.nrrd or NAME-label.nrrd)"),
        ("a_7.nrrd", "a_7-label.nrrd", "3D Slicer (NAME.nrrd, NAME.seg.nrrd or NAME-label.nrrd)"),
        ("T/imagesTr/a_0000.mha", "T/labelsTr/a.mha", "nnU-Net or Decathlon (imagesTr, labelsTr)"),
    ],
)
def test_nrrd_and_metaimage_are_found_in_layouts_and_ingested(tmp_path, ct, mask, layout):
    hu, labels = made_pair(0)
    for path, volume in ((tmp_path / "data" / ct, hu), (tmp_path / "data" / mask, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        (write_metaimage if path.suffix == ".mha" else write_nrrd)(path, volume, LPS)
    found = find_cases(tmp_path / "data", (OrganRule("liver", (1,)), OrganRule("spleen", (2,))))
    assert (found.name, len(found.requests), found.notes) == (layout, 1, ())
    (outcome,) = take(tmp_path, list(found.requests))
    assert (outcome.status, outcome.facts.organs) == ("taken", ("liver", "spleen"))
    x, y = SliceStore(tmp_path / "store").source(("liver", "spleen")).read(np.arange(5))
    np.testing.assert_array_equal(x[..., 0], hu)
    np.testing.assert_array_equal(y[..., 0], labels)


def test_a_change_of_the_voxels_beside_a_header_is_seen(tmp_path):
    hu, labels = made_pair(0)
    ct = write_metaimage(tmp_path / "ct.mhd", hu, LPS, ElementDataFile="ct.raw")
    mask = write_nrrd(tmp_path / "mask.nhdr", labels, LPS, "raw", data_file="mask.raw")
    request = CaseRequest(ct, mask, (OrganRule("liver", (1,)), OrganRule("spleen", (2,))))
    assert [statuses(take(tmp_path, [request])) for _ in range(2)] == [["taken"], ["unchanged"]]
    (tmp_path / "mask.raw").write_bytes(labels[::-1].tobytes())
    assert statuses(take(tmp_path, [request])) == ["CHANGED"]
    assert statuses(take(tmp_path, [request], replace_changed=True)) == ["replaced"]


def test_one_file_for_each_organ_beside_the_ct_is_one_case(tmp_path):
    hu, labels = made_pair(0)
    write_nifti(tmp_path / "data" / "p1" / "CT.nii.gz", hu)
    for value, organ in ((1, "liver"), (2, "spleen")):
        write_nifti(tmp_path / "data" / "p1" / f"{organ}.nii.gz", (labels == value).astype(np.uint8) * 255)
    layout = find_cases(tmp_path / "data")
    assert layout.name == "a CT file with its masks beside it"
    (outcome,) = take(tmp_path, list(layout.requests))
    assert (outcome.status, outcome.facts.organs) == ("taken", ("liver", "spleen"))


def test_in_a_mixed_tree_every_ct_with_a_mask_is_a_case(tmp_path):
    data = tmp_path / "data"
    write_phantom(data / "phantom", 5, 16, 0)  # three with SEG, one with RTSTRUCT, one with NIfTI
    (data / "phantom" / "cases.csv").unlink()
    hu, labels = made_pair(0)
    write_nifti(data / "kits" / "case_00001" / "imaging.nii.gz", hu)
    write_nifti(data / "kits" / "case_00001" / "segmentation.nii.gz", labels)
    write_nifti(data / "kits" / "case_00002" / "segmentation.nii.gz", labels)
    write_nifti(data / "other" / "unknown.nii.gz", hu)
    layout = find_cases(data)
    assert layout.name == (
        "KiTS (imaging, segmentation); DICOM with SEG or RTSTRUCT that refer to their CT series"
    )
    assert len(layout.requests) == 7
    assert [note.text for note in layout.notes] == ["1 image files belong to no case and were left out"]
    outcomes = take(tmp_path, list(layout.requests), jobs=2)
    assert sorted(statuses(outcomes)) == ["LABEL_RULE", "UNREADABLE", *["taken"] * 5]


def test_what_has_no_mask_is_counted(tmp_path):
    hu, labels = made_pair(0)
    for name in ("a", "b", "c"):
        write_nifti(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", hu)
    write_nifti(tmp_path / "labelsTr" / "b.nii.gz", labels)
    layout = find_cases(tmp_path)
    assert [note.text for note in layout.notes][:1] == ["2 images of imagesTr without a mask were left out"]


def test_a_segmentation_without_its_volume_is_refused(tmp_path):
    write_nifti(tmp_path / "segmentation-3.nii", made_pair(0)[1])
    (problem,) = find_cases(tmp_path).problems
    with pytest.raises(
        DataError, match="UNMATCHED: a segmentation with 0 volumes of its number; expected one volume"
    ):
        raise problem
