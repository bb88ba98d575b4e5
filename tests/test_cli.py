"""The commands that bring data in: their help, their output, their exit codes."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner
from made.cases import made_pair, make_cohort, write_nifti
from made.commands import environment, invoke, run_cli
from made.images import write_metaimage, write_nrrd
from made.series import make_series
from made.stores import made_store

from kerasbalance.cli.main import main
from kerasbalance.data.store import SliceStore

COMMANDS = sorted(main.commands)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3)
    return folder


@pytest.fixture(scope="module")
def ingested(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingested")
    run(folder, "ingest", cohort, "--out", "store", "--jobs", 2, exit_code=0)
    return folder


@pytest.fixture
def home(ingested, tmp_path):
    shutil.copytree(ingested, tmp_path / "home")
    return tmp_path / "home"


def run(folder, *words, exit_code=None):
    result = invoke(folder, *words)
    if exit_code is not None:
        assert result.exit_code == exit_code, result.output
    return result


def test_help_is_fast_and_imports_nothing_heavy(tmp_path):
    heavy = "{'keras', 'h5py', 'pydicom', 'numpy', 'tensorflow', 'torch', 'jax'}"
    code = f"""
import sys
from kerasbalance.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print(sorted({heavy} & set(sys.modules)))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    child = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True,
                           check=True)  # fmt: skip
    assert child.stdout.endswith("[]\n")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_an_example_that_parses(command, option):
    text = CliRunner().invoke(main, [command, option]).output
    example = re.search(rf"Example:\s+kerasbalance ({command}\b.*)", " ".join(text.split()))
    assert example
    words = example[1].split()
    parsed = main.commands[command].make_context(command, words[1:], resilient_parsing=False)
    assert isinstance(parsed, click.Context)


def test_one_case_is_ingested_from_its_ct_and_mask(cohort, tmp_path):
    result = run(tmp_path, "ingest", cohort / "ct000.nii", "--mask", cohort / "mask000.nii", "--label", "liver=1",
                 "--label", "spleen=2", "--out", "store", exit_code=0)  # fmt: skip
    assert "1 of 1  taken        5  24 x 24  liver 3, spleen 3" in result.stdout
    assert result.stdout.endswith("1 taken\n")
    assert SliceStore(tmp_path / "store").organs == ("liver", "spleen")


def test_a_folder_and_a_manifest_of_cases_are_ingested_alike(cohort, ingested, tmp_path):
    run(tmp_path, "ingest", "--manifest", cohort / "cases.csv", "--out", "store", "--key-file",
        next((ingested / "config").rglob("secret.key")), exit_code=0)  # fmt: skip
    assert SliceStore(tmp_path / "store").digest == SliceStore(ingested / "store").digest


def test_the_table_says_what_became_of_each_case(cohort, home):
    lines = run(home, "ingest", cohort, "--out", "store", exit_code=0).stdout.splitlines()
    assert lines[0] == "a folder with cases.csv: 3 cases"
    assert [line.split()[3] for line in lines[2:5]] == ["unchanged"] * 3
    assert lines[-1] == "3 unchanged"


