"""What a run does with the scores of its slices, and runs that branch off a common trunk."""

import dataclasses
import errno
import fcntl
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import StoreSource
from kerasbalance.experiments.report.contents import read_contents
from kerasbalance.experiments.report.prose import summary
from kerasbalance.experiments.runs import suspicion, train
from kerasbalance.experiments.runs.evaluate import evaluate_run
from kerasbalance.experiments.runs.folder import RunRecord
from kerasbalance.experiments.runs.lock import lock_run
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.train import Run
from kerasbalance.training.checkpoint import CheckpointFolder

OPTIONS = TrainOptions(
    organs=(runs.ORGAN,), model="made.runs:tiny_model", iterations=20, batch_size=8, learning_rate=0.5
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    runs.store_of_stacks(folder / "store", [runs.made_stack(seed) for seed in range(8)])
    return folder / "store"


def trained(store, out, **options):
    run = Run.create(store, out, dataclasses.replace(OPTIONS, **options))
    return run, run.train()


def index_of(run):
    """What was drawn from at the end: refs and weights."""
    with CheckpointFolder(run.folder.path / "checkpoint") as folder:
        arrays = folder.load().arrays
    return arrays["dataset/refs"], arrays.get("dataset/weights")


def final_weights(run):
    with CheckpointFolder(run.folder.path / "checkpoint") as folder:
        return {name: a.tobytes() for name, a in folder.load().arrays.items() if name.startswith("model/")}


def test_random_adds_as_many_slices_of_a_as_mining_does_but_others(store, tmp_path):
    mined, random = (trained(store, tmp_path / name, strategy=name)[0] for name in ("mined", "random"))
    tables = [SliceTable.read(run.folder.slices_file) for run in (mined, random)]
    assert tables[0].ref.tolist() == tables[1].ref.tolist()
    assert tables[0].score.tolist() == tables[1].score.tolist()  # the same model up to there
    assert tables[0].hard.sum() == tables[1].hard.sum() > 0
    assert tables[0].hard.tolist() != tables[1].hard.tolist()
    assert len(index_of(mined)[0]) == len(index_of(random)[0])


def test_add_all_adds_all_of_a(store, tmp_path):
    run, _ = trained(store, tmp_path / "run", strategy="add-all")
    assert sorted(index_of(run)[0]) == sorted(run.refs("A", "B"))


def test_mining_in_all_the_data_repeats_the_hard_slices(store, tmp_path):
    run, result = trained(store, tmp_path / "run", strategy="mined-all", ratio=1.0)
    refs, _ = index_of(run)
    everything, hard = run.refs("B"), result.mining.ref[result.mining.hard]
    assert len(run.refs("A")) == 0
    assert sorted(refs) == sorted([*everything, *hard])


def test_weighted_draws_by_what_is_missing_to_a_perfect_score(store, tmp_path):
    run, result = trained(store, tmp_path / "run", strategy="weighted", ratio=1.0)
    missing = 1 - result.mining.score
    np.testing.assert_allclose(index_of(run)[1], 0.7 / len(missing) + 0.3 * missing / missing.sum())


def test_hard_slices_whose_masks_look_wrong_are_left_out(store, tmp_path, monkeypatch):
    _, hard = trained(store, tmp_path / "hard", strategy="mined-all", ratio=1.0)
    wrong = hard.mining.ref[hard.mining.hard][0]
    monkeypatch.setattr(suspicion, "find_suspects", lambda store, source, organs, segmenter, refs: [
        SimpleNamespace(case=store.cases[int(store.case_of(refs)[refs == wrong][0])].key,
                        slice=int(wrong - store.first_ref[store.case_of(refs)[refs == wrong][0]]))
    ])  # fmt: skip
    _, safe = trained(store, tmp_path / "safe", strategy="mined-all-safe", ratio=1.0)
    assert safe.mining.reason[safe.mining.ref == wrong].tolist() == ["suspect"]
    assert safe.mining.hard.sum() == hard.mining.hard.sum() - 1


def test_masks_are_looked_at_between_two_steps(store, tmp_path):
    _, found = trained(store, tmp_path / "safe", strategy="mined-all-safe", ratio=1.0)
    aside = set(found.mining.ref[found.mining.reason == "suspect"])
    _, hard = trained(store, tmp_path / "hard", strategy="mined-all", ratio=1.0)
    assert set(found.mining.ref[found.mining.hard]) == set(hard.mining.ref[hard.mining.hard]) - aside


def test_the_control_of_mined_all_repeats_as_many_slices_at_random(store, tmp_path):
    _, hard = trained(store, tmp_path / "hard", strategy="mined-all", ratio=1.0)
    _, found = trained(store, tmp_path / "random", strategy="random-on-top", ratio=1.0)
    assert found.mining.hard.sum() == hard.mining.hard.sum() > 0
    assert set(found.mining.ref[found.mining.hard]) != set(hard.mining.ref[hard.mining.hard])


@pytest.mark.parametrize("loss", ["dice+focal", "dice+topk"])
def test_a_run_trains_with_another_loss(store, tmp_path, loss):
    run, result = trained(store, tmp_path / "run", strategy="none", loss=loss)
    assert 0 < result.loss < 3
    assert result.mining is None
    assert run.options.loss == loss


@pytest.mark.parametrize("strategy", ["none", "mined", "random"])
def test_a_run_that_branches_off_a_trunk_ends_as_one_that_was_trained_at_one_go(store, tmp_path, strategy):
    trunk = Run.create(store, tmp_path / "trunk", dataclasses.replace(OPTIONS, strategy="none"))
    trunk.train_trunk()
    branch = Run.create(store, tmp_path / "branch", dataclasses.replace(OPTIONS, strategy=strategy)).branch(
        trunk
    )
    branch.train()
    whole, _ = trained(store, tmp_path / "whole", strategy=strategy)
    assert final_weights(branch) == final_weights(whole)
    assert branch.folder.history_file.read_bytes() == whole.folder.history_file.read_bytes()
    if strategy != "none":
        assert branch.folder.slices_file.read_bytes() == whole.folder.slices_file.read_bytes()


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("mined", "on which it did worst"),
        ("random", "random ones of them joined the training, as many as mining"),
        ("add-all", "all of them joined"),
        ("mined-all", "of its own 6 cases"),
        ("mined-all-safe", "without those whose masks look wrong"),
        ("random-on-top", "random ones of them were trained on once more"),
        ("weighted", "three draws of ten were in proportion to 1 - score"),
    ],
)
def test_the_report_says_what_became_of_the_scores(store, tmp_path, strategy, words):
    ratio = 1.0 if strategy in ("mined-all", "mined-all-safe", "random-on-top", "weighted") else 0.5
    run, _ = trained(store, tmp_path / "run", strategy=strategy, ratio=ratio)
    assert words in summary(read_contents(run.folder))


