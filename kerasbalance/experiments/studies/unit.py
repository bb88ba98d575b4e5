"""The runs of one unit, trained and evaluated one after the other in a process of their own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from kerasbalance.errors import NonFiniteError
from kerasbalance.experiments.runs.cost import Cost, measure_cost
from kerasbalance.experiments.runs.evaluate import evaluate_run
from kerasbalance.experiments.runs.evaluation_files import write_evaluation
from kerasbalance.experiments.runs.folder import RunFolder
from kerasbalance.experiments.runs.lock import lock_run
from kerasbalance.experiments.runs.train import Run
from kerasbalance.experiments.studies.arms import Arm
from kerasbalance.experiments.studies.curve import write_curve
from kerasbalance.experiments.studies.options import TEST_SEED, StudyRecord, Unit, unit_folder
from kerasbalance.experiments.studies.progress import claim_folder, is_done, trunk_folder

Report = Callable[[str, Any], None]


def run_unit(folder: Path, record: StudyRecord, unit: Unit, report: Report) -> None:
    """Train and evaluate what is missing of a unit.

    Args:
        folder: the study's.
        record: the study.
        unit: which runs.
        report: called with ("iterations", number) as they are done, and ("done", name of an arm).

    Raises:
        DataError: another process works on the unit (code `LOCKED`), or a run cannot be made, trained or evaluated.
        kerasbalance.Interrupted: after a signal; what was done is saved.
    """
    claim = claim_folder(folder, unit)
    claim.mkdir(parents=True, exist_ok=True)
    lock = lock_run(claim)
    try:
        _run_arms(folder, record, unit, report)
    finally:
        lock.release()


def _run_arms(folder: Path, record: StudyRecord, unit: Unit, report: Report) -> None:
    place = unit_folder(folder, unit)
    missing = [arm for arm in unit.arms if not is_done(place / arm.name)]
    shared = len(missing) > 1 or RunFolder(trunk_folder(folder, unit)).has_checkpoint
    trunk = None
    for arm in missing:
        keras.backend.clear_session()
        run = _open(record, unit, arm, place / arm.name)
        try:
            if shared and not run.resumed:
                trunk = trunk or _trained_trunk(folder, record, unit, report)
                run = run.branch(trunk)
            run.train([_Counter(report)])
        except NonFiniteError as error:
            run.folder.note_divergence(error)
        else:
            write_curve(run, run.folder.eval_folder)
            write_evaluation(run.folder.eval_folder, evaluate_run(run))
        report("done", arm.name)


def _trained_trunk(folder: Path, record: StudyRecord, unit: Unit, report: Report) -> Run:
    plain = replace(unit.arms[0], name="trunk", strategy="none", meaning="")
    trunk = _open(record, unit, plain, trunk_folder(folder, unit))
    trunk.train_trunk([_Counter(report)])
    keras.backend.clear_session()
    return trunk


def _open(record: StudyRecord, unit: Unit, arm: Arm, out: Path) -> Run:
    """Open a run that has begun, or make a new one."""
    if RunFolder(out).has_checkpoint:
        return Run.open(out, Path(record.store), model=unit.model)
    options = record.options.train_options(unit, arm)
    return Run.create(Path(record.store), out, options, test_seed=TEST_SEED)


class _Counter(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """Tells how many iterations were done since it told last."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report, self._steps = report, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._report("iterations", self._steps)
        self._steps = 0


def measure_step(record: StudyRecord, unit: Unit, scratch: Path) -> Cost:
    """Train a few steps of a unit's network, to tell beforehand what the study will take.

    Args:
        record: the study.
        unit: which network and organ.
        scratch: a folder to make a run in.
    """
    options = record.options.train_options(unit, unit.arms[0])
    return measure_cost(Run.create(Path(record.store), scratch, options, test_seed=TEST_SEED))
