"""`predict` as a daily tool: one CT or a folder of them, each by itself, continued, refused in time."""

import csv
import importlib.util
import io
import json
import shutil

import click
import nibabel
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from made.masks import made_grid, made_volume, save_nifti
from made.runs import made_run, made_stack
from made.series import PATIENT, make_series
from PIL import Image

from kerasbalance.cli.common import ProgressLines, say
from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.report.preview import preview_png
from kerasbalance.experiments.runs import predict_folder
from kerasbalance.experiments.runs.ensemble import Ensemble
from kerasbalance.experiments.runs.predict import Predictor
from kerasbalance.experiments.runs.prediction_table import CaseRow, read_table, write_table
from kerasbalance.lock import FolderLock

MODEL = "made.runs:tiny_model"


def call(*words, code=0):
    """What the command prints; it must end with the code."""
    done = CliRunner().invoke(main, ["predict", *map(str, words), "--model", MODEL])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run of two organs, and a folder with two DICOM CT, a NIfTI CT and a DICOM CT with a gap."""
    root = tmp_path_factory.mktemp("predict")
    stacks = []
    for seed in range(6):
        hu, mask = made_stack(seed)
        labels = mask.astype(np.uint8)
        labels[:, :, 16:] *= 2
        stacks.append((hu, labels))
    made_run(root, stacks, organs=("liver", "spleen"))
    for name, seed in (("a", 7), ("b", 8), ("gap", 9)):
        hu, _ = made_stack(seed)
        made = make_series(
            root / "cts" / name, slices=14, stored=(hu + 1024).astype(np.uint16), step_mm=4.0, spacing_mm=(6.0, 6.0),
            series=f"1.2.826.0.1.{seed}",
        )  # fmt: skip
        if name == "gap":
            made.files[5].unlink()
    (root / "cts" / "c").mkdir()
    save_nifti(
        root / "cts" / "c" / "ct.nii.gz", made_stack(10)[0], made_grid((14, 32, 32), spacing=(4.0, 6.0, 6.0))
    )
    return root


def table_of(folder):
    with open(folder / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def predicted(home):
    """The folder of CT, predicted once; and what was printed."""
    return home / "out", call(home / "run", home / "cts", "--out", home / "out", code=3)


@pytest.fixture
def predictions(predicted, tmp_path):
    """A copy of that folder of its own, and what was printed."""
    out, printed = predicted
    return shutil.copytree(out, tmp_path / "out"), printed


def test_every_ct_of_a_folder_has_its_line_and_its_file_and_a_refused_one_stops_no_other(predictions):
    out, printed = predictions
    lines = [line.split() for line in printed.splitlines() if "WARNING" not in line]
    assert [line[0] for line in lines[:4]] == ["1", "2", "3", "4"]
    assert lines[0][2:7] == ["liver", lines[0][3], "ml,", "spleen", lines[0][6]]
    assert lines[2][1:3] == ["refused", "GAP:"]
    assert printed.splitlines()[-1] == "3 written, 0 already there, 1 refused"
    assert sorted(path.suffix for path in out.iterdir()) == ["", ".csv", ".dcm", ".dcm", ".gz"]


def test_the_table_links_each_file_to_its_ct_by_number_and_names_nobody(predictions, home):
    out, printed = predictions
    rows = table_of(out)
    assert [(row["number"], row["state"], row["code"]) for row in rows] == [
        ("1", "written", ""), ("2", "written", ""), ("3", "refused", "GAP"), ("4", "written", ""),
    ]  # fmt: skip
    assert float(rows[0]["liver_ml"]) > 0
    labels = np.asarray(nibabel.load(out / rows[3]["file"]).dataobj)
    assert float(rows[3]["spleen_ml"]) == pytest.approx((labels == 2).sum() * 4 * 6 * 6 / 1000)
    everything = (
        printed + (out / "predictions.csv").read_text() + " ".join(path.name for path in out.iterdir())
    )
    for secret in (PATIENT, "DOE", "1.2.826", str(home)):
        assert secret not in everything


def test_the_same_command_again_skips_what_is_there_and_does_the_rest(predictions, home, monkeypatch):
    out, _ = predictions
    first, second, *_ = table_of(out)
    before = (out / first["file"]).stat().st_mtime_ns
    (out / second["file"]).unlink()
    printed = call(home / "run", home / "cts", "--out", out, code=3)
    assert printed.splitlines()[0].endswith("already there")
    assert printed.splitlines()[-1] == "1 written, 2 already there, 1 refused"
    assert (out / first["file"]).stat().st_mtime_ns == before
    assert [row["state"] for row in table_of(out)] == ["written", "written", "refused", "written"]


def test_a_file_that_an_interrupted_call_began_is_written_again(predictions, home):
    out, _ = predictions
    rows = table_of(out)
    begun = (out / "predictions.csv").read_text().replace("written", "started", 1)
    (out / "predictions.csv").write_text(begun)
    (out / rows[0]["file"]).write_text("half a file")
    call(home / "run", home / "cts", "--out", out, code=3)
    assert pydicom.dcmread(out / rows[0]["file"]).Modality == "SEG"


def test_predictions_of_other_options_are_refused_unless_they_may_be_overwritten(predictions, home):
    out, _ = predictions
    words = (home / "run", home / "cts", "--out", out, "--format", "nifti")
    printed = call(*words, code=1)
    assert "EXISTS: a folder with predictions of another run, or of other options" in printed
    assert call(*words, "--overwrite", code=3).splitlines()[-1] == "3 written, 0 already there, 1 refused"


def test_a_file_of_somebody_else_is_never_overwritten_unasked(predictions, home, tmp_path):
    name = table_of(predictions[0])[0]["file"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    printed = call(home / "run", home / "cts" / "a", "--out", tmp_path / "mine", code=1)
    assert "EXISTS" in printed
    assert (tmp_path / "mine" / name).read_text() == "mine"


@pytest.mark.parametrize("form", ["seg", "rtstruct", "nifti"])
def test_one_ct_gives_the_same_labels_in_every_format(home, tmp_path, form):
    from kerasbalance.data.ct import open_ct
    from kerasbalance.data.labels import OrganRule
    from kerasbalance.data.masks import read_mask

    out = tmp_path / ("p.nii" if form == "nifti" else "p.dcm")
    printed = call(home / "run", home / "cts" / "a", "--out", out, "--format", form)
    assert printed.splitlines()[2] == f"written: {out.name}"
    volume = open_ct(home / "cts" / "a").read()
    values = ((1,), (2,)) if form == "nifti" else ((), ())
    rules = tuple(OrganRule(organ, value) for organ, value in zip(("liver", "spleen"), values, strict=True))
    expected, _ = Predictor(Ensemble.open([home / "run"], MODEL)).segment(volume, lambda done: None)
    np.testing.assert_array_equal(read_mask(out, volume, rules).labels, expected)


def test_a_threshold_of_the_users_own_decides_and_counts_as_another_prediction(home, tmp_path):
    words = (home / "run", home / "cts" / "a", "--out", tmp_path / "out", "--json")
    plain, high = (json.loads(call(*words[:3], tmp_path / name, "--json", *more))["cases"][0]["volumes_ml"]
                  for name, more in (("out", ()), ("high", ("--threshold", "0.99"))))  # fmt: skip
    assert sum(high.values()) < sum(plain.values())
    assert "or of other options" in call(*words, "--threshold", "0.99", code=1)


def test_json_holds_volumes_and_refusals(home, tmp_path):
    words = (home / "run", home / "cts", "--out", tmp_path / "out", "--json")
    cases = json.loads(call(*words, code=3))["cases"]
    assert [case["state"] for case in cases] == ["written", "written", "refused", "written"]
    assert set(cases[0]["volumes_ml"]) == {"liver", "spleen"}
    assert (cases[2]["code"], cases[2]["message"][:4]) == ("GAP", "GAP:")
    one = json.loads(call(home / "run", home / "cts" / "a", "--out", tmp_path / "one.dcm", "--json"))["cases"]
    assert one[0]["volumes_ml"] == cases[0]["volumes_ml"]


def test_a_preview_shows_three_planes_of_each_ct(home, tmp_path):
    call(home / "run", home / "cts" / "a", "--out", tmp_path / "liver.nii.gz", "--preview")
    with Image.open(tmp_path / "liver.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] > 2 * pixels.shape[0]
    red, blue = (np.abs(pixels - colour).sum(axis=-1) < 30 for colour in ((255, 59, 48), (59, 157, 255)))
    thirds = np.array_split(red | blue, 3, axis=1)
    assert all(third.sum() > 20 for third in thirds)


def test_a_preview_of_a_flat_stack_has_the_axial_plane_alone():
    empty = np.zeros((2, 32, 32), np.uint8)
    png = preview_png(
        made_volume(empty, made_grid((2, 32, 32), spacing=(1.0, 1.0, 1.0))), empty, ("liver",), (-150, 250)
    )
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width < picture.height


def test_a_preview_without_matplotlib_is_refused_before_anything_is_done(home, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else real(name))
    words = (tmp_path / "no run", home / "cts", "--out", tmp_path / "out", "--preview")
    assert "NO_MATPLOTLIB: a Python without matplotlib" in call(*words, code=1)
    assert not (tmp_path / "out").exists()


REFUSED = [
    (("{run}", "{cts}", "--out", "{tmp}/p.dcm"), 1, "SEVERAL_SERIES"),
    (("{run}", "{cts}/c", "--out", "{tmp}/p.dcm"), 1, "NOT_EXPORTABLE: a CT without DICOM headers"),
    (("{run}", "{cts}/a", "--out", "{tmp}/p.dcm", "--format", "nifti"), 2, "change the ending of --out"),
    (("{run}", "{cts}/a", "--out", "{tmp}/p.dcm", "--format", "rtstruct", "--labelmap"), 2, "--labelmap for"),
    (("{run}", "{cts}/a", "--out", "{tmp}/p.png"), 2, "--out ends in none of .dcm, .nii and .nii.gz"),
    (("{run}", "{cts}", "--out", "{cts}/out"), 2, "inside that of the CT"),
    (("{run}", "{cts}", "--out", "{tmp}/no/out"), 1, "NO_FOLDER"),
    (("{run}", "{cts}", "--out", "{tmp}/file"), 1, "EXISTS: a file in the place of the folder"),
    (("{run}", "{cts}", "--out", "{tmp}/out", "--series", "9"), 1, "NO_SERIES: series number 9; expected 1 to 4"),
    (("{run}", "{tmp}", "--out", "{tmp}/../out"), 1, "NO_SERIES"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_written(home, tmp_path, words, code, message):
    (tmp_path / "file").write_text("mine")
    places = {"run": home / "run", "cts": home / "cts", "tmp": tmp_path}
    assert message in call(*(word.format(**places) for word in words), code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unforeseen_failure_of_one_ct_is_its_own(home, tmp_path, monkeypatch):
    real, seen = predict_folder.predict_target, []

    def fail_first(*arguments):
        seen.append(1)
        if len(seen) == 1:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(predict_folder, "predict_target", fail_first)
    printed = call(home / "run", home / "cts", "--out", tmp_path / "out", code=3)
    assert (
        "1  refused  INTERNAL: an unforeseen MemoryError; expected a segmentation; run predict on this CT"
        in printed
    )
    assert printed.splitlines()[-1] == "2 written, 0 already there, 2 refused"


def test_a_full_disk_ends_the_folder(home, tmp_path, monkeypatch):
    def full(*arguments):
        raise DataError("DISK_FULL", "no more space", "free space", "free space")

    monkeypatch.setattr(predict_folder, "predict_target", full)
    assert "DISK_FULL" in call(home / "run", home / "cts", "--out", tmp_path / "out", code=1)


def test_two_processes_do_not_write_into_one_folder(home, tmp_path):
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    printed = call(home / "run", home / "cts", "--out", tmp_path / "out", code=1)
    lock.release()
    assert "LOCKED: a folder that another process writes predictions to" in printed


def test_a_line_takes_the_place_of_the_bar_on_a_terminal_and_the_bar_comes_back_below(capsys):
    class Bar:
        def render_progress(self):
            click.echo("bar", nl=False, err=True)

    say(Bar(), "one line")
    assert capsys.readouterr() == (
        "one line\n",
        "\rbar",
    )  # click leaves out escapes where there is no terminal
    say(ProgressLines(3, "Segmenting"), "one line")
    assert capsys.readouterr() == ("one line\n", "")


def test_paths_are_shown_only_if_asked_for(home, tmp_path):
    printed = call(home / "run", home / "cts", "--out", tmp_path / "out", "--show-paths", code=3)
    assert str(home / "cts" / "a") in printed
    assert table_of(tmp_path / "out")[0]["path"] == str(home / "cts" / "a")


def test_the_table_reads_back_what_was_begun_and_written(tmp_path):
    volumes = {"liver": 1500.25, "a_b": float("nan")}
    rows = [
        CaseRow(2, "written", "0a", "0a.dcm", volumes, 78, 1.5, "ff"),
        CaseRow(1, "started", "0b", "0b.dcm", slices=3, made_by="ff"),
        CaseRow(3, "refused", error=DataError("GAP", "a gap", "none", "fill it")),
    ]
    write_table(tmp_path, rows, ("liver", "a_b"), show_paths=False)
    assert list(map(repr, read_table(tmp_path).values())) == list(map(repr, rows[:2]))
    (tmp_path / "predictions.csv").write_text("number\n1\n")
    with pytest.raises(DataError, match=r"PREDICTIONS: a folder without a readable predictions\.csv"):
        read_table(tmp_path)
