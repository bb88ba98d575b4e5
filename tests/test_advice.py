"""The advice of a refusal is followed to the letter, and the case is taken."""

import re
import shlex
from pathlib import Path

import click
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from made.cases import made_pair, write_nifti
from made.images import write_nrrd
from made.masks import FRAME, made_grid, made_labels, made_seg, made_volume, save_nifti
from made.series import make_series
from PIL import Image

from kerasbalance.cli.sources import case_options
from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.case import open_case, read_opened
from kerasbalance.data.store.keys import Pseudonyms

PSEUDONYMS = Pseudonyms(b"0" * 32, Path())


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@case_options
def look(source, find_layout, options, jobs):
    """Read the cases as ingest does, in this process."""
    for request in find_layout().requests:
        read_opened(open_case(request, options), PSEUDONYMS)


def refusal_of(folder, words):
    """Return the error in which a command ends, None if every case is taken."""
    result = CliRunner().invoke(look, [str(word) for word in words])
    if result.exit_code == 0:
        return None
    assert isinstance(result.exception, DataError), result.output
    return result.exception


def series(folder, slices=6, **how):
    """Write a CT series and a mask on its grid; return the words of the command."""
    how = {"slices": slices, "size": 16, **how}
    make_series(folder / "ct", **how)
    labels = np.zeros((slices, 16, 16), np.uint8)
    labels[1:4, 3:9, 3:9] = 1
    mask = write_nifti(folder / "mask.nii", labels)
    return [folder / "ct", "--mask", mask, "--label", "liver=1"]


def on_grid_of(folder, words, allow):
    """Replace the mask of a series by one on the grid that the CT has if it is allowed."""
    from kerasbalance.data.ct import open_ct

    grid = open_ct(folder / "ct", allow=frozenset({allow})).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 3:9, 3:9] = 1
    seg = made_seg(labels[..., None], grid, names=("Liver",))
    seg.FrameOfReferenceUID = "1.2.826.0.1.3"
    seg.save_as(folder / "mask.dcm")
    return [words[0], "--mask", folder / "mask.dcm", "--label", "liver"]


def gap(folder):
    return on_grid_of(folder, series(folder, edits={5: lambda d, n: move(d, 30.0)}), "gap")


def move(dataset, by):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, z + by]


def tilt(folder):
    return on_grid_of(folder, series(folder, aside_mm=(0, 0.4, 0)), "tilt")


def sagittal(folder):
    return on_grid_of(folder, series(folder, cosines=(0, 1, 0, 0, 0, -1)), "nonaxial")


def single(folder):
    return on_grid_of(folder, series(folder, slices=1), "single")


def phases(folder):
    return on_grid_of(
        folder, series(folder, edit=lambda d, n: setattr(d, "AcquisitionNumber", n % 2)), "phases"
    )


def burned_in(folder):
    return on_grid_of(
        folder, series(folder, edit=lambda d, n: setattr(d, "BurnedInAnnotation", "YES")), "burned-in"
    )


def image(folder, hu=None, labels=None, label="liver=1"):
    """A CT and a mask as NIfTI."""
    made_hu, made = made_pair(0)
    ct = write_nifti(folder / "ct.nii", made_hu if hu is None else hu)
    return [
        ct,
        "--mask",
        write_nifti(folder / "mask.nii", made if labels is None else labels),
        "--label",
        label,
    ]


def no_air(folder):
    return image(folder, hu=(made_pair(0)[0].astype(int) + 1024).astype(np.int16))


def other_frame(folder):
    words = series(folder)
    labels = np.zeros((6, 16, 16, 1), np.uint8)
    labels[1:4, 3:9, 3:9] = 1
    from kerasbalance.data.ct import open_ct

    seg = made_seg(labels, open_ct(folder / "ct").grid, names=("Liver",))
    seg.FrameOfReferenceUID = FRAME
    seg.save_as(folder / "seg.dcm")
    return [words[0], "--mask", folder / "seg.dcm", "--label", "liver"]


