"""`mine`: scoring a pool with a run's model, and masks that look wrong."""

import csv
import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

pytest.importorskip("matplotlib")

import kerasbalance as kb
from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.phantom import make_case
from kerasbalance.experiments.report.mined import write_mined
from kerasbalance.experiments.runs import suspects
from kerasbalance.experiments.runs.mine import mine_run
from kerasbalance.experiments.runs.model import load_model
from kerasbalance.experiments.runs.slice_table import COLUMNS, SliceTable

PLANTED = 6
"""The slice whose mask is emptied in every case of the store."""


def files(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stacks = [runs.made_stack(seed) for seed in range(8)]
    for _, mask in stacks:
        mask[PLANTED] = False
    return runs.made_run(tmp_path_factory.mktemp("mine"), stacks, rule="lowest:0.4")


@pytest.fixture(scope="module")
def mined(run):
    return mine_run(run)


@pytest.fixture(scope="module")
def liver():
    """HU, liver and spleen of one easy case."""
    case = make_case((5, 1), size=64)
    return case.hu, case.mask("liver"), case.mask("spleen")


def middle(mask):
    """A slice where the liver is large."""
    return int(mask.sum(axis=(1, 2)).argmax())


def wrong(mask, number, kind, spleen):
    """The mask with an error planted into one slice (or two)."""
    planted, own = mask.copy(), mask[number]
    if kind == "two empty":
        planted[number : number + 2] = False
        return planted
    planted[number] = {
        "shifted": np.roll(own, 10, axis=1),
        "flipped": own[:, ::-1],
        "empty": own & False,
        "other organ": spleen[number],
        "everything": own | True,
    }[kind]
    return planted


@pytest.mark.parametrize("kind", ["shifted", "flipped", "empty", "other organ", "everything", "two empty"])
def test_a_planted_error_shows_at_least_one_sign(liver, kind):
    hu, mask, spleen = liver
    number = middle(mask)
    planted = wrong(mask, number, kind, spleen)
    signs = suspects.find_signs(number, planted, mask[number], suspects.measure_tissue(hu, planted))
    assert signs
    assert signs[0].score >= 1


def test_no_slice_of_a_sound_mask_is_suspected_beside_its_true_prediction(liver):
    hu, mask, _ = liver
    tissue = suspects.measure_tissue(hu, mask)
    assert not [
        number for number in range(len(mask)) if suspects.find_signs(number, mask, mask[number], tissue)
    ]


def test_a_mask_that_nothing_around_it_supports_is_isolated(liver):
    hu, mask, _ = liver
    planted = mask.copy()
    planted[0, 30:34, 30:34] = True
    first = int(np.flatnonzero(mask.any(axis=(1, 2)))[0])
    assert first > 1
    signs = suspects.find_signs(0, planted, mask[0], suspects.measure_tissue(hu, planted))
    assert [sign.reason for sign in signs] == ["isolated"]


def test_reasons_are_told_apart(liver):
    hu, mask, spleen = liver
    number = middle(mask)
    found = {}
    for kind in ("empty", "two empty", "everything"):
        planted = wrong(mask, number, kind, spleen)
        tissue = suspects.measure_tissue(hu, planted)
        found[kind] = suspects.find_signs(number, planted, mask[number], tissue)[0].reason
    assert found == {"empty": "jump", "two empty": "prediction", "everything": "jump"}


def test_a_lesion_that_the_model_misses_is_no_reason_to_suspect_its_mask(liver):
    hu, mask, _ = liver
    number = middle(mask)
    rows, columns = np.argwhere(mask[number]).mean(axis=0).astype(int)
    lesion = np.zeros_like(mask)
    lesion[number - 2 : number + 3, rows - 8 : rows + 8, columns - 8 : columns + 8] = True
    tissue = suspects.measure_tissue(np.where(lesion, np.int16(-20), hu), mask)
    assert list(suspects._tissue_signs(number, tissue))  # the HU do deviate
    for place in range(number - 2, number + 3):
        assert suspects.find_signs(place, mask, mask[place] & ~lesion[place], tissue) == ()


def test_deviating_hu_support_a_jump_too_small_to_count_alone_and_are_named_last(liver):
    _, mask, _ = liver
    number = middle(mask)
    planted = mask.copy()
    planted[number] = np.roll(mask[number], 4, axis=1)
    calm = suspects.Tissue(np.full(len(mask), 100.0), np.full(len(mask), 20.0))
    assert suspects.find_signs(number, planted, planted[number], calm) == ()
    odd = suspects.Tissue(calm.median.copy(), calm.iqr)
    odd.median[number] = 0.0
    signs = suspects.find_signs(number, planted, planted[number], odd)
    assert [sign.reason for sign in signs] == ["jump", "hu"]


def test_a_lone_slice_has_no_signs():
    mask = np.zeros((1, 8, 8), bool)
    tissue = suspects.measure_tissue(np.zeros((1, 8, 8), np.int16), mask)
    assert suspects.find_signs(0, mask, mask[0], tissue) == ()


def test_every_planted_slice_of_part_a_is_suspected(run, mined):
    in_a = {row.case for row in run.rows if row.part == "A"}
    assert {one.case for one in mined.suspects if one.slice == PLANTED} == in_a
    assert [one.score for one in mined.suspects] == sorted(
        (one.score for one in mined.suspects), reverse=True
    )


def test_scores_are_those_of_the_run_s_model(run, mined):
    source = run.source()
    model = load_model(run.options, source.plane, run.folder.path / "checkpoint")
    expected = kb.score_slices(model, source, run.refs("A")).dice[:, 0]
    np.testing.assert_array_equal(mined.table.score, expected)
    lowest = np.sort(expected)[: int(np.ceil(0.4 * len(expected)))]
    assert mined.table.hard.sum() == np.count_nonzero(lowest < 1)


def test_mining_leaves_the_run_as_it_is(run, tmp_path):
    before = files(run.folder.path)
    write_mined(tmp_path / "out", run, mine_run(run, ("test",)))
    assert files(run.folder.path) == before


def test_the_tables_read_back(run, mined, tmp_path):
    write_mined(tmp_path, run, mined)
    assert (tmp_path / "slices.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    again = SliceTable.read(tmp_path / "slices.csv")
    assert again.to_csv() == mined.table.to_csv()
    with (tmp_path / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], int(row["slice"])) for row in rows] == [
        (one.case, one.slice) for one in mined.suspects
    ]
    assert {row["organ"] for row in rows} == {runs.ORGAN}


