import json
import os
import shutil

import numpy as np
import pydicom
import pytest
from made.cases import LIVER, made_pair, make_cohort, write_nifti
from made.series import make_series
from made.stores import statuses, take
from PIL import Image

from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.export import Algorithm, write_segmentation, write_structure_set
from kerasbalance.data.ingest.layouts import find_cases
from kerasbalance.data.phantom import write_phantom
from kerasbalance.data.store import SliceStore


def pairs(layout):
    return [(request.ct.name, request.mask.name) for request in layout.requests]


# Folders


def test_a_folder_with_a_manifest_is_recognised(tmp_path):
    make_cohort(tmp_path, 3)
    layout = find_cases(tmp_path)
    assert layout.name == "a folder with cases.csv"
    assert pairs(layout) == [(f"ct{n:03d}.nii", f"mask{n:03d}.nii") for n in range(3)]


def nnunet(folder, *, end="_0000", names=("s_10", "s_2"), labels=None):
    for n, name in enumerate(names):
        hu, mask = made_pair(n)
        write_nifti(folder / "imagesTr" / f"{name}{end}.nii.gz", hu)
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", mask)
    if labels is not None:
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


@pytest.mark.parametrize(
    ("end", "labels"),
    [
        ("_0000", {"background": 0, "liver": 1, "spleen": 2}),
        ("", {"0": "background", "1": "Liver", "2": "spleen"}),
    ],
)
def test_nnunet_and_decathlon_are_recognised_with_their_labels(tmp_path, end, labels):
    layout = find_cases(nnunet(tmp_path / "data", end=end, labels=labels))
    assert layout.name == "nnU-Net or Decathlon (imagesTr, labelsTr)"
    assert pairs(layout) == [(f"s_{n}{end}.nii.gz", f"s_{n}.nii.gz") for n in (2, 10)]
    assert statuses(take(tmp_path, list(layout.requests))) == ["taken", "taken"]
    assert SliceStore(tmp_path / "store").organs == ("liver", "spleen")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"labels": 3}', '{"labels": {"a": {"b": 1}}}', "[" * 100_000, "\xff"]
)
def test_a_dataset_json_that_says_nothing_leaves_the_labels_to_the_user(tmp_path, text):
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    layout = find_cases(tmp_path)
    assert all(request.rules == () for request in layout.requests)
    assert [note.code for note in layout.notes] == ["DATASET_JSON"]
    assert find_cases(tmp_path, LIVER).requests[0].rules == LIVER


def test_a_dataset_json_that_is_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(nnunet(tmp_path) / "dataset.json")
    assert len(find_cases(tmp_path).requests) == 2


def test_a_label_without_its_image_is_refused_alone(tmp_path):
    nnunet(tmp_path / "data", labels={"liver": 1, "spleen": 2})
    (tmp_path / "data" / "imagesTr" / "s_2_0000.nii.gz").unlink()
    outcomes = take(tmp_path, list(find_cases(tmp_path / "data").requests))
    assert statuses(outcomes) == ["UNREADABLE", "taken"]


def ct_series(folder, seed=0):
    return make_series(folder, slices=4, size=24, seed=seed, series=f"1.2.9.{seed}", name="image_{}")


def test_ircadb_is_recognised_and_ingested(tmp_path):
    home = tmp_path / "data" / "3Dircadb1.1"
    made = ct_series(home / "PATIENT_DICOM")
    labels = np.zeros(made.hu.shape, np.uint16)
    labels[1:3, 5:15, 6:18] = 255
    make_series(home / "MASKS_DICOM" / "liver", slices=4, size=24, stored=labels, intercept=0, name="image_{}",
                series="1.2.10")  # fmt: skip
    layout = find_cases(tmp_path / "data")
    assert layout.name == "3D-IRCADb (PATIENT_DICOM, MASKS_DICOM)"
    assert statuses(take(tmp_path, list(layout.requests))) == ["taken"]
    _, y = SliceStore(tmp_path / "store").source("liver").read(np.arange(4))
    np.testing.assert_array_equal(y[..., 0], labels > 0)


def test_chaos_is_recognised_and_ingested(tmp_path):
    for n in range(2):
        home = tmp_path / "data" / str(n + 1)
        made = ct_series(home / "DICOM_anon", n)
        (home / "Ground").mkdir()
        for number in range(4):
            plane = np.zeros(made.hu.shape[1:], np.uint8)
            plane[4 + number : 14, 5:15] = 255
            Image.fromarray(plane).save(home / "Ground" / f"liver_GT_{number:03d}.png")
    layout = find_cases(tmp_path / "data")
    assert layout.name == "CHAOS (DICOM_anon, Ground)"
    assert statuses(take(tmp_path, list(layout.requests))) == ["taken", "taken"]
    y = SliceStore(tmp_path / "store").source("liver").read(np.arange(4))[1]
    assert y.sum(axis=(1, 2, 3)).tolist() == [100, 90, 80, 70]


