"""A run from the command line: trained, resumed, evaluated, and put to work on new CT."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel
import pydicom
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.exclude import read_exclusions
from kerasbalance.experiments.runs.folder import RunFolder, RunRecord
from kerasbalance.experiments.runs.model import build_model
from kerasbalance.experiments.runs.options import PRESETS, TrainOptions
from kerasbalance.experiments.runs.split import read_split
from kerasbalance.experiments.runs.train import Run

TRAIN = ["--organ", "liver", "--iterations", "6", "--base-filters", "4", "--batch-size", "4"]


def call(*words):
    """Run a command in this process; return its exit code and what it printed."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A phantom, its store, and a finished run."""
    root = tmp_path_factory.mktemp("runs")
    assert call("phantom", "--out", root / "phantom", "--cases", 8, "--size", 32)[0] == 0
    ingested = call("ingest", root / "phantom", "--out", root / "store", "--key-file", root / "key")
    assert ingested[0] == 0, ingested[1]
    trained = call("train", root / "store", "--out", root / "run", *TRAIN)
    assert trained[0] == 0, trained[1]
    return root


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_all_that_its_folder_promises(home):
    run = home / "run"
    assert {p.name for p in run.iterdir()} == {
        "run.json", "split.csv", "history.csv", "slices.csv", "model.keras", "checkpoint", "LOCK",
    }  # fmt: skip
    assert [int(row["epoch"]) for row in rows(run / "history.csv")] == list(range(6))
    record = json.loads((run / "run.json").read_text())
    assert record["options"]["iterations"] == 6
    assert record["store_digest"] == SliceStore(home / "store").digest


def test_every_patient_of_a_split_is_on_one_side(home):
    split = rows(home / "run" / "split.csv")
    assert sorted(row["part"] for row in split) == ["A"] * 3 + ["B"] * 3 + ["test"] * 2
    assert len({row["patient"] for row in split}) == 8


def test_mined_slices_are_the_worst_of_part_a(home):
    table = rows(home / "run" / "slices.csv")
    part_a = {row["case"] for row in rows(home / "run" / "split.csv") if row["part"] == "A"}
    assert {row["case"] for row in table} == part_a
    hard = [float(row["score"]) for row in table if row["hard"] == "1"]
    easy = [float(row["score"]) for row in table if row["hard"] == "0"]
    assert hard
    assert max(hard) <= min(easy)


def test_a_second_run_of_one_seed_gives_the_same_files(home, tmp_path):
    assert call("train", home / "store", "--out", tmp_path / "again", *TRAIN)[0] == 0
    for name in ("split.csv", "history.csv", "slices.csv", "run.json"):
        assert (tmp_path / "again" / name).read_bytes() == (home / "run" / name).read_bytes(), name


def test_a_run_is_not_overwritten(home):
    code, output = call("train", home / "store", "--out", home / "run", *TRAIN)
    assert code == 1
    assert "RUN_EXISTS" in output
    assert "--resume" in output


