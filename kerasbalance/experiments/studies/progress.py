"""What is done of a study and what is left, by its files."""

import dataclasses
from pathlib import Path

from kerasbalance.experiments.runs.evaluation_files import is_evaluated
from kerasbalance.experiments.runs.folder import RunFolder
from kerasbalance.experiments.studies.options import StudyRecord, Unit, unit_folder


def units_left(folder: Path, record: StudyRecord) -> list[Unit]:
    """Return the units that are not done, each with the arms that it lacks."""
    found = []
    for unit in record.options.units():
        place = unit_folder(folder, unit)
        missing = tuple(arm for arm in unit.arms if not is_done(place / arm.name))
        if missing:
            found.append(dataclasses.replace(unit, arms=missing))
    return found


def is_done(run: Path) -> bool:
    """Say whether a run needs nothing more: it is evaluated, or it diverged, which it would do again."""
    folder = RunFolder(run)
    return is_evaluated(folder.eval_folder) or folder.diverged_file.exists()


def iterations_left(folder: Path, record: StudyRecord, unit: Unit) -> int:
    """Return the iterations that a unit lacks, its trunk counted once."""
    options, place = record.options.train_options(unit, unit.arms[0]), unit_folder(folder, unit)
    done = [RunFolder(place / arm.name).saved_iteration for arm in unit.arms]
    left = sum(options.iterations - max(saved, options.trunk_iterations) for saved in done)
    if all(done):
        return left
    return left + options.trunk_iterations - RunFolder(trunk_folder(folder, unit)).saved_iteration


def trunk_folder(folder: Path, unit: Unit) -> Path:
    """Return where the part of the training lies that the arms of a unit share."""
    ratio, loss, augment = unit.arms[0].trunk
    changed = "" if augment == "none" else f"-{augment}"
    return unit_folder(folder, unit) / f"trunk-{ratio:g}-{loss}{changed}"


def claim_folder(folder: Path, unit: Unit) -> Path:
    """Return the folder whose lock a process holds while it works on a unit."""
    trunk = trunk_folder(folder, unit)
    return trunk.with_name(trunk.name.replace("trunk", "unit", 1))