def test_strategies_of_one_seed_test_on_the_same_cases_whatever_the_seed(store, tmp_path):
    trained = [
        Run.create(store, tmp_path / str(seed), dataclasses.replace(OPTIONS, seed=seed), test_seed=7)
        for seed in range(3)
    ]
    test = [{row.case for row in run.rows if row.part == "test"} for run in trained]
    assert test[0] == test[1] == test[2]
    assert len({frozenset(row.case for row in run.rows if row.part == "A") for run in trained}) > 1


def test_contradictions_are_refused(store, tmp_path):
    with pytest.raises(DataError, match="no candidates"):
        dataclasses.replace(OPTIONS, strategy="random", ratio=1.0)
    with pytest.raises(DataError, match="weighted with flips"):
        dataclasses.replace(OPTIONS, strategy="weighted", ratio=1.0, flips=("none", "horizontal"))
    words = ["train", str(store), "--out", str(tmp_path / "r"), "--organ", runs.ORGAN]
    result = CliRunner().invoke(main, [*words, "--no-mining", "--strategy", "random"])
    assert result.exit_code == 2
    assert "contradict" in result.output


def test_an_evaluation_reads_each_test_slice_once(store, tmp_path, monkeypatch):
    run, _ = trained(store, tmp_path / "run", strategy="none")
    read = []
    plain = StoreSource.read
    monkeypatch.setattr(
        StoreSource,
        "read",
        lambda self, refs, *flips: read.extend(refs.tolist()) or plain(self, refs, *flips),
    )
    evaluate_run(run)
    assert sorted(read) == sorted(run.refs("test").tolist())


