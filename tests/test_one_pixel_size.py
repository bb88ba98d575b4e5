"""Cases of several scanners brought to one pixel size, and predictions brought back to the CT's own pixels."""

import json

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from made.cases import LIVER, write_nifti
from made.stores import take

from kerasbalance.cli.main import main
from kerasbalance.data.ct import open_ct
from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.planes import PaddedSource
from kerasbalance.experiments.runs.segment import segment_case, segment_volume

SCANNERS = ((48, 0.6), (40, 0.9), (36, 1.2), (32, 0.75))


def call(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0, result.output
    return result.output


def disc(side, pixel_mm, radius_mm=10.0):
    """A liver of 100 HU, a disc of so many millimetres on three slices, in fat."""
    rows, columns = (np.mgrid[:side, :side] - (side - 1) / 2) * pixel_mm
    labels = np.repeat((np.hypot(rows, columns) < radius_mm)[None], 3, axis=0).astype(np.uint8)
    return np.where(labels > 0, 100, -100).astype(np.int16), labels


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Four discs of one size in millimetres, on pixels of four sizes."""
    folder = tmp_path_factory.mktemp("scanners")
    for n, (side, pixel) in enumerate(SCANNERS):
        hu, labels = disc(side, pixel)
        hu[0, 0, 0] = n  # no two CT are the same
        write_nifti(folder / f"ct{n}.nii", hu, (3.0, pixel, pixel))
        write_nifti(folder / f"mask{n}.nii", labels, (3.0, pixel, pixel))
    return folder


def requests(home):
    return [
        CaseRequest(home / f"ct{n}.nii", home / f"mask{n}.nii", LIVER, f"P{n}", where=f"case {n + 1} of 4")
        for n in range(4)
    ]


@pytest.fixture(scope="module")
def store(home, tmp_path_factory):
    """Their store at 1 mm."""
    folder = tmp_path_factory.mktemp("spaced")
    assert [o.status for o in take(folder, requests(home), CaseOptions(spacing_mm=1.0), jobs=1)] == [
        "taken"
    ] * 4
    return folder / "store"


@pytest.fixture(scope="module")
def run(store):
    """A run on the store at 1 mm."""
    call("train", store, "--out", store.parent / "run", "--organ", "liver", "--iterations", 2,
         "--base-filters", 4, "--batch-size", 2)  # fmt: skip
    return store.parent / "run"


class Bright(Segmenter):
    """A perfect model of these CT: a liver is what has more than 0 HU."""

    batch_size = 2

    def __init__(self):
        self.point = OperatingPoint.default(("liver",))

    def probabilities(self, x):
        return np.clip(x / 200 + 0.5, 0, 1).astype(np.float32)


def test_all_discs_have_one_size_in_pixels_at_one_pixel_size(store):
    opened = SliceStore(store)
    assert {case.spacing_mm for case in opened.cases} == {(3.0, 1.0, 1.0)}
    areas = opened.positive_pixels(opened.refs("liver"), "liver")
    assert areas.min() > 0.95 * np.pi * 100
    assert areas.max() < 1.05 * np.pi * 100


def test_smaller_planes_lie_in_the_middle_of_the_largest_with_air_around(store):
    opened = SliceStore(store)
    source = opened.source("liver")
    assert source.plane == (44, 44)  # 36 pixels of 1.2 mm are 43.2 mm
    smallest = min(range(4), key=lambda n: opened.cases[n].rows)
    x, y = source.read(opened.refs("liver", [smallest]), np.full(3, 1))
    assert (opened.cases[smallest].rows, source.window(smallest)[0]) == (24, slice(10, 34))
    assert (x[:, :10] == -1024).all()
    assert not y[:, :10].any()
    assert x[0, 22, 22, 0] == 100


def test_a_crop_gives_all_cases_one_plane(home, tmp_path):
    take(tmp_path, requests(home), CaseOptions(spacing_mm=1.0, crop=32), jobs=1)
    assert {(case.rows, case.columns) for case in SliceStore(tmp_path / "store").cases} == {(32, 32)}


def test_cases_of_several_sizes_and_pixel_sizes_do_not_train_together(home, tmp_path):
    take(tmp_path, requests(home), jobs=1)
    with pytest.raises(DataError, match="slices of 4 sizes"):
        SliceStore(tmp_path / "store").source("liver")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"spacing_mm": 0.05}, "--spacing 0.05; expected 0.1 to 20 mm"),
        ({"spacing_mm": 1.0, "resize": 32}, "which both resample"),
    ],
)
def test_impossible_pixel_sizes_are_refused(options, match):
    with pytest.raises(DataError, match=match):
        CaseOptions(**options)


def test_a_case_is_judged_against_the_reference_on_its_own_pixels(store):
    source = PaddedSource(SliceStore(store).source("liver"))
    for number, case in enumerate(source.source.store.cases):
        predicted, reference = segment_case(Bright(), source, number)
        side, pixel = next(scanner for scanner in SCANNERS if scanner[0] == case.ct_plane[0])
        np.testing.assert_array_equal(reference, disc(side, pixel)[1])
        overlap = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
        assert overlap > 0.95


def test_a_new_ct_is_segmented_at_the_pixel_size_of_the_run_and_decided_on_its_own(home, run):
    record = RunRecord.read(RunFolder(run).record_file)
    assert record.shaping.spacing_mm == 1.0
    labels, notes = segment_volume(Bright(), record, open_ct(home / "ct0.nii").read())
    assert (labels.shape, notes) == ((3, 48, 48), ())
    wanted = disc(*SCANNERS[0])[1]
    assert 2 * (labels & wanted).sum() / (labels.sum() + wanted.sum()) > 0.95


def test_predict_and_eval_say_that_they_stand_on_the_cts_own_grid(home, run, tmp_path):
    call("predict", run, home / "ct2.nii", "--out", tmp_path / "out.nii.gz")
    assert nibabel.load(tmp_path / "out.nii.gz").shape == (36, 36, 3)
    assert "judged on the CT's own grid" in call("eval", run)
    assert json.loads((run / "eval" / "summary.json").read_text())["cases_by_grid"] == {"CT": 1, "store": 0}


def test_info_suggests_the_median_where_pixel_sizes_differ(home, tmp_path, store):
    take(tmp_path, requests(home), jobs=1)
    assert "pixels differ by 100 %: `ingest --spacing 0.82`" in call("info", tmp_path / "store")
    assert "ingest --spacing" not in call("info", store)
