"""Cases that annotate only some of the organs train together, and are judged by the organs that they annotate."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

import kerasbalance as kb
from kerasbalance.cli.main import main
from kerasbalance.experiments.report.gallery import pick_hardest
from kerasbalance.experiments.report.views import slice_pictures
from kerasbalance.experiments.runs.evaluate import evaluate_run
from kerasbalance.experiments.runs.mine import mine_run
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.train import Run

ORGANS = ("liver", "spleen")
OPTIONS = TrainOptions(organs=ORGANS, model=runs.MODEL, iterations=20, batch_size=8, learning_rate=0.5,
                       test_share=0.4, partial_labels=True)  # fmt: skip


def stack(seed, organs):
    """An ellipsoid of 100 HU, the liver, and a block of -500 HU, the spleen; labels of the named organs alone."""
    hu, mask = runs.made_stack(seed, slices=8)
    hu[3:5, 2:6, 2:6] = -500
    labels = np.zeros(hu.shape, np.uint8)
    if "liver" in organs:
        labels[mask] = organs.index("liver") + 1
    if "spleen" in organs:
        labels[3:5, 2:6, 2:6] = organs.index("spleen") + 1
    return hu, labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial")
    organs = [ORGANS if n % 3 == 0 else ORGANS[n % 3 - 1 :][:1] for n in range(12)]
    runs.store_of_stacks(folder / "store", [stack(n, own) for n, own in enumerate(organs)], organs)
    Run.create(folder / "store", folder / "run", OPTIONS).train()
    return Run.open(folder / "run", model=runs.MODEL)


def test_all_cases_take_part_and_the_loss_leaves_unknown_pixels_out(run):
    assert len(run.store.cases) == len(run.rows) == 12
    model, dataset, _ = run._parts()
    assert model.loss.ignore_label == 255
    assert 255 in dataset.source.read(run.refs("A", "B"))[1]
    whole = Run.create(
        run.store.path, run.folder.path.parent / "full", dataclasses.replace(OPTIONS, partial_labels=False)
    )
    assert len(whole.rows) == 4
    assert whole._parts()[0].loss.ignore_label is None


def test_resume_ends_with_the_same_bytes(run, tmp_path):
    broken = Run.create(run.store.path, tmp_path / "run", OPTIONS)
    runs.train_with_a_break(broken, 13)
    assert runs.final_arrays(broken) == runs.final_arrays(run)


def test_an_organ_that_a_case_does_not_annotate_has_no_row_and_is_counted(run):
    evaluation = evaluate_run(run)
    tested = [row.case for row in run.rows if row.part == "test"]
    annotated = {case.key: case.organs for case in run.store.cases}
    assert [(c.case, c.organ) for c in evaluation.cases] == [
        (case.key, organ) for case in run.store.cases if case.key in tested for organ in ORGANS
        if organ in case.organs
    ]  # fmt: skip
    missing = {organ: sum(organ not in annotated[key] for key in tested) for organ in ORGANS}
    assert [note.text for note in evaluation.notes if note.code == "PARTIAL"] == [
        f"{organ}: {count} of {len(tested)} test cases do not annotate it and are left out"
        for organ, count in missing.items() if count
    ]  # fmt: skip
    assert any(missing.values())


def test_the_table_of_slices_has_the_score_of_each_organ(run):
    table = SliceTable.read(run.folder.slices_file)
    assert list(table.organ_scores) == list(ORGANS)
    known = np.array(
        [[organ in run.store.cases[n].organs for organ in ORGANS] for n in run.store.case_of(table.ref)]
    )
    scores = np.stack(list(table.organ_scores.values()), axis=1)
    assert np.array_equal(np.isnan(scores), ~known)
    assert np.array_equal(np.nanmin(scores, axis=1), table.score)
    assert table.to_csv() == run.folder.slices_file.read_bytes()


def test_an_organ_that_is_not_annotated_makes_no_slice_hard(run):
    source, refs = run.source(), run.refs("A")
    known = source.annotated(refs)
    model = run._parts()[0]
    scores = kb.score_slices(model, source, refs)
    assert (~known).any()
    assert (scores.counts[~known] == 0).all()
    assert (scores.dice[~known] == 1).all()


def test_mine_and_gallery_work_on_partly_annotated_cases(run):
    mined = mine_run(run)
    assert len(mined.table) == len(run.refs("A"))
    for picture in slice_pictures(run, mined.segmenter, mined.table, pick_hardest(mined.table)):
        assert set(np.unique(picture.reference)) <= {0, 1, 2}


@pytest.mark.parametrize(("words", "told"), [
    (["--partial-labels"], "8 of 12 cases annotate only some of the organs; their other pixels count nowhere"),
    ([], "8 cases that annotate only some of the organs are left out; --partial-labels uses them too"),
])  # fmt: skip
def test_train_tells_what_becomes_of_them(run, tmp_path, words, told):
    given = ["train", str(run.store.path), "--out", str(tmp_path / "run"), "--organ", "liver", "--organ", "spleen",
             "--model", runs.MODEL, "--iterations", "2", "--no-mining", *words]  # fmt: skip
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    assert told in done.output
