"""The report of a run: its words and numbers, its pictures, and what it must not hold."""

import csv
import dataclasses
import html
import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs
from PIL import Image

pytest.importorskip("matplotlib")

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError, Note
from kerasbalance.experiments.report import gallery, hardness, prose, surfaces
from kerasbalance.experiments.report.cautions import cautions
from kerasbalance.experiments.report.contents import read_contents
from kerasbalance.experiments.report.page import write_report
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.train import Run

ROOT = Path(__file__).parents[1]
SECTIONS = ("Results on test cases", "Training", "Hard slices", "The hardest slices", "Worst and best test case",
            "What was run", "What this shows, and what not")  # fmt: skip
DATA = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("canary-folder")
    note = Note("HU_SPREAD", f"{runs.ORGAN}: wide <i>", loud=True)
    return runs.made_run(folder, [runs.made_stack(seed) for seed in range(8)], notes=(note,))


@pytest.fixture(scope="module")
def page(finished):
    return write_report(finished).read_text()


@pytest.fixture
def copy(finished, tmp_path):
    """The run in a folder of its own, to take something away from it."""
    shutil.copytree(finished.folder.path, tmp_path / "run")
    return Run.open(tmp_path / "run", model=runs.MODEL)


def table(score, pixels, case=None, position=None):
    """A slice table in which scores below 0.5 are hard."""
    count = len(score)
    score = np.array(score, float)
    return SliceTable(
        ref=np.arange(count),
        case=np.array(["a"] * count if case is None else case),
        slice=np.arange(count) if position is None else np.array(position),
        slices=np.full(count, count),
        pixels=np.array(pixels),
        score=score,
        hard=score < 0.5,
        reason=np.where(score < 0.5, "hard", "easy"),
        copies=(score < 0.5).astype(float),
    )


def test_sections_come_in_order_after_summary_and_warnings(page):
    places = [page.index(f"<h2>{title}</h2>") for title in SECTIONS]
    assert places == sorted(places)
    assert page.index('class="lead"') < page.index('class="cautions"') < places[0]


def test_the_page_gives_mean_and_sd_of_the_case_table(page, finished):
    with (finished.folder.eval_folder / "cases.csv").open() as file:
        dice = np.array([float(row["dice"]) for row in csv.DictReader(file)])
    assert f"{dice.mean():.3f} ± {dice.std(ddof=1):.3f}" in page
    assert all(f">{value:.3f}</span>" in page for value in dice)


def test_names_and_notes_are_escaped(page):
    assert runs.ORGAN not in page
    assert html.escape(runs.ORGAN) in page
    assert "wide &lt;i&gt;" in page


def test_the_page_reaches_for_nothing_outside(page):
    plain = DATA.sub("PNG", page)
    assert not re.search(r"https?:|//|url\(|@import", plain)
    assert set(re.findall(r'(?:src|href)="([^"]*)"', plain)) == {"PNG", "data:,"}
    assert "default-src 'none'" in page


def test_the_page_holds_no_path_and_no_whole_key(page, finished):
    assert "canary" not in page
    assert str(finished.folder.path) not in page
    for row in finished.rows:
        assert row.case not in page
        assert row.patient not in page


def test_the_same_run_gives_the_same_bytes(finished, page):
    figures = {path.name: path.read_bytes() for path in (finished.folder.path / "figures").iterdir()}
    assert write_report(finished).read_text() == page
    assert figures == {path.name: path.read_bytes() for path in (finished.folder.path / "figures").iterdir()}


def test_every_figure_is_a_picture_of_its_own_without_metadata(finished, page):
    paths = sorted((finished.folder.path / "figures").iterdir())
    assert [path.stem for path in paths] == [
        "hard-by-area", "hard-by-case", "hard-by-position", "hardest-slices", "learning-rate", "loss", "scores",
        "surface-organ1-best", "surface-organ1-worst",
    ]  # fmt: skip
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert "Software" not in image.info


def test_a_run_without_evaluation_says_how_to_get_it(copy):
    shutil.rmtree(copy.folder.eval_folder)
    page = write_report(copy).read_text()
    assert page.count("<code>kerasbalance eval RUN</code>") == 2
    assert "worst-case" not in page


def test_a_run_without_mining_says_so(copy):
    copy.folder.slices_file.unlink()
    page = write_report(copy).read_text()
    assert page.count("Part A has not been scored yet.") == 2