def test_refused_cases_are_listed_and_exit_3_says_some_were_taken(cohort, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    (data / "mask001.nii").unlink()
    (data / "ct002.nii").write_bytes(b"junk")
    result = run(tmp_path, "ingest", data, "--out", "store", exit_code=3)
    refused = [line for line in result.stdout.splitlines() if line.startswith("refused")]
    assert refused[0].startswith(
        "refused  UNREADABLE: case 2 of 3, mask: no such file or directory; expected a readable file"
    )
    assert refused[1].startswith("refused  NO_SERIES: case 3 of 3")
    assert result.stdout.endswith("1 taken, 2 refused\n")
    assert "2 refused" not in run(tmp_path, "verify", "store", exit_code=0).stdout
    assert run(tmp_path, "info", "store", exit_code=0).stdout.count("\nrefused  ") == 2


def test_exit_1_says_that_nothing_was_taken(cohort, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    for path in data.glob("mask*"):
        path.unlink()
    assert run(tmp_path, "ingest", data, "--out", "store", exit_code=1).stdout.endswith("3 refused\n")


def test_json_parses_and_says_the_same(cohort, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "data")
    (data / "mask001.nii").unlink()
    outcomes = json.loads(run(tmp_path, "ingest", data, "--out", "store", "--json", exit_code=3).stdout)
    assert [(o["case"], o["status"]) for o in outcomes] == [
        ("case 1 of 3", "taken"), ("case 2 of 3", "refused"), ("case 3 of 3", "taken"),
    ]  # fmt: skip
    assert outcomes[1]["error"]["code"] == "UNREADABLE"
    assert outcomes[0]["facts"]["organs"] == ["liver", "spleen"]
    info = json.loads(run(tmp_path, "info", "store", "--json", exit_code=0).stdout)
    assert (info["cases"], info["slices"], len(info["refused"])) == (2, 10, 1)
    assert info["digest"] == SliceStore(tmp_path / "store").digest
    verified = json.loads(run(tmp_path, "verify", "store", "--json", exit_code=0).stdout)
    assert (len(verified["sound"]), verified["damaged"]) == (2, {})
    looked = json.loads(run(tmp_path, "inspect", data, "--json", exit_code=1).stdout)
    assert [case["status"] for case in looked["cases"]] == ["taken", "refused", "taken"]


def test_info_shows_a_store_in_figures(ingested):
    text = run(ingested, "info", "store", exit_code=0).stdout
    assert text.startswith("3 cases of 3 patients, 15 slices\nsizes: 24 x 24 (3 cases)\n")
    assert "spacing (min / median / max): slices 3 / 3 / 3 mm, pixels 0.8 / 0.8 / 0.8 mm" in text
    assert re.search(r"liver +3 +15 +9 +60.0%", text)


def test_info_of_an_empty_store_is_no_error(tmp_path):
    made_store(tmp_path, 0)
    assert run(tmp_path, "info", "store", exit_code=0).stdout == "0 cases of 0 patients, 0 slices\n"
    assert json.loads(run(tmp_path, "info", "store", "--json", exit_code=0).stdout)["organs"] == []


def test_paths_are_shown_only_when_asked(cohort, home):
    quiet = [
        run(home, "ingest", cohort, "--out", "store"),
        run(home, "info", "store"),
        run(home, "inspect", cohort),
    ]
    assert not any(str(cohort) in r.output for r in quiet)
    for words in (["ingest", cohort, "--out", "store"], ["inspect", cohort], ["info", "store"]):
        assert str(cohort / "ct001.nii") in run(home, *words, "--show-paths", exit_code=0).stdout


def test_verify_names_a_damaged_case_and_ingest_mends_it(cohort, home):
    path = sorted((home / "store" / "cases").iterdir())[1]
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)
    result = run(home, "verify", "store", exit_code=1)
    assert result.stdout.startswith(
        f"damaged  DAMAGED: case {path.stem[:8]}: a case file with changed or missing bytes"
    )
    assert result.stdout.endswith("2 cases sound, 1 damaged\n")
    assert list(json.loads(run(home, "verify", "store", "--json", exit_code=1).stdout)["damaged"]) == [
        path.stem
    ]
    assert "1 mended" in run(home, "ingest", cohort, "--out", "store", exit_code=0).stdout
    run(home, "verify", "store", exit_code=0)


def test_inspect_lists_series_writes_nothing_and_exits_1_for_a_problem(tmp_path):
    make_series(tmp_path / "data" / "good", slices=4, size=16)
    before = sorted(tmp_path.rglob("*"))
    result = run(tmp_path, "inspect", "data", exit_code=0)
    assert re.search(r"1 +4 +16 x 16 +2.5 x 0.8 x 0.8 +ok", result.stdout)
    assert "no masks found: ingest needs --mask" in result.stdout
    make_series(tmp_path / "data" / "gap", slices=8, size=16, series="1.2.77")
    sorted((tmp_path / "data" / "gap").iterdir())[4].unlink()
    result = run(tmp_path, "inspect", "data", exit_code=1)
    assert "refused  " in result.stdout
    assert sorted(p for p in tmp_path.rglob("*") if "gap" not in str(p)) == before


WRONG = {
    "no store": (["info", "nowhere"], 1, "NO_STORE: a folder without a readable store.json"),
    "a folder that is no store": (["verify", "data"], 1, "NO_STORE"),
    "a file as store": (["info", "data/ct000.nii"], 1, "NO_STORE"),
    "an empty folder": (["ingest", "empty", "--out", "x"], 1, "UNKNOWN_LAYOUT"),
    "an empty folder to look at": (["inspect", "empty"], 1, "UNKNOWN_LAYOUT"),
    "a source that is not there": (["ingest", "nowhere", "--out", "x"], 1, "UNREADABLE"),
    "a manifest that is not there": (["ingest", "--manifest", "nowhere", "--out", "x"], 1, "MANIFEST"),
    "a manifest that is a folder": (["ingest", "--manifest", "empty", "--out", "x"], 1, "MANIFEST"),
    "a store among other files": (["ingest", "data", "--out", "data"], 1, "NO_STORE: a folder that holds other files"),
    "a store that is a file": (["ingest", "data", "--out", "data/cases.csv"], 1, "UNWRITABLE|NO_STORE"),
    "a key file that is a folder": (["ingest", "data", "--out", "x", "--key-file", "empty"], 1, "KEY_FILE"),
    "a key file of the wrong size": (["ingest", "data", "--out", "x", "--key-file", "data/cases.csv"], 1, "KEY_FILE"),
    "nothing at all": (["ingest", "--out", "x"], 2, "name SRC or --manifest"),
    "no store to write": (["ingest", "data"], 2, "Missing option '--out'"),
    "SRC and a manifest": (["ingest", "data", "--manifest", "m", "--out", "x"], 2, "leave out SRC and --mask"),
    "a mask and a manifest": (["ingest", "--mask", "m", "--manifest", "m", "--out", "x"], 2, "leave out SRC and"),
    "a series without its mask": (["ingest", "data", "--series", "1", "--out", "x"], 2, "they need --mask"),
    "a rule that says nothing": (["ingest", "data", "--label", "liver=", "--out", "x"], 1, "LABEL_RULE"),
    "an organ of two rules": (["ingest", "data", "--label", "a=1", "--label", "a=2", "--out", "x"], 1, "LABEL_RULE"),
    "a relaxation that is none": (["ingest", "data", "--allow", "all", "--out", "x"], 2, "gap"),
    "a size that is none": (["ingest", "data", "--resize", "0", "--out", "x"], 2, "--resize 0; expected 8 to 4096"),
    "no jobs": (["ingest", "data", "--jobs", "0", "--out", "x"], 2, "--jobs"),
    "an unknown option": (["ingest", "data", "--fast", "--out", "x"], 2, "No such option"),
    "an unknown command": (["digest"], 2, "No such command"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_told_in_one_line(cohort, tmp_path, name):
    words, exit_code, message = WRONG[name]
    shutil.copytree(cohort, tmp_path / "data")
    (tmp_path / "empty").mkdir()
    result = run(tmp_path, *words, exit_code=exit_code)
    told = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert re.search(message, told[0])
    assert "Traceback" not in result.output
    assert str(tmp_path) not in result.output


@pytest.mark.parametrize(
    ("label", "code"), [("liver=7", "LABEL_VALUE"), ("liver", ""), ("liver=Leber", "LABEL_")]
)
def test_a_wrong_label_is_refused_with_what_is_there(cohort, tmp_path, label, code):
    result = run(tmp_path, "ingest", cohort / "ct000.nii", "--mask", cohort / "mask000.nii", "--label", label, "--out",
                 "store", exit_code=1)  # fmt: skip
    assert f"refused  {code}" in result.stdout
    assert "INTERNAL" not in result.stdout


def test_debug_shows_the_traceback(tmp_path):
    result = CliRunner().invoke(main, ["info", str(tmp_path), "--debug"])
    assert "NO_STORE" in str(result.exception)
    assert type(result.exception).__name__ == "DataError"


def test_an_unforeseen_error_is_told_in_one_line_without_its_text(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("DOE^JANE")

    monkeypatch.setattr("kerasbalance.data.store.Store.__init__", lambda self, path: broken(path))
    result = run(tmp_path, "verify", "store", exit_code=1)
    assert "INTERNAL: an unforeseen KeyError; run again with --debug" in result.stderr
    assert "DOE" not in result.output


def test_file_names_of_any_kind_are_shown_as_one_line(cohort, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n\x1b[31m")
    shutil.copytree(cohort, folder)
    words = ["ingest", f"{folder}/ct000.nii", "--mask", f"{folder}/mask000.nii", "--label", "liver=1", "--label",
             "spleen=2", "--out", "store", "--show-paths"]  # fmt: skip
    result = run_cli(tmp_path, *words)
    assert (result.returncode, result.stderr) == (0, "")
    assert r"caf\udce9\n\x1b[31m" in result.stdout
    broken = run_cli(tmp_path, *words[:3], f"{folder}/nowhere", *words[4:], "--json")
    assert json.loads(broken.stdout)[0]["error"]["code"] == "UNREADABLE"


def test_a_very_long_path_is_refused_in_one_line(cohort, tmp_path):
    for words in (
        ["ingest", "x" * 300, "--out", "store"],
        ["info", "y/" * 3000],
        ["ingest", cohort, "--out", "z" * 300],
    ):
        result = run(tmp_path, *words, exit_code=1)
        assert result.stderr.count("\n") == 1


def test_slices_of_one_patient_in_two_spellings_are_counted_once_and_told(tmp_path):
    rows = ["ct,mask,patient,labels"]
    for n, patient in enumerate(["Doe 1", "doe-1"]):
        hu, labels = made_pair(n)
        write_nifti(tmp_path / f"c{n}.nii", hu), write_nifti(tmp_path / f"m{n}.nii", labels)
        rows.append(f"c{n}.nii,m{n}.nii,{patient},liver=1;spleen=2")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    run(tmp_path, "ingest", tmp_path, "--out", "store", exit_code=0)
    text = run(tmp_path, "info", "store").stdout
    assert text.startswith("2 cases of 1 patients")
    assert "WARNING  PATIENT_SPELLING: 1 patients have identifiers of more than one spelling" in text
    assert "oe" not in text.replace("does", "")


def test_help_names_every_relaxation():
    from kerasbalance.data.dicom.checks import RELAXATIONS

    text = "".join(CliRunner().invoke(main, ["ingest", "--help"]).output.split())
    assert all(name in text for name in RELAXATIONS)


def test_every_remark_is_printed_with_its_sentence_and_equal_ones_share_a_line(tmp_path):
    make_cohort(tmp_path / "data", 3)
    (tmp_path / "data" / "cases.csv").write_text(
        "ct,mask,labels\n" + "".join(f"ct{n:03d}.nii,mask{n:03d}.nii,liver=1;spleen=2\n" for n in range(3))
    )
    result = run(tmp_path, "ingest", "data", "--out", "store", exit_code=0)
    line = "note     case 1 of 3 and 2 more: PATIENT_UNKNOWN: no PatientID: the case counts as a patient of its own"
    assert line in result.stdout.splitlines()


def test_one_patient_id_for_all_cases_is_told_with_the_remedy(tmp_path):
    make_cohort(tmp_path / "data", 2)
    rows = "ct000.nii,mask000.nii,P1\nct001.nii,mask001.nii,P1\n"
    (tmp_path / "data" / "cases.csv").write_text("ct,mask,patient\n" + rows)
    result = run(tmp_path, "ingest", "data", "--label", "liver=1,2", "--out", "store", exit_code=0)
    assert "WARNING  ONE_PATIENT: all 2 cases are of one patient by their PatientID" in result.stdout
    assert "name these in the column `patient` of a --manifest" in result.stdout


def test_inspect_says_what_is_there_when_there_is_no_ct(tmp_path):
    def magnetic(dataset, number):
        dataset.Modality, dataset.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"

    make_series(tmp_path / "data", slices=5, size=16, edit=magnetic)
    result = run(tmp_path, "inspect", "data", exit_code=1)
    assert "also 5 DICOM files of modality MR" in result.stdout
    assert "no CT found: name the folder of a CT series" in result.stdout


def test_inspect_looks_at_one_nifti_file(tmp_path):
    write_nifti(tmp_path / "ct.nii.gz", np.zeros((5, 16, 24), np.int16))
    result = run(tmp_path, "inspect", "ct.nii.gz", exit_code=0)
    assert re.search(r"1 +5 +16 x 24 +3 x 0.8 x 0.8 +ok", result.stdout)
    assert "skipped" not in result.stdout


def test_inspect_lists_image_files_and_skips_neither_them_nor_their_voxels(tmp_path):
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    write_nrrd(tmp_path / "data.nrrd", np.zeros((5, 16, 24), np.int16), affine)
    (tmp_path / "data").mkdir()
    (tmp_path / "data.nrrd").rename(tmp_path / "data" / "a.nrrd")
    write_metaimage(
        tmp_path / "data" / "b.mhd", np.zeros((6, 16, 24), np.int16), affine, ElementDataFile="b.raw"
    )
    result = run(tmp_path, "inspect", "data", exit_code=0)
    assert re.search(r"image file +slices +size", result.stdout)
    assert re.search(r"2 +6 +16 x 24 +3 x 0.8 x 0.8 +ok", result.stdout)
    assert "skipped" not in result.stdout
    (tmp_path / "data" / "notes.txt").write_text("text")
    assert "1 files that are no DICOM skipped" in run(tmp_path, "inspect", "data", exit_code=0).stdout


def test_long_lists_are_capped_and_say_what_differs(tmp_path):
    def framed(dataset, number):
        dataset.FrameOfReferenceUID = f"1.2.9.{number // 2}"

    make_series(tmp_path / "data", slices=60, size=16, edit=framed)
    result = run(tmp_path, "inspect", "data", exit_code=0)
    assert "and 10 more series" in result.stdout
    assert len(result.stdout.splitlines()) < 60
    result = run(tmp_path, "inspect", "data", "--mask", "data", exit_code=1)
    assert "30 CT series (1: 2 images of 16 x 16; " in result.stdout
    assert "; and 25 more) that differ in FrameOfReferenceUID; expected one" in result.stdout
