"""A run with neighbour slices trains, resumes, mines, evaluates, reports and predicts; its networks take channels."""

import dataclasses

import numpy as np
import pytest
from made import runs

from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import Identity, Volume
from kerasbalance.experiments.report.gallery import pick_hardest
from kerasbalance.experiments.report.views import slice_pictures
from kerasbalance.experiments.runs.evaluate import evaluate_run
from kerasbalance.experiments.runs.mine import mine_run
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.segment import load_segmenter, segment_case, segment_volume
from kerasbalance.experiments.runs.train import Run
from kerasbalance.models import fcn_vgg16, unet

OPTIONS = TrainOptions(
    organs=(runs.ORGAN,), model=runs.MODEL, iterations=20, batch_size=8, learning_rate=0.5, neighbours=1
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(8)])
    Run.create(folder / "store", folder / "run", OPTIONS).train()
    return Run.open(folder / "run", model=runs.MODEL)


def test_a_run_with_neighbours_resumes_to_the_same_bytes(whole, tmp_path):
    broken = Run.create(whole.store.path, tmp_path / "run", OPTIONS)
    runs.train_with_a_break(broken, 13)
    assert runs.final_arrays(broken) == runs.final_arrays(whole)
    assert broken.folder.slices_file.read_bytes() == whole.folder.slices_file.read_bytes()


def test_eval_mine_and_gallery_see_the_neighbours_and_show_the_slice(whole):
    assert evaluate_run(whole).cases[0].dice > 0.5
    mined = mine_run(whole)
    rows = pick_hardest(mined.table)[:2]
    plain = whole.store.source(runs.ORGAN)
    for picture, row in zip(slice_pictures(whole, mined.segmenter, mined.table, rows), rows, strict=True):
        assert np.array_equal(picture.hu, plain.read([mined.table.ref[row]])[0][0, ..., 0])


@pytest.mark.parametrize("gap", [0.0, 30.0])
def test_a_prediction_on_new_ct_is_that_of_the_same_slices_in_a_store(whole, tmp_path, gap):
    record, number = whole.record, 3
    facts = whole.store.cases[number]
    refs = np.arange(whole.store.first_ref[number], whole.store.first_ref[number + 1])
    hu = whole.store.source(runs.ORGAN).read(refs)[0][..., 0]
    positions = np.zeros((len(hu), 3))
    positions[:, 2] = whole.store.reader(number).depth_mm
    positions[7:, 2] += gap
    _, rows, columns = facts.spacing_mm
    grid = Grid(hu.shape, positions, np.array([0.0, rows, 0]), np.array([columns, 0.0, 0]))
    volume = Volume(hu, grid, "nifti", Identity(), {})
    segmenter = load_segmenter(whole.folder, record, (32, 32))
    before, after = np.maximum(np.arange(14) - 1, 0), np.minimum(np.arange(14) + 1, 13)
    if gap:
        before[7], after[6] = 7, 6
    x = np.stack([hu[before], hu, hu[after]], axis=-1)
    expected = np.concatenate([segmenter.labels(x[:8]), segmenter.labels(x[8:])])
    assert np.array_equal(segment_volume(segmenter, record, volume)[0], expected)
    if not gap:
        assert np.array_equal(segment_case(segmenter, whole.source(), number)[0], expected)


@pytest.mark.parametrize("build", [unet, fcn_vgg16])
def test_the_networks_take_any_number_of_channels(build):
    model = build((32, 32, 5), num_classes=2, base_filters=1)
    x = np.zeros((1, 32, 32, 5), np.int16)
    assert model(x).shape == (1, 32, 32, 2)
    assert build((32, 32, 1), base_filters=1).get_layer("window")
    with pytest.raises(ValueError, match=r"expected \(height, width, channels\)"):
        build((32, 32, 0), base_filters=1)


def test_neighbours_are_an_option_of_the_run(whole):
    assert whole.options.neighbours == 1
    assert dataclasses.replace(OPTIONS, neighbours=0) == TrainOptions.from_json(
        {**OPTIONS.to_json(), "neighbours": 0}
    )
