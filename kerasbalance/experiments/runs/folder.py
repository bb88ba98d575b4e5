"""A run on disk: what it was told, what it found, and where its files lie."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.data.volume.shaping import Shaping
from kerasbalance.experiments.runs.keeping import Kept
from kerasbalance.experiments.runs.options import TrainOptions
from kerasbalance.experiments.runs.started import Started
from kerasbalance.experiments.tabular import to_json

FORMAT = 1
_PACKAGES = (
    "kerasbalance",
    "keras",
    "numpy",
    "h5py",
    "pydicom",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
)


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run; README's section "Training" lists the files.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def record_file(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def split_file(self) -> Path:
        """`split.csv`: which case does what."""
        return self.path / "split.csv"

    @property
    def exclude_file(self) -> Path:
        """`exclude.csv`: slices that are not trained on; there only where some were named."""
        return self.path / "exclude.csv"

    @property
    def history_file(self) -> Path:
        """`history.csv`: loss by epoch."""
        return self.path / "history.csv"

    @property
    def slices_file(self) -> Path:
        """`slices.csv`: the mining table."""
        return self.path / "slices.csv"

    @property
    def model_file(self) -> Path:
        """`model.keras`: the trained model."""
        return self.path / "model.keras"

    @property
    def point_file(self) -> Path:
        """`operating_point.json`: threshold and clean-up; there only where the run has validation cases."""
        return self.path / "operating_point.json"

    @property
    def diverged_file(self) -> Path:
        """`diverged.json`: why a run could not be trained to its end; there only where its training diverged."""
        return self.path / "diverged.json"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from, sound or not."""
        return any((self.path / "checkpoint").glob("0*"))

    @property
    def saved_iteration(self) -> int:
        """Iterations at the newest checkpoint, by its name; 0 without one."""
        names = [entry.name for entry in (self.path / "checkpoint").glob("0*-iteration-*")]
        return int(max(names).rpartition("-")[2]) if names else 0

    def note_divergence(self, error: Exception) -> None:
        """Write down that the training diverged, in the error's words."""
        replace_file(self.diverged_file, to_json({"error": str(error)}))

    def shortcoming(self, iterations: int) -> str:
        """Return what keeps the newest weights from being those of the finished run, "" if they are.

        Args:
            iterations: How many the run was told to do.
        """
        weights = f"these are the weights of iteration {self.saved_iteration:,} of {iterations:,}"
        if self.diverged_file.exists():
            return f"the training of this run diverged: {weights}, before it did"
        if not self.model_file.exists():
            return f"the training of this run has not ended: {weights}; train --resume goes on"
        return ""

    @property
    def eval_folder(self) -> Path:
        """`eval/`: tables of the evaluation."""
        return self.path / "eval"


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` holds.

    Args:
        options: what the run was told.
        store: path of the store, as it was given.
        store_digest: SHA-256 of the cases that the run uses.
        plane: rows and columns of the store's slices.
        shaping: what the ingest did to the slices; predictions on new CT do the same.
        pixel_spacing_mm: smallest and largest pixel spacing of the training cases.
        backend: Keras backend.
        versions: of Python and packages.
        devices: on how many devices it was trained last; any other number may go on.
        kept: the epoch whose weights it holds, once it is finished; None without validation cases.
        started: the weights that it started from; None where all were random.
    """

    options: TrainOptions
    store: str
    store_digest: str
    plane: tuple[int, int]
    shaping: Shaping
    pixel_spacing_mm: tuple[float, float]
    backend: str
    versions: dict[str, str]
    kept: Kept | None = None
    started: Started | None = None
    devices: int = 1

    def write(self, path: Path) -> None:
        """Write `run.json`, whole or not at all."""
        kept = None if self.kept is None else self.kept.to_json()
        started = None if self.started is None else self.started.to_json()
        plain = {"format": FORMAT, **self.__dict__, "options": self.options.to_json(), "kept": kept,
                 "started": started}  # fmt: skip
        replace_file(path, to_json(plain))

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read `run.json`.

        Raises:
            DataError: the folder holds no readable run (code `NO_RUN`).
        """
        try:
            plain: dict[str, Any] = json.loads(path.read_text())
            if plain.pop("format") != FORMAT:
                raise ValueError("format")
            plain["options"] = TrainOptions.from_json(plain["options"])
            for name in ("plane", "pixel_spacing_mm"):
                plain[name] = tuple(plain[name])
            plain["shaping"] = Shaping(*plain["shaping"])
            if plain.get("kept") is not None:
                plain["kept"] = Kept(**plain["kept"])
            if plain.get("started") is not None:
                plain["started"] = Started.from_json(plain["started"])
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError("NO_RUN", "a folder without a readable run.json", "a run made by kerasbalance train",
                            "name the run's folder", path=path.parent) from None  # fmt: skip

    def check_model(self, named: str | None) -> None:
        """Refuse to import code that the run's folder names and the user does not.

        Args:
            named: The model as the user names it; None where it was left out.

        Raises:
            DataError: If the model is code of a user's own and `named` is not this model, or another model is
                named (code `OWN_MODEL`).
        """
        check_model_named(self.options.model, named)

    def check_callbacks(self, named: Sequence[str]) -> None:
        """Refuse to go on with other callbacks than those that the run began with; they are code, as a model is.

        Args:
            named: The callbacks as the user names them.

        Raises:
            DataError: If they are not those of the run (code `OWN_CALLBACK`).
        """
        own = self.options.callbacks
        if set(named) == set(own) and len(named) == len(own):
            return
        missing = [name for name in own if name not in named]
        advice = " ".join(f"--callback {name}" for name in own)
        raise DataError("OWN_CALLBACK", f"{len(named)} callbacks for a run with {len(own)}"
                        + (f", of which {', '.join(missing)} is not named" if missing else ""),
                        "the run's own callbacks, each named again since its code is executed",
                        f"if you trust that code, pass {advice}" if own else "leave out --callback")  # fmt: skip


def check_model_named(own: str, named: str | None) -> None:
    """Refuse to import code that a folder names and the user does not; see `RunRecord.check_model`.

    Args:
        own: The model that the folder names.
        named: The model as the user names it; None where it was left out.

    Raises:
        DataError: As `RunRecord.check_model`.
    """
    if named == own or (named is None and ":" not in own):
        return
    raise DataError("OWN_MODEL", f"a run whose model is {own}" + ("" if named is None else f", not {named}"),
                    "the same model by --model, since its code is executed" if ":" in own else "no other model",
                    f"if you trust that code, pass --model {own}" if ":" in own else "leave out --model",
                    )  # fmt: skip


def read_options(path: Path) -> TrainOptions:
    """Return the options of a run, to be used again; nothing is executed.

    Args:
        path: The run's folder, or its `run.json`.

    Raises:
        DataError: If it is no readable record (code `NO_RUN`).
    """
    return RunRecord.read(RunFolder(path).record_file if path.is_dir() else path).options


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