def test_an_unfinished_run_says_so_and_shows_its_curve_so_far(copy):
    copy.folder.model_file.unlink()
    page = write_report(copy).read_text()
    assert "The training has not ended." in page
    assert "Loss of the training slices" in page


def test_a_run_that_has_not_begun_has_no_curve(copy):
    copy.folder.model_file.unlink()
    copy.folder.history_file.unlink()
    assert "Loss of the training slices" not in write_report(copy).read_text()


def test_without_a_sound_checkpoint_only_the_pictures_are_missing(copy):
    shutil.rmtree(copy.folder.path / "checkpoint")
    page = write_report(copy).read_text()
    assert page.count("no sound checkpoint") == 2
    assert "HD95" in page


@pytest.mark.parametrize("name", ["history.csv", "eval/cases.csv", "eval/summary.json", "slices.csv"])
def test_a_malformed_table_is_refused(copy, name):
    (copy.folder.path / name).write_text("loss\nx\n")
    with pytest.raises(DataError, match=f"readable {name}"):
        write_report(copy)


def test_what_the_report_says_of_our_study_is_what_the_results_say():
    (told,) = [text for text in prose.LIMITS if "What we measured" in text]
    rows = [line.split(" | ") for line in (ROOT / "docs" / "results.md").read_text().splitlines()]
    tables = [row for row in rows if len(row) == 8]
    differences = {
        (row[0].strip("| "), row[1], row[2]): row for row in reversed(tables)
    }  # the first: liver, U-Net
    for arm, words in (
        ("0.5", "half of the cases"),
        ("random", "random slices"),
        ("mined", "the hard slices"),
    ):
        assert f"{words} {differences[arm, 'all', 'mean'][3]}" in told
    assert differences["mined", "random", "mean"][5] == "3 of 5"
    assert "better than random ones in 3 of 5 seeds" in told
    assert {differences[arm, "all", "mean"][7].strip(" |") for arm in ("0.5", "random", "mined")} == {"no"}


def test_without_matplotlib_the_error_names_the_extra(copy, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"pip install 'kerasbalance\[report\]'"):
        write_report(copy)


def test_the_command_writes_the_page(copy):
    done = CliRunner().invoke(main, ["report", str(copy.folder.path), "--model", runs.MODEL])
    assert done.exit_code == 0, done.output
    assert (copy.folder.path / "report.html").exists()


def test_the_command_refuses_a_folder_without_a_run(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 1
    assert "NO_RUN" in done.output
    assert "Traceback" not in done.output


def test_positions_are_counted_from_head_to_feet():
    pixels = [0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0]
    score = [1, 1, 0.1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.3, 0]
    found = [
        (share.name, share.candidates, share.hard) for share in hardness.by_position(table(score, pixels))
    ]
    assert found == [
        ("above", 1, 1), ("top fifth", 2, 2), ("2nd fifth", 2, 0), ("middle", 2, 0), ("4th fifth", 2, 0),
        ("lowest fifth", 2, 1), ("below", 2, 0),
    ]  # fmt: skip


def test_areas_are_quarters_of_the_slices_with_the_organ():
    found = hardness.by_area(table([0, 1, 0.1, 1, 1, 0.2], [0, 0, 1, 2, 3, 4]))
    assert [(s.candidates, s.hard) for s in found] == [(2, 1), (1, 1), (1, 0), (1, 0), (1, 1)]


def test_cases_beyond_the_limit_are_one_group():
    case = [f"{number:02}" for number in range(20) for _ in range(2)]
    score = [0.1, 1] * 3 + [1, 1] * 17
    found = hardness.by_case(table(score, [1] * 40, case))
    assert len(found) == hardness.MAX_CASES
    assert [s.name for s in found[:3]] == ["00", "01", "02"]
    assert found[-1].name == "9 others"
    assert sum(s.candidates for s in found) == 40


def test_the_gallery_takes_the_lowest_scores_and_few_of_a_case():
    case = ["a"] * 4 + ["b"] * 3
    rows = gallery.pick_hardest(table([0, 0, 0.1, 0.2, 0.3, 0.4, 1], [1, 9, 1, 1, 1, 1, 1], case), per_case=3)
    assert rows.tolist() == [0, 1, 2, 4, 5]


def test_of_slices_with_one_score_the_gallery_shows_the_chosen_ones_in_the_order_of_the_table():
    tied = table([0, 0, 0, 0], [9, 1, 5, 2], list("abcd"))
    chosen = dataclasses.replace(tied, hard=np.array([False, True, False, True]))
    assert gallery.pick_hardest(chosen, count=3).tolist() == [1, 3, 0]


def test_outlines_run_around_the_pixels_of_the_mask():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:7] = True
    (outline,) = gallery.outlines(mask)
    assert outline.min(axis=0).tolist() == [1.5, 2.5]
    assert outline.max(axis=0).tolist() == [4.5, 6.5]