def test_the_gallery_escapes_names_and_hides_keys(run, mined, tmp_path):
    write_mined(tmp_path, run, mined)
    page = (tmp_path / "gallery.html").read_text()
    assert runs.ORGAN not in page
    assert not [row for row in run.rows if row.case in page or row.patient in page]
    assert "Suspected label errors" in page


def test_a_part_without_cases_is_refused(run):
    with pytest.raises(DataError, match="no cases in part validation"):
        mine_run(run, ("validation",))


def test_the_command_writes_all_four_files_and_lists_suspects(run, tmp_path):
    done = CliRunner().invoke(
        main, ["mine", str(run.folder.path), "--model", runs.MODEL, "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gallery.html", "gallery.png", "slices.csv", "suspects.csv",
    ]  # fmt: skip
    assert "masks look wrong" in done.output


def test_the_command_prints_json(run, tmp_path):
    words = [
        "mine",
        str(run.folder.path),
        "--model",
        runs.MODEL,
        "--out",
        str(tmp_path),
        "--part",
        "test",
        "--json",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["slices"] == len(run.refs("test"))
    table = np.genfromtxt(tmp_path / "slices.csv", delimiter=",", names=True, dtype=None, encoding=None)
    assert found["threshold"] == pytest.approx(table["score"][table["hard"] == 1].max())


def test_the_command_refuses_a_folder_without_a_run(tmp_path):
    done = CliRunner().invoke(main, ["mine", str(tmp_path)])
    assert done.exit_code == 1
    assert "NO_RUN" in done.output
