"""The units of a study on an executor that somebody else provides."""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.studies.options import StudyRecord, Unit
from kerasbalance.experiments.studies.progress import iterations_left
from kerasbalance.experiments.studies.unit_process import train_unit
from kerasbalance.experiments.studies.workers import crashed


def submit_units(
    executor: Executor, folder: Path, record: StudyRecord, units: Sequence[Unit]
) -> Iterator[tuple[Unit, str, Any]]:
    """Submit units and wait for them; those that wait are cancelled when the caller stops.

    Args:
        executor: Who runs them.
        folder: The study's, under the name that the workers know it by.
        record: The study, which is also written in the folder.
        units: What is missing.

    Yields:
        Triples as `run_units`: "iterations" and "done" when a unit ends, or "failed".
    """
    futures = {
        executor.submit(train_unit, str(folder), unit.number, model=unit.model): (
            unit,
            iterations_left(folder, record, unit),
        )
        for unit in units
    }
    try:
        for future in as_completed(futures):
            unit, iterations = futures[future]
            error = _failure(future, unit)
            if error is not None:
                yield unit, "failed", error
                continue
            yield unit, "iterations", iterations
            yield unit, "done", "all arms"
    finally:
        for future in futures:
            future.cancel()


def _failure(future: "Future[str]", unit: Unit) -> DataError | None:
    try:
        error = future.exception()
    except CancelledError:
        return crashed(unit, "was cancelled")
    if error is None or isinstance(error, DataError):
        return error
    return crashed(unit, f"ended with {type(error).__name__}")