def test_an_interrupted_run_resumes_to_the_same_end(home, tmp_path):
    out = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "kerasbalance.cli",
        "train",
        str(home / "store"),
        "--out",
        str(out),
        *TRAIN,
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ})
    while process.poll() is None and not list(out.glob("checkpoint/*-iteration-*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1]
    assert process.returncode in (143, 0), error  # 0: it was over before the signal came
    if process.returncode == 143:
        assert "train --resume --out" in error
        assert call("train", "--resume", "--out", out)[0] == 0
    for name in ("history.csv", "slices.csv"):
        assert (out / name).read_bytes() == (home / "run" / name).read_bytes(), name


def test_resume_refuses_other_options(home):
    words = (
        "--iterations",
        "20",
        "--organ",
        "liver",
        "--no-mining",
        "--test-share",
        ".3",
        "--exclude",
        "x.csv",
    )
    code, output = call("train", "--resume", "--out", home / "run", *words)
    assert code == 2
    named = " ".join(output.split()).partition("leave out ")[2]
    assert sorted(named.split(", ")) == [
        "--exclude",
        "--iterations",
        "--no-mining",
        "--organ",
        "--test-share",
    ]


def test_options_of_two_masks_beside_a_run_are_refused_as_they_are_typed(home):
    words = ("--label", "liver=1", "--csv", "x", "--tolerance", "3", "--prediction-label", "liver=2")
    code, output = call("eval", home / "run", *words)
    assert code == 2
    named = " ".join(output.split()).partition("leave out ")[2]
    assert sorted(named.split(", ")) == ["--csv", "--label", "--prediction-label", "--tolerance"]


@pytest.mark.parametrize(
    "rule", ["below:5", "below:1.2.3", "lowest:2", "lowest:.", "lowest", "below:-1", "worst:0.1", "below:nan"]
)
def test_a_rule_out_of_range_is_refused_before_anything_is_written(home, tmp_path, rule):
    out = tmp_path / "r"
    code, output = call("train", home / "store", "--out", out, "--organ", "liver", "--rule", rule)
    assert code == 2, output
    assert f"rule '{rule}'" in output
    assert not out.exists()


def test_the_largest_part_that_eval_measured_is_in_the_report(home, tmp_path):
    shutil.copytree(home / "run", tmp_path / "run")
    assert call("eval", tmp_path / "run", "--keep-largest", "liver")[0] == 0
    summary = json.loads((tmp_path / "run" / "eval" / "summary.json").read_text())
    (organ,) = summary["largest part only"]
    assert call("report", tmp_path / "run")[0] == 0
    expected = f"part of each prediction is kept, the mean Dice is {organ['metrics']['dice']['mean']:.3f}"
    assert expected in (tmp_path / "run" / "report.html").read_text()


def test_a_prediction_lies_on_its_ct(home, tmp_path):
    ct = home / "phantom" / "case-000" / "ct"
    code, output = call("predict", home / "run", ct, "--out", tmp_path / "liver.nii.gz")
    assert code == 0, output
    image = nibabel.load(tmp_path / "liver.nii.gz")
    assert image.shape == (32, 32, len(list(ct.iterdir())))
    assert call("predict", home / "run", ct, "--out", tmp_path / "liver.dcm")[0] == 0


def test_a_prediction_never_overwrites_unasked(home, tmp_path):
    ct = home / "phantom" / "case-000" / "ct"
    (tmp_path / "liver.nii.gz").write_text("mine")
    code, output = call("predict", home / "run", ct, "--out", tmp_path / "liver.nii.gz")
    assert code == 1
    assert (tmp_path / "liver.nii.gz").read_text() == "mine"
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "{root}/nothing", "--out", "{tmp}/r", "--organ", "liver"], 1, "NO_STORE"),
        (["train", "{root}/store", "--out", "{tmp}/r", "--organ", "heart"], 1, "NO_ORGAN"),
        (["train", "{root}/store", "--out", "{tmp}/r"], 2, "--organ"),
        (["train", "{root}/store", "--out", "{tmp}/r", "--organ", "liver", "--ratio", "2"], 2, "--ratio"),
        (["train", "{root}/store", "--out", "{tmp}/r", "--organ", "liver", "--ratio", "1"], 2, "--no-mining"),
        (["train", "{root}/store", "--out", "{tmp}/r", "--organ", "liver", "--rule", "x"], 2, "--rule"),
        (
            ["train", "{root}/store", "--out", "{tmp}/r", "--organ", "liver", "--model", "no:thing"],
            1,
            "MODEL",
        ),
        (["train", "--resume", "--out", "{tmp}/r"], 1, "NO_RUN"),
        (["predict", "{tmp}", "{root}/phantom/case-000/ct", "--out", "{tmp}/p.nii"], 1, "NO_RUN"),
        (["predict", "{root}/run", "{root}/phantom/case-000/ct", "--out", "{tmp}/p.png"], 2, "--out"),
        (["predict", "{root}/run", "{root}/store", "--out", "{tmp}/p.nii"], 1, "NO_SERIES"),
    ],
)
def test_wrong_input_gives_one_clear_line(home, tmp_path, words, code, message):
    found, output = call(*(word.format(root=home, tmp=tmp_path) for word in words))
    assert found == code, output
    assert message in output
    assert "Traceback" not in output


