"""One unit of a study in the process that calls: its cores and backend, its lock, and errors that travel."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.folder import check_model_named
from kerasbalance.experiments.runs.options import usage
from kerasbalance.experiments.studies.options import StudyRecord, Unit

Report = Callable[[str, Any], None]


def train_unit(
    folder: Path | str,
    number: int,
    *,
    model: str | None = None,
    report: Report = lambda kind, content: None,
) -> str:
    """Train and evaluate what is missing of one unit of a study, in this process.

    This is what a task of a cluster calls: one element of a SLURM array, one Ray task, one job of Kubernetes. The
    task may be killed at any moment and repeated anywhere; it goes on from its last checkpoint.

    Args:
        folder: The study's folder, which `kerasbalance study --plan` wrote.
        number: Which unit, from 0.
        model: The unit's network, to be named again where it is code of the user's own.
        report: Called with ("iterations", number) as they are done, and ("done", name of an arm).

    Returns:
        The unit in words.

    Raises:
        DataError: If there is no study or no such unit, another process works on the unit, this process has another
            backend, or a run fails (codes `NO_STUDY`, `USAGE`, `LOCKED`, `BACKEND`, and those of `train`).
        kerasbalance.Interrupted: After SIGTERM or Ctrl-C; what was trained is saved.
    """
    folder = Path(folder)
    record, unit = read_unit(folder, number)
    check_model_named(unit.model, model)
    prepare_process(record, number)
    _check_backend(record.backend)
    _check_store(record)
    from kerasbalance.experiments.studies.unit import run_unit

    with errors_that_travel(unit):
        run_unit(folder, record, unit, report)
    return unit.label


def read_unit(folder: Path, number: int) -> tuple[StudyRecord, Unit]:
    """Read a study and find one of its units.

    Raises:
        DataError: If there is no study or no such unit (codes `NO_STUDY`, `USAGE`).
    """
    record = StudyRecord.read(folder)
    units = list(record.options.units())
    if not 0 <= number < len(units):
        raise usage(
            f"unit {number}", f"a number from 0 to {len(units) - 1}", "see how many units the study has"
        )
    return record, units[number]


def prepare_process(record: StudyRecord, slot: int) -> None:
    """Use only the study's number of cores and its backend; call it before anything imports Keras.

    Args:
        record: The study.
        slot: Which of the processes of this machine; neighbours are given other cores.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = {cores[(slot * record.threads + n) % len(cores)] for n in range(record.threads)}
        os.sched_setaffinity(0, own)
    os.environ["KERAS_BACKEND"] = record.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _check_store(record: StudyRecord) -> None:
    if not (Path(record.store) / "store.json").is_file():
        raise DataError("NO_STORE", "a study whose store is not where it was planned", "the store of the study, at the "
                        "same place on every machine", "run the command study again with its present place as "
                        "STORE", path=Path(record.store))  # fmt: skip


def _check_backend(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise DataError("BACKEND", f"a study of the backend {name}, which is not installed here",
                        "the backend of the study", f"pip install 'kerasbalance[{name}]'")  # fmt: skip
    import keras

    if keras.config.backend() != name:
        raise DataError("BACKEND", f"a process that has imported Keras with {keras.config.backend()}",
                        f"{name}, as the study was planned", "use a new process for each unit, or set KERAS_BACKEND "
                        f"to {name} where the workers are started")  # fmt: skip


@contextlib.contextmanager
def errors_that_travel(unit: Unit) -> Iterator[None]:
    """Turn every error in the block into a `DataError` that names the unit and no path."""
    try:
        yield
    except DataError as error:
        raise error.at(where=unit.label) from error
    except OSError as error:
        raise DataError("UNWRITABLE", f"{unit.label}: a run's folder on which the operating system gave up "
                        f"({error.strerror or type(error).__name__})", "a disk with room that may be written",
                        "mend that and run the same command again to go on") from error  # fmt: skip
    except Exception as error:
        raise DataError(
            "INTERNAL",
            f"{unit.label}: an unforeseen {type(error).__name__}",
            "a run that trains to its end",
            "train that run alone with kerasbalance train --debug and report what it shows",
        ) from error