def test_totalsegmentator_is_recognised_and_ingested(tmp_path):
    hu, labels = made_pair(0)
    home = tmp_path / "data" / "s0001"
    write_nifti(home / "ct.nii.gz", hu)
    halves = {
        "kidney_left": labels == 1,
        "kidney_right": labels == 2,
        "liver": labels * 0,
        "spleen": labels == 9,
    }
    for name, mask in halves.items():
        write_nifti(home / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
    layout = find_cases(tmp_path / "data")
    assert layout.name == "TotalSegmentator (ct.nii.gz, segmentations)"
    outcome = take(tmp_path, list(layout.requests))[0]
    assert dict(zip(outcome.facts.organs, outcome.facts.positive_slices, strict=True)) == {
        "kidney": 4, "liver": 0, "spleen": 0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Five phantom cases: three with SEG, one with RTSTRUCT, one with NIfTI; without their manifest."""
    folder = tmp_path_factory.mktemp("tree") / "data"
    write_phantom(folder, 5, 16, 0)
    (folder / "cases.csv").unlink()
    return folder


def test_a_tree_of_dicom_is_paired_by_what_masks_refer_to(tree, tmp_path):
    for n, ct in enumerate(sorted(tree.glob("*/ct"))):  # where the files lie says nothing
        shutil.copytree(ct, tmp_path / "data" / f"x{9 - n}")
        for mask in [*ct.parent.glob("seg.dcm"), *ct.parent.glob("rtstruct.dcm")]:
            shutil.copy(mask, tmp_path / "data" / f"mask{n}")
    layout = find_cases(tmp_path / "data")
    assert layout.name == "DICOM with SEG or RTSTRUCT that refer to their CT series"
    assert pairs(layout) == [("x9", "mask0"), ("x7", "mask2"), ("x6", "mask3"), ("x5", "mask4")]
    assert layout.problems == ()
    assert statuses(take(tmp_path, list(layout.requests), jobs=2)) == ["taken"] * 4


def test_all_in_one_folder_is_paired_too(tree, tmp_path):
    flat = tmp_path / "data"
    flat.mkdir()
    for n, home in enumerate(sorted(tree.glob("case-00[03]"))):
        for path in home.rglob("*.dcm"):
            shutil.copy(path, flat / f"{n}-{path.name}")
    layout = find_cases(flat)
    assert pairs(layout) == [("data", "0-seg.dcm"), ("data", "1-seg.dcm")]
    assert statuses(take(tmp_path, list(layout.requests))) == ["taken", "taken"]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "RTSTRUCT"])
def test_a_mask_that_predict_writes_is_found_again(tmp_path, kind):
    make_series(tmp_path / "data" / "ct", slices=4)
    ct = open_ct(tmp_path / "data" / "ct")
    labels = np.zeros((4, 32, 32), np.uint8)
    labels[1:3, 8:20, 8:20] = 1
    content = (tmp_path / "data" / "seg.dcm", labels, ("liver",), ct.grid, ct.series)
    if kind == "RTSTRUCT":
        write_structure_set(*content, algorithm=Algorithm("U-Net", "0.1"))
    else:
        write_segmentation(*content, algorithm=Algorithm("U-Net", "0.1"), kind=kind)
    layout = find_cases(tmp_path / "data", LIVER)
    assert layout.name == "DICOM with SEG or RTSTRUCT that refer to their CT series"
    assert (pairs(layout), layout.problems) == ([("ct", "seg.dcm")], ())


def test_masks_without_their_series_are_told(tree, tmp_path):
    shutil.copytree(tree / "case-000", tmp_path / "data" / "a")
    shutil.copy(tree / "case-003" / "seg.dcm", tmp_path / "data" / "orphan.dcm")
    layout = find_cases(tmp_path / "data")
    assert pairs(layout) == [("ct", "seg.dcm")]
    message = r"UNMATCHED: file \d+ of \d+: a mask that refers to 0 of the CT series below the folder"
    with pytest.raises(DataError, match=message):
        raise layout.problems[0]


def test_a_hostile_mask_costs_only_its_case_and_is_named(tree, tmp_path):
    home = tmp_path / "data" / "a"
    shutil.copytree(tree / "case-000", home)
    content = (home / "seg.dcm").read_bytes()
    # An item of undefined length within an item, a thousand times, where the segments begin.
    nested = (
        b"\x62\x00\x02\x00SQ\x00\x00\xff\xff\xff\xff"
        + b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x62\x00\x02\x00SQ\x00\x00\xff\xff\xff\xff" * 2000
    )
    at = content.index(b"\x62\x00\x02\x00SQ")
    (home / "nested.dcm").write_bytes(content[:at] + nested)
    (home / "cut.dcm").write_bytes(content[: at + 100])
    layout = find_cases(tmp_path / "data")
    (request,) = layout.requests
    assert "seg.dcm" in [mask.path.name for mask in request.masks]
    (outcome,) = take(tmp_path, [request])
    assert outcome.error.message().startswith("MALFORMED: case 1 of 1, mask 1 of 2: ")


@pytest.mark.parametrize("content", ["nothing", "text", "a series", "a missing folder", "a file"])
def test_what_is_of_no_layout_is_refused(tmp_path, content):
    root = tmp_path / "data"
    {
        "nothing": root.mkdir,
        "text": lambda: (root.mkdir(), (root / "readme.txt").write_text("x")),
        "a series": lambda: ct_series(root),
        "a missing folder": lambda: None,
        "a file": root.touch,
    }[content]()
    with pytest.raises(DataError, match=r"UNKNOWN_LAYOUT: a folder of no known layout; expected one of: a folder with "
                       r"cases.csv; nnU-Net|UNREADABLE"):  # fmt: skip
        find_cases(root)


def test_a_folder_whose_case_folders_are_broken_links_is_of_no_layout(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="UNKNOWN_LAYOUT"):
        find_cases(tmp_path)


def test_a_series_with_a_blank_uid_is_not_matched_by_a_blank_reference(tree, tmp_path):
    home = tmp_path / "data" / "a"
    shutil.copytree(tree / "case-000", home)
    for path in (home / "ct").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = ""
        dataset.save_as(path)
    assert find_cases(tmp_path / "data").requests == ()
