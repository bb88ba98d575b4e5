"""The files of runs and studies: what one module writes it reads back, and files of version 0.1 as well."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerasbalance.data.errors import DataError
from kerasbalance.evaluation.cases import CaseMetrics, SliceMetrics, evaluate_case, evaluate_slices
from kerasbalance.evaluation.summaries import summarise_cases
from kerasbalance.experiments.runs.evaluation_files import (
    Evaluation,
    is_evaluated,
    read_cases,
    read_cleaned,
    read_slices,
    write_evaluation,
)
from kerasbalance.experiments.runs.history import HistoryFile, read_history, write_history
from kerasbalance.experiments.runs.operating_point import (
    OperatingPoint,
    OrganPoint,
    Trial,
    read_operating_point,
)
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.slice_table import COLUMNS, SliceTable
from kerasbalance.experiments.runs.split import SplitRow, read_split, split_store, write_split
from kerasbalance.experiments.runs.validation import check_validation_cases
from kerasbalance.experiments.studies.options import StudyOptions, StudyRecord


def made_evaluation():
    """Two cases of one organ; the first is found with an island beside it, the second is missed."""
    reference = np.zeros((4, 8, 8), bool)
    reference[1:3, 2:5, 2:5] = True
    predicted = reference.copy()
    predicted[3, 7, 7] = True
    pairs = {"a": predicted, "b": np.zeros_like(reference)}
    cases, slices = [], []
    for case, found in pairs.items():
        cases.append(evaluate_case(found, reference, (2.0, 1.0, 1.0), case=case, organ="liver"))
        slices += evaluate_slices(found, reference, case=case, organ="liver")
    cleaned = evaluate_case(reference, reference, (2.0, 1.0, 1.0), case="a", organ="liver")
    return Evaluation(tuple(cases), tuple(slices), summarise_cases(cases), summarise_cases([cleaned]))


def test_an_evaluation_reads_back_as_it_was_written(tmp_path):
    made = made_evaluation()
    assert not is_evaluated(tmp_path)
    write_evaluation(tmp_path, made)
    assert is_evaluated(tmp_path)
    assert list(map(repr, read_cases(tmp_path))) == list(map(repr, made.cases))  # NaN is not equal to itself
    assert list(map(repr, read_slices(tmp_path))) == list(map(repr, made.slices))
    assert any(math.isinf(case.hd95_mm) for case in read_cases(tmp_path))
    assert all(isinstance(row, kind) for rows, kind in ((read_cases(tmp_path), CaseMetrics),
               (read_slices(tmp_path), SliceMetrics)) for row in rows)  # fmt: skip
    assert read_cleaned(tmp_path) == {"liver": 1.0}


def test_an_evaluation_of_version_0_1_reads_with_what_follows_from_its_counts(tmp_path):
    write_evaluation(tmp_path, made_evaluation())
    later = ("iou", "sensitivity", "precision", "mssd_mm", "volume_similarity")
    heading, *lines = (line.split(",") for line in (tmp_path / "cases.csv").read_text().splitlines())
    kept = [n for n, name in enumerate(heading) if name not in later]
    old = "\n".join(",".join(line[n] for n in kept) for line in (heading, *lines))
    (tmp_path / "cases.csv").write_text(old + "\n")
    found, missed = read_cases(tmp_path)
    assert (found.sensitivity, found.precision, found.iou) == (1, 18 / 19, 18 / 19)
    assert math.isnan(found.mssd_mm)
    assert summarise_cases([found, missed])[0].metrics["mssd_mm"].count == 0


def test_an_evaluation_that_lost_a_table_is_refused(tmp_path):
    write_evaluation(tmp_path, made_evaluation())
    (tmp_path / "slices.csv").unlink()
    with pytest.raises(DataError, match=r"readable eval/slices\.csv.*run kerasbalance eval again"):
        read_slices(tmp_path)


def test_a_history_reads_back_bit_by_bit(tmp_path):
    write_history(tmp_path / "h.csv", [0, 1], {"loss": [0.1, 1 / 3], "val_loss": [2.0, 5e-9]})
    assert (tmp_path / "h.csv").read_text().splitlines()[0] == "epoch,loss,val_loss"
    read = read_history(tmp_path / "h.csv")
    assert {name: values.tolist() for name, values in read.items()} == {
        "epoch": [0, 1], "loss": [0.1, 1 / 3], "val_loss": [2.0, 5e-9],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["window,loss\n0,0.5\n1,0.25\n", "epoch,loss\n0,0.5\n1,0.75\n1,0.25\n"],
    ids=["finished", "killed and resumed"],
)
def test_a_history_of_version_0_1_is_read(tmp_path, text):
    (tmp_path / "h.csv").write_text(text)
    read = read_history(tmp_path / "h.csv")
    assert (read["epoch"].tolist(), read["loss"].tolist()) == ([0, 1], [0.5, 0.25])


def test_a_history_that_goes_on_replaces_the_epochs_after_the_checkpoint(tmp_path):
    write_history(tmp_path / "h.csv", [0, 1, 2], {"loss": [3.0, 2.0, 1.0]})
    log = HistoryFile(tmp_path / "h.csv", resumed=True)
    log.on_train_begin()
    log.on_epoch_end(1, {"loss": 7.0})
    read = read_history(tmp_path / "h.csv")
    assert (read["epoch"].tolist(), read["loss"].tolist()) == ([0, 1], [3.0, 7.0])


def test_a_history_that_goes_on_keeps_the_columns_that_it_no_longer_has(tmp_path):
    write_history(tmp_path / "h.csv", [0], {"loss": [3.0], "val_loss": [0.5]})
    log = HistoryFile(tmp_path / "h.csv", resumed=True)
    log.on_train_begin()
    log.on_epoch_end(1, {"loss": 2.0, "val_dice": 0.25})
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,val_loss,val_dice\n0,3.0,0.5,nan\n1,2.0,nan,0.25\n"


def test_a_new_run_does_not_go_on_with_an_old_history(tmp_path):
    write_history(tmp_path / "h.csv", [0, 1], {"loss": [3.0, 2.0]})
    log = HistoryFile(tmp_path / "h.csv", resumed=False)
    log.on_train_begin()
    log.on_epoch_end(0, {"loss": 7.0})
    assert read_history(tmp_path / "h.csv")["loss"].tolist() == [7.0]


def test_a_split_reads_back_as_it_was_written(tmp_path):
    rows = (SplitRow("k1", "p1", "test", 30, 12), SplitRow("k2", "p2", "A", 5, 0))
    write_split(tmp_path / "split.csv", rows)
    assert read_split(tmp_path / "split.csv") == rows


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (
            {"test_share": 0.01},
            r"--test-share 0\.01 of 4 cases of 4 patients, .* pass another --test-share, or ingest",
        ),
        (
            {"validation_share": 0.01},
            r"--validation-share 0\.01 of 3 cases .* pass another --validation-share",
        ),
        ({"ratio": 0.99}, r"--ratio 0\.99 of 3 cases .* pass another --ratio"),
    ],
)
def test_a_share_that_divides_no_cases_is_named_as_it_was_typed(shares, words):
    cases = [SimpleNamespace(key=str(n), patient=str(n), slices=9, organs=("liver",), positive_slices=(4,))
             for n in range(4)]  # fmt: skip
    with pytest.raises(DataError, match=words):
        split_store(SimpleNamespace(cases=cases), TrainOptions(organs=("liver",), **shares))


def test_validation_cases_that_lack_an_organ_are_refused():
    cases = [SimpleNamespace(key=key, organs=("liver", "spleen"), positive_slices=(5, spleen))
             for key, spleen in (("k1", 0), ("k2", 3))]  # fmt: skip
    rows = (SplitRow("k1", "p1", "validation", 30, 5), SplitRow("k2", "p2", "B", 30, 5))
    check_validation_cases(SimpleNamespace(cases=cases), rows, ("liver",))
    with pytest.raises(DataError, match=r"SPLIT: 1 validation cases without a slice that shows spleen"):
        check_validation_cases(SimpleNamespace(cases=cases), rows, ("liver", "spleen"))


def made_point():
    return OperatingPoint(
        (OrganPoint("liver", 0.4, "largest"), OrganPoint("spleen")), 7,
        (Trial("liver", 0.4, "none", 1 / 3), Trial("spleen", 0.5, "none", 0.5)), (Trial("liver", 0.4, "largest", 0.5),),
    )  # fmt: skip


def test_an_operating_point_reads_back_as_it_was_written(tmp_path):
    made_point().write(tmp_path / "operating_point.json")
    assert read_operating_point(tmp_path / "operating_point.json", ["liver", "spleen"]) == made_point()


def test_without_its_file_the_operating_point_is_a_half_and_no_clean_up(tmp_path):
    point = read_operating_point(tmp_path / "operating_point.json", ["liver"])
    assert (point.thresholds, point.clean_ups, point.is_plain) == ((0.5,), ("none",), True)


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"validation_cases": None}, {"organs": [{"organ": "spleen"}]}, {"clean_ups_tried": [1]},
     {"organs": [{"organ": "liver", "threshold": 1.5}]}, {"organs": [{"organ": "liver", "clean_up": "magic"}]}],
)  # fmt: skip
def test_an_operating_point_that_was_changed_is_refused(tmp_path, change):
    plain = {"format": 1, "validation_cases": 2, "organs": [{"organ": "liver"}], "thresholds_tried": [],
             "clean_ups_tried": []}  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps(plain))
    assert read_operating_point(tmp_path / "p.json", ["liver"]).cases == 2
    (tmp_path / "p.json").write_text(json.dumps({**plain, **change}))
    with pytest.raises(DataError, match=r"OPERATING_POINT: .*run train --resume"):
        read_operating_point(tmp_path / "p.json", ["liver"])


def test_the_users_own_threshold_holds_for_every_organ_and_is_chosen_on_no_cases():
    point = made_point().changed(0.25, no_clean_up=True)
    assert (point.thresholds, point.clean_ups, point.cases) == ((0.25, 0.25), ("none", "none"), 0)
    assert made_point().changed(None) == made_point()
    assert made_point().text() == (
        "liver above 0.4, largest part only; spleen above 0.5, no clean-up; chosen on 7 validation cases"
    )
    with pytest.raises(DataError, match=r"threshold 1\.0; expected between 0 and 1; correct --threshold"):
        made_point().changed(1.0)


def test_a_table_of_slices_reads_back_bit_by_bit(tmp_path):
    table = SliceTable(
        ref=np.array([3, 9]), case=np.array(["a", "b"]), slice=np.array([0, 4]), slices=np.array([7, 8]),
        pixels=np.array([0, 55]), score=np.array([1 / 3, 0.1]), hard=np.array([True, False]),
        reason=np.array(["hard", "easy"]), copies=np.array([1.0, 0.0]),
        organ_scores={"liver": np.array([1 / 3, 0.5]), "spleen": np.array([np.nan, 0.1])},
    )  # fmt: skip
    (tmp_path / "slices.csv").write_bytes(table.to_csv())
    read = SliceTable.read(tmp_path / "slices.csv")
    assert all(getattr(read, name).tolist() == getattr(table, name).tolist() for name in COLUMNS)
    assert read.organ_scores["liver"].tolist() == [1 / 3, 0.5]
    assert np.array_equal(read.organ_scores["spleen"], [np.nan, 0.1], equal_nan=True)


def test_a_study_record_reads_back_as_it_was_written(tmp_path):
    options = StudyOptions(("liver",), ("unet",), ("all", ".3"), 2, TrainOptions(organs=("any",)))
    record = StudyRecord(options, "store", "digest", "jax", 2, {"keras": keras.__version__})
    record.write(tmp_path)
    assert StudyRecord.read(tmp_path) == record


def test_draws_of_neighbouring_seeds_have_nothing_in_common(monkeypatch):
    from kerasbalance.experiments.runs import split

    seeds = []

    def drawn(rows, ratio, seed):
        seeds.append(seed)
        return type("Split", (), {"part_a": [0], "part_b": list(range(1, len(rows)))})

    class Case:
        organs, positive_slices, patient, slices = ("liver",), (1,), "p", 2

        def __init__(self, key):
            self.key = key

    store = type("Store", (), {"cases": [Case(str(n)) for n in range(9)]})
    monkeypatch.setattr(split, "split_cases", drawn)
    for seed in range(20):
        split_store(store, TrainOptions(organs=("liver",), seed=seed, validation_share=0.2))
    assert len(set(seeds)) == 60