def finer_mask(folder):
    hu, labels = made_pair(0)
    ct = write_nifti(folder / "ct.nii", hu)
    fine = write_nifti(folder / "m.nii", labels.repeat(2, 1).repeat(2, 2), (3.0, 0.4, 0.4))
    return [ct, "--mask", fine, "--label", "liver=1"]


def no_label(folder):
    return image(folder, labels=made_pair(0)[1] * 3)[:3]


def absent_value(folder):
    return image(folder, labels=made_pair(0)[1] * 3, label="liver=1")


def two_open_organs(folder):
    return [*image(folder, labels=made_pair(0)[1] * 3, label="liver"), "--label", "spleen"]


def named_value(folder):
    return image(folder, labels=made_pair(0)[1] * 3, label="liver=Leber")


def several_values(folder):
    return image(folder, labels=made_pair(0)[1] * 3, label="liver")


def unknown_segment(folder):
    volume = made_volume()
    ct = save_nifti(folder / "ct.nii", volume.hu, volume.grid)
    values = {"Segment0_ID": "a", "Segment0_Name": "x", "Segment0_LabelValue": 1, "Segment0_Layer": 0}
    mask = write_nrrd(folder / "m.seg.nrrd", made_labels(), made_grid().affine(), values=values)
    return [ct, "--mask", mask, "--label", "liver"]


def no_geometry(folder):
    hu, labels = made_pair(0)
    paths = []
    for name, volume in (("ct.nii", hu), ("mask.nii", labels)):
        path = folder / name
        nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), path)
        content = bytearray(path.read_bytes())
        content[252:256] = bytes(4)  # qform_code and sform_code
        path.write_bytes(content)
        paths.append(path)
    return [paths[0], "--mask", paths[1], "--label", "liver=1"]


def png_stack(folder):
    hu, labels = made_pair(0)
    (folder / "png").mkdir()
    for number, plane in enumerate(labels):
        Image.fromarray((plane == 1).astype(np.uint8)).save(folder / "png" / f"{number}.png")
    return [write_nifti(folder / "ct.nii", hu), "--mask", folder / "png", "--label", "liver"]


def two_series(folder):
    words = on_grid_of(folder, series(folder), "single")
    make_series(folder / "ct" / "b", slices=6, size=16, series="1.2.3")
    return words


TABLE = {
    "GAP": gap, "TILT": tilt, "NON_AXIAL": sagittal, "ONE_IMAGE": single, "PHASES": phases, "BURNED_IN": burned_in,
    "NOT_HU": no_air, "FRAME_OF_REFERENCE": other_frame, "GEOMETRY": finer_mask, "NO_GEOMETRY": no_geometry,
    "PNG_ORDER": png_stack, "SEVERAL_SERIES": two_series, "LABEL_NAME": unknown_segment,
}  # fmt: skip
LABELS = {
    no_label: "LABEL_RULE", named_value: "LABEL_RULE", two_open_organs: "LABEL_RULE",
    absent_value: "LABEL_VALUE", several_values: "LABEL_VALUE",
}  # fmt: skip


@pytest.mark.parametrize(("code", "make"), [*TABLE.items(), *((code, make) for make, code in LABELS.items())])
def test_who_follows_the_advice_of_a_refusal_gets_the_case(tmp_path, code, make):
    words = make(tmp_path)
    error = refusal_of(tmp_path, words)
    assert error is not None
    assert error.code == code
    advised = re.findall(r"--[a-z-]+(?: [^\s;,)]+)?", error.advice)
    advised = [word.replace("NUMBER", "1") for word in advised if not word.startswith("--mask")]
    assert advised, error.advice
    given = words
    if any(word.startswith("--label") for word in advised):  # in place of the labels that were refused
        given = words[: words.index("--label")] if "--label" in words else words
    added = [part for word in advised for part in shlex.split(word)]
    again = refusal_of(tmp_path, [*given, *[part for part in added if part != "to"]])
    assert again is None, again