def test_grey_values_span_the_window():
    hu = np.array([[-1000, -150, 50, 250, 3000]], np.int16)
    with Image.open(io.BytesIO(gallery.grey_png(hu, (-150.0, 250.0)))) as image:
        assert np.asarray(image).tolist() == [[0, 0, 128, 255, 255]]


def test_a_picture_is_cut_around_its_contours_and_inside_the_slice():
    reference = np.zeros((40, 60), np.uint8)
    reference[35:40, 50:58] = 1
    picture = gallery.Picture("a", 0, 1, 0.0, np.zeros((40, 60), np.int16), reference, reference * 0)
    assert picture.region == (10, 30, 30)
    assert picture.dice == 0.0


def test_a_surface_lies_where_the_mask_ends():
    spacing = (4.0, 2.0, 1.0)
    axes = [(np.arange(count) + 0.5) * step for count, step in zip((20, 40, 80), spacing, strict=True)]
    away = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - 40.0
    vertices, faces = surfaces.surface_mesh(np.linalg.norm(away, axis=-1) < 30, spacing)
    distance = np.linalg.norm(vertices - 40.0, axis=1)
    assert abs(distance.mean() - 30) < 1
    assert distance.std() < 1.5
    assert faces.max() == len(vertices) - 1


def test_normals_point_outwards():
    mask = np.zeros((12, 12, 12), bool)
    mask[3:9, 3:9, 3:9] = True
    mesh = surfaces.surface_mesh(mask, (1.0, 1.0, 1.0))
    outward = mesh[0][mesh[1]].mean(axis=1) - 6.0
    assert ((surfaces._normals(mesh) * outward).sum(axis=1) > 0).all()


def test_an_empty_prediction_is_drawn_as_such():
    mask = np.zeros((5, 8, 8), bool)
    full = ~mask
    assert surfaces.surface_mesh(mask, (1.0, 1.0, 1.0)) is None
    assert surfaces.surface_pair(full, mask, (float("nan"), 1.0, 1.0)).startswith(b"\x89PNG")


def warned(finished, **changes):
    """The warnings of the run when its cases are changed."""
    contents = read_contents(finished.folder)
    cases = [dataclasses.replace(case, **changes) for case in contents.cases]
    return " ".join(cautions(dataclasses.replace(contents, cases=tuple(cases)), finished.store.cases))


def test_few_cases_are_warned_of(finished):
    assert "Only 2 test cases" in warned(finished)
    assert "Only 6 training cases" in warned(finished)


def test_an_organ_that_was_not_learned_is_warned_of(finished):
    assert "not learned" in warned(finished, dice=0.01)


def test_infinite_distances_are_warned_of(finished):
    assert "only one of the two masks" in warned(finished, hd95_mm=float("inf"), prediction_voxels=0)


def test_false_positives_are_warned_of(finished):
    assert "predicted on 8 of the 8 test slices" in warned(finished, empty_slices=4, false_positive_slices=4)


@pytest.mark.parametrize(("wrong", "warns"), [(5, False), (6, True)])
def test_false_positives_are_warned_of_from_a_twentieth_of_the_empty_slices_on(finished, wrong, warns):
    # Two test cases of 50 empty slices each; 5 of 100 are just no reason to warn, 6 are.
    contents = read_contents(finished.folder)
    counts = iter([(50, wrong), (50, 0)])
    cases = tuple(
        dataclasses.replace(case, empty_slices=empty, false_positive_slices=false)
        for case, (empty, false) in zip(contents.cases, counts, strict=True)
    )
    text = " ".join(cautions(dataclasses.replace(contents, cases=cases), finished.store.cases))
    assert ("of the 100 test slices" in text) is warns


def test_a_model_that_knew_nothing_when_it_mined_is_warned_of(finished):
    contents = read_contents(finished.folder)
    mining = dataclasses.replace(contents.mining, score=np.zeros(len(contents.mining)))
    text = " ".join(cautions(dataclasses.replace(contents, mining=mining), ()))
    assert "mostly chance" in text