def test_a_split_that_shares_a_patient_is_refused(home, tmp_path):
    lines = (home / "run" / "split.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    test, other = (next(c for c in cells if c[2] == part) for part in ("test", "B"))
    other[1] = test[1]
    (tmp_path / "split.csv").write_text("\n".join(",".join(c) for c in cells))
    with pytest.raises(DataError, match=r"patient .{8} in .* and in"):
        read_split(tmp_path / "split.csv")


def test_excluded_slices_are_not_trained_on(home, tmp_path):
    hard = next(row for row in rows(home / "run" / "slices.csv") if row["hard"] == "1")
    (tmp_path / "list.csv").write_text(f"case,slice\n{hard['case'][:8]},{hard['slice']}\n")
    store = SliceStore(home / "store")
    assert read_exclusions(tmp_path / "list.csv", store).tolist() == [int(hard["ref"])]
    words = ["train", home / "store", "--out", tmp_path / "run", *TRAIN, "--exclude", tmp_path / "list.csv"]
    assert call(*words)[0] == 0
    assert hard["ref"] not in {row["ref"] for row in rows(tmp_path / "run" / "slices.csv")}


def test_an_exclusion_of_nothing_that_exists_is_refused(home, tmp_path):
    (tmp_path / "list.csv").write_text("case,slice\nffffffffff,3\n")
    with pytest.raises(DataError, match="row 1, which names no slice"):
        read_exclusions(tmp_path / "list.csv", SliceStore(home / "store"))


def test_the_record_reads_back_as_it_was_written(home, tmp_path):
    record = RunRecord.read(RunFolder(home / "run").record_file)
    record.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == record


def test_the_papers_preset_is_the_paper():
    options = TrainOptions(organs=("liver",), **PRESETS["paper"].options)
    assert (options.iterations, options.mine_iterations, options.batch_size) == (1_000_000, (500_000,), 16)
    assert (options.learning_rate, options.momentum, options.power) == (0.001, 0.0, 0.9)
    assert (options.rule, options.ratio, options.model) == ("below:0.923", 0.5, "fcn")


def test_a_run_without_a_sound_checkpoint_is_not_resumed_and_says_so(home, tmp_path):
    shutil.copytree(home / "run", tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoint").glob("0*/arrays.npz"):
        path.write_bytes(path.read_bytes()[:-100])
    code, output = call("train", "--resume", "--out", tmp_path / "run")
    assert (code, "CHECKPOINT: a run whose checkpoints are damaged" in output) == (1, True), output
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    code, output = call("train", "--resume", "--out", tmp_path / "run")
    assert (code, "CHECKPOINT: a run without a checkpoint" in output) == (1, True), output


@pytest.fixture(scope="module")
def unusual(home):
    """A run of options that the other tests leave alone."""
    words = ["--strategy", "weighted", "--validation-share", "0.25", "--precision", "mixed_bfloat16"]
    code, output = call("train", home / "store", "--out", home / "unusual", *TRAIN, *words)
    assert code == 0, output
    return home / "unusual"


def test_weighted_trains_on_all_the_data_from_the_start(unusual):
    assert json.loads((unusual / "run.json").read_text())["options"]["ratio"] == 1.0
    assert {row["part"] for row in rows(unusual / "split.csv")} == {"B", "test", "validation"}


def test_validation_cases_are_evaluated_after_each_epoch_and_not_trained_on(unusual):
    assert len([row for row in rows(unusual / "split.csv") if row["part"] == "validation"]) == 2
    history = rows(unusual / "history.csv")
    assert len(history) == 6
    assert all(0 <= float(row["val_dice"]) <= 1 for row in history)
    validation = {row["case"] for row in rows(unusual / "split.csv") if row["part"] == "validation"}
    assert not validation & {row["case"] for row in rows(unusual / "slices.csv")}


def test_the_precision_of_a_run_is_that_of_its_model(unusual):
    run = Run.open(unusual)
    assert build_model(run.options, (32, 32)).dtype_policy.name == "mixed_bfloat16"


def test_a_prediction_says_that_the_pixels_are_of_another_size_than_those_of_the_training(home, tmp_path):
    shutil.copytree(home / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["pixel_spacing_mm"] = [0.25, 0.5]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    ct = home / "phantom" / "case-000" / "ct"
    code, output = call("predict", tmp_path / "run", ct, "--out", tmp_path / "liver.nii")
    assert code == 0, output
    assert "WARNING  SPACING: pixels of" in output
    assert "while the model was trained on 0.25 to 0.50 mm" in output
    assert "SPACING" not in call("predict", home / "run", ct, "--out", tmp_path / "again.nii")[1]


def test_a_label_map_is_written_if_asked_for(home, tmp_path):
    ct = home / "phantom" / "case-000" / "ct"
    code, output = call("predict", home / "run", ct, "--labelmap", "--out", tmp_path / "liver.dcm")
    assert code == 0, output
    assert pydicom.dcmread(tmp_path / "liver.dcm").SegmentationType == "LABELMAP"
