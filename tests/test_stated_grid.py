"""A grid that the user states for image files whose headers are placeholders."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from made.cases import made_pair, write_nifti
from made.images import write_metaimage, write_nrrd
from made.series import make_series
from made.stores import statuses, take

from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.images.image import read_image_header
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.ingest.manifest import read_manifest
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.store import SliceStore
from kerasbalance.data.volume.stated_grid import StatedGrid, parse_grid

RULES = (OrganRule("liver", (1,)), OrganRule("spleen", (2,)))
GRID = StatedGrid("RAS", (0.7, 0.8, 2.5))


def placeholder(path, volume, affine=None):
    nibabel.save(
        nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4) if affine is None else affine), path
    )
    return path


def pair(folder, **change):
    hu, labels = made_pair(0)
    return CaseRequest(
        placeholder(folder / "v.nii", hu), placeholder(folder / "s.nii", labels), RULES, **change
    )


def test_a_stated_grid_takes_the_place_of_a_placeholder_for_ct_and_mask(tmp_path):
    (outcome,) = take(tmp_path, [pair(tmp_path, grid=GRID)])
    assert outcome.facts.spacing_mm == (2.5, 0.8, 0.7)
    assert [(note.code, note.loud) for note in outcome.facts.notes] == [
        ("STATED_GRID", False), ("PATIENT_UNKNOWN", False),
    ]  # fmt: skip
    assert "the stated grid RAS:0.7x0.8x2.5 was used" in outcome.facts.notes[0].text
    x, y = SliceStore(tmp_path / "store").source(("liver", "spleen")).read(np.arange(5))
    hu, labels = made_pair(0)
    np.testing.assert_array_equal(x[..., 0], hu[:, ::-1, ::-1])  # right to left, front to back
    np.testing.assert_array_equal(y[..., 0], labels[:, ::-1, ::-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LPS:0.8x0.9x2.5", np.diag([0.8, 0.9, 2.5, 1])),
        ("RAI:1x2x3", np.diag([-1.0, -2, -3, 1])),
        ("SLP:3x1x2", [[0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_letters_name_the_side_towards_which_each_axis_grows(text, expected):
    np.testing.assert_array_equal(parse_grid(text).affine(), expected)
    assert str(parse_grid(text)) == text


@pytest.mark.parametrize(
    "text", ["", "LPS", "LPS:1x1", "LLS:1x1x1", "LRS:1x1x1", "LPS:0x1x1", "LPS:1x1x-1", "LPS:1.1.1x1x1", "lps:1x1x1"]
)  # fmt: skip
def test_a_grid_of_another_form_is_refused_with_an_example(text):
    with pytest.raises(DataError, match=r"USAGE: the grid .*; write for example LPS:0.8x0.8x2.5"):
        parse_grid(text)


def test_headers_without_a_place_take_the_stated_grid_in_every_form(tmp_path):
    volume, affine = made_pair(0)[0], np.diag([0.8, 0.8, 3.0, 1.0])
    nifti = placeholder(tmp_path / "a.nii", volume)
    content = bytearray(nifti.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    nifti.write_bytes(content)
    paths = [
        nifti,
        write_nrrd(tmp_path / "b.nrrd", volume, affine, space=None),
        write_nrrd(tmp_path / "c.nrrd", volume, affine, space_directions=None),
        write_nrrd(tmp_path / "d.nrrd", volume, affine, space_origin=None),
        write_metaimage(tmp_path / "e.mha", volume, affine, TransformMatrix=None),
    ]
    for path in paths:
        header = read_image_header(path, GRID)
        np.testing.assert_array_equal(header.grid.affine(), GRID.affine())
        assert [note.code for note in header.notes] == ["STATED_GRID"]


def test_a_grid_is_refused_where_the_header_states_the_place(tmp_path):
    real = write_nifti(tmp_path / "ct.nii", made_pair(0)[0])
    with pytest.raises(
        DataError, match=r"USAGE: a stated grid for an image file whose header states .*; leave out"
    ):
        open_ct(real, grid=GRID)
    series = make_series(tmp_path / "dicom", slices=4).folder
    with pytest.raises(
        DataError, match="USAGE: a stated grid for a DICOM series; expected an image file with"
    ):
        open_ct(series, grid=GRID)


def test_a_case_whose_grid_is_stated_later_is_the_same_case(tmp_path):
    request = pair(tmp_path, patient="P")
    assert statuses(take(tmp_path, [request])) == ["taken"]
    stated = replace(request, grid=GRID)
    assert statuses(take(tmp_path, [stated])) == ["CHANGED"]
    assert statuses(take(tmp_path, [stated], replace_changed=True)) == ["replaced"]
    assert statuses(take(tmp_path, [stated])) == ["unchanged"]


def test_a_manifest_states_a_grid_in_a_row(tmp_path):
    pair(tmp_path)
    (tmp_path / "list.csv").write_text("ct,mask,grid\nv.nii,s.nii,RAS:0.7x0.8x2.5\nv2.nii,s.nii,\n")
    assert [request.grid for request in read_manifest(tmp_path / "list.csv").requests] == [GRID, None]
    (tmp_path / "list.csv").write_text("ct,mask,grid\nv.nii,s.nii,0.7\n")
    with pytest.raises(DataError, match=r"MANIFEST: row 1 with the grid '0.7'; .* write for example LPS"):
        read_manifest(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("ct,mask,grid\nv.nii,s.nii,LPS:1x1x2\nv.nii,t.nii,LPS:1x1x3\n")
    with pytest.raises(DataError, match="MANIFEST: row 2 with another grid than an earlier row"):
        read_manifest(tmp_path / "list.csv")


@pytest.mark.parametrize(("ct", "mask", "which"), [(True, False, "CT"), (False, True, "mask")])
def test_no_voxel_is_mapped_by_a_placeholder_even_if_it_is_asked_for(tmp_path, ct, mask, which):
    hu, labels = made_pair(0)
    paths = [
        (placeholder if is_placeholder else write_nifti)(tmp_path / name, volume)
        for name, volume, is_placeholder in (("v.nii", hu, ct), ("s.nii", labels, mask))
    ]
    for options in (CaseOptions(), CaseOptions(resample_mask=True)):
        (outcome,) = take(tmp_path, [CaseRequest(*paths, RULES)], options)
        assert outcome.error.code == "GEOMETRY"
        assert f"the header of the {which} is a placeholder" in str(outcome.error)
        assert f"convert the {which} again from DICOM" in str(outcome.error)


def test_placeholders_in_both_directions_are_no_reason_to_warn_of_the_mask(tmp_path):
    hu, labels = made_pair(0)
    affine = np.diag([-1.0, -1, 1, 1])
    request = CaseRequest(
        placeholder(tmp_path / "v.nii", hu, affine), placeholder(tmp_path / "s.nii", labels, affine), RULES
    )
    (outcome,) = take(tmp_path, [request])
    assert [note.code for note in outcome.facts.notes] == ["PLACEHOLDER", "PATIENT_UNKNOWN"]
    np.testing.assert_array_equal(
        SliceStore(tmp_path / "store").source(("liver", "spleen")).read(np.arange(5))[1][..., 0], labels
    )