def test_the_list_of_excluded_slices_is_read_once(store, tmp_path, monkeypatch):
    (tmp_path / "list.csv").write_text("case,slice\n")
    run = Run.create(store, tmp_path / "run", OPTIONS, tmp_path / "list.csv")
    lists = []
    monkeypatch.setattr(
        train, "read_exclusions", lambda path, store: lists.append(path) or np.zeros(0, np.int64)
    )
    assert all(len(run.refs(*parts)) for parts in ("A", "B", "AB"))
    assert len(lists) == 1


def test_a_second_training_in_one_folder_is_refused_before_it_writes(store, tmp_path):
    first = Run.create(store, tmp_path / "run", OPTIONS)
    before = {path.name: path.read_bytes() for path in first.folder.path.iterdir()}
    with pytest.raises(DataError, match=r"LOCKED: a run that another process trains.*choose another --out"):
        Run.create(store, tmp_path / "run", dataclasses.replace(OPTIONS, seed=1))
    assert {path.name: path.read_bytes() for path in first.folder.path.iterdir()} == before
    first.train()
    with pytest.raises(DataError, match="RUN_EXISTS: a folder that holds a run"):
        Run.create(store, tmp_path / "run", OPTIONS)


def test_the_lock_of_a_run_is_free_when_its_training_has_ended(store, tmp_path):
    run, _ = trained(store, tmp_path / "run", strategy="none")
    lock_run(run.folder.path).release()


def test_a_folder_that_cannot_be_locked_is_refused_with_the_reason(tmp_path, monkeypatch):
    def failing(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(DataError, match=r"cannot be written or locked \(Input/output error\)"):
        lock_run(tmp_path)
    with pytest.raises(DataError, match=r"cannot be written or locked \(No such file"):
        lock_run(tmp_path / "missing")


@pytest.mark.parametrize("command", ["eval", "report", "mine", "predict", "train"])
def test_a_received_run_executes_no_code_that_was_not_named(store, tmp_path, monkeypatch, command):
    run, _ = trained(store, tmp_path / "run", strategy="none")
    record = dataclasses.replace(
        run.record, options=dataclasses.replace(OPTIONS, strategy="none", model="planted:f")
    )
    record.write(run.folder.record_file)
    (tmp_path / "planted.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    run = str(run.folder.path)
    words = {
        "predict": ["predict", run, str(tmp_path), "--out", str(tmp_path / "p.nii")],
        "train": ["train", "--resume", "--out", run],
        "mine": ["mine", run, "--out", str(tmp_path / "mined")],
    }.get(command, [command, run])
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1, done.output
    assert "OWN_MODEL: a run whose model is planted:f" in done.output
    assert "pass --model planted:f" in " ".join(done.output.split())
    done = CliRunner().invoke(main, [*words, "--model", "other:f"])
    assert "planted:f, not other:f" in " ".join(done.output.split())


def test_another_model_than_a_built_in_one_is_refused(tmp_path):
    record = RunRecord(
        dataclasses.replace(OPTIONS, model="unet"), "s", "d", (1, 1), (None, None), (1, 1), "jax", {}
    )
    record.check_model(None)
    record.check_model("unet")
    with pytest.raises(
        DataError, match=r"model is unet, not other:f; expected no other model; leave out --model"
    ):
        record.check_model("other:f")


def test_tensorboard_without_its_package_is_refused_before_anything_is_written(store, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a)
    )
    words = ["train", str(store), "--out", str(tmp_path / "r"), "--organ", runs.ORGAN, "--tensorboard"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert "pip install 'kerasbalance[tensorboard]'" in " ".join(done.output.split())
    assert not (tmp_path / "r").exists()
