"""What a study is told, and the runs that follow from it."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import replace_file
from kerasbalance.experiments.runs.folder import installed_versions
from kerasbalance.experiments.runs.optimizers import default_rate
from kerasbalance.experiments.runs.options import TrainOptions, usage
from kerasbalance.experiments.studies.arms import Arm, parse_arm
from kerasbalance.experiments.studies.measures import DEFAULT as DEFAULT_MEASURES
from kerasbalance.experiments.studies.measures import MEASURES
from kerasbalance.experiments.tabular import to_json
from kerasbalance.files import remove_leftovers

FORMAT = 1
TEST_SEED = 0
"""The test cases of an organ are drawn once, with this seed, and are the same for every run of a study."""


@dataclass(frozen=True)
class Unit:
    """Runs that share a trunk: arms of one organ, network and seed. One process trains them, one after the other.

    Args:
        organ: what is segmented.
        model: the network.
        seed: of split, weights and order.
        arms: what is trained; all of the same trunk.
        number: the unit's place in the study, from 0; more seeds do not change it, other arms may.
    """

    organ: str
    model: str
    seed: int
    arms: tuple[Arm, ...]
    number: int

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"{self.organ}, {self.model}, seed {self.seed}"


@dataclass(frozen=True)
class StudyOptions:
    """What is compared; written to `study.json`.

    Args:
        organs: each is a study of its own.
        models: as for `TrainOptions`; each is a study of its own.
        arms: what is compared, by name.
        seeds: how many seeds, from 0.
        base: what all runs share; organ, model, ratio, strategy, loss and seed are replaced.
        rates: learning rate by model; where it is left out, that of `train`.
        measures: the measures that decide, some of `MEASURES`; all others are exploratory.
        margin: how much lower counts as not worse, in Dice points.

    Raises:
        DataError: a value is out of range or stands twice (code `USAGE`).
    """

    organs: tuple[str, ...]
    models: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int
    base: TrainOptions
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    measures: tuple[str, ...] = DEFAULT_MEASURES
    margin: float = 0.2

    def __post_init__(self) -> None:
        neutral = dataclasses.replace(
            self.base, organs=("any",), model="unet", ratio=0.5, strategy="mined", loss="dice", seed=0,
            learning_rate=default_rate(self.base.optimizer, "unet"),
        )  # fmt: skip
        object.__setattr__(self, "base", neutral)
        strangers = [model for model in self.rates if model not in self.models]
        if strangers:
            raise usage(f"a learning rate for {', '.join(strangers)}", f"models {', '.join(self.models)}",
                        "correct --learning-rate")  # fmt: skip
        rates = {m: self.rates.get(m, default_rate(self.base.optimizer, m)) for m in self.models}
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "arms", tuple(parse_arm(arm).name for arm in self.arms))
        strangers = [name for name in self.measures if name not in MEASURES]
        if strangers:
            raise usage(
                f"measures {', '.join(strangers)}", f"some of {', '.join(MEASURES)}", "correct --measures"
            )
        if not 0 < self.margin < 100:
            raise usage(f"margin {self.margin:g}", "Dice points above 0 and below 100", "correct --margin")
        for name in ("organs", "models", "arms", "measures"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise usage(
                    f"{name} {', '.join(values) or 'of none'}", "at least one, each once", f"correct --{name}"
                )
        if self.seeds < 1:
            raise usage(f"seeds {self.seeds}", "1 or more", "correct --seeds")
        if self.base.validation_share:
            raise usage("a share of validation cases", "none in a study", "leave it out")
        for unit in self.units():
            for arm in unit.arms:
                self.train_options(unit, arm)

    def units(self) -> Iterator[Unit]:
        """Yield what there is to train, seed by seed, so that early results have all arms."""
        arms = [parse_arm(name) for name in self.arms]
        trunks = dict.fromkeys(arm.trunk for arm in arms)
        parts = itertools.product(range(self.seeds), self.organs, self.models, trunks)
        for number, (seed, organ, model, trunk) in enumerate(parts):
            yield Unit(organ, model, seed, tuple(arm for arm in arms if arm.trunk == trunk), number)

    def train_options(self, unit: Unit, arm: Arm) -> TrainOptions:
        """Return what one run is told."""
        return dataclasses.replace(
            self.base,
            organs=(unit.organ,),
            model=unit.model,
            seed=unit.seed,
            ratio=arm.ratio,
            strategy=arm.strategy,
            loss=arm.loss,
            augment=arm.augment,
            learning_rate=self.rates[unit.model],
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**dataclasses.asdict(self), "base": self.base.to_json()}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "StudyOptions":
        """Read what `to_json` returned."""
        names = ("organs", "models", "arms", "measures")
        lists: dict[str, Any] = {name: tuple(plain[name]) for name in names if name in plain}
        return cls(**{**plain, **lists, "base": TrainOptions.from_json(plain["base"])})


@dataclass(frozen=True)
class StudyRecord:
    """What `study.json` holds.

    Args:
        options: what is compared.
        store: path of the store.
        store_digest: SHA-256 of the store's cases.
        backend: Keras backend of all runs.
        threads: cores a process may use; the same for all runs, since rounding may depend on it.
        versions: of Python and packages.
    """

    options: StudyOptions
    store: str
    store_digest: str
    backend: str
    threads: int
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write `study.json`, whole or not at all; the folder is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"format": FORMAT, **self.__dict__, "options": self.options.to_json()}
        replace_file(folder / "study.json", to_json(plain))

    @classmethod
    def read(cls, folder: Path) -> "StudyRecord":
        """Read `study.json`.

        Raises:
            DataError: the folder holds no readable study (code `NO_STUDY`).
        """
        try:
            plain: dict[str, Any] = json.loads((folder / "study.json").read_text())
            if plain.pop("format") != FORMAT:
                raise ValueError("format")
            plain["options"] = StudyOptions.from_json(plain["options"])
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError("NO_STUDY", "a folder without a readable study.json", "a study made by kerasbalance study",
                            "name the study's folder, or a new one", path=folder) from None  # fmt: skip


def open_record(
    folder: Path, options: StudyOptions, *, store: str, store_digest: str, backend: str, threads: int
) -> StudyRecord:
    """Return the record of a new study, or of one that goes on: organs, networks, arms and seeds may be added.

    Nothing is written: a study that cannot be done leaves none behind, and does not change one that can.

    Args:
        folder: the study's.
        options: what is asked for now.
        store: path of the store.
        store_digest: of its cases.
        backend: of Keras.
        threads: cores a process; a study that goes on keeps its own.

    Raises:
        DataError: the folder holds a study of other options, another store or backend (code `OTHER_STUDY`), or
            something else (code `NOT_EMPTY`).
    """
    new = StudyRecord(options, store, store_digest, backend, threads, installed_versions())
    remove_leftovers(folder)
    if not (folder / "study.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise DataError("NOT_EMPTY", "a folder that holds other files", "a new folder, or that of a study",
                            "choose another --out", path=folder)  # fmt: skip
        return new
    old = StudyRecord.read(folder)
    unnamed = [model for model in old.options.models if ":" in model and model not in options.models]
    if unnamed:
        raise DataError("OWN_MODEL", f"a study whose models include {unnamed[0]}",
                        "the same model in --models, since its code is executed",
                        f"if you trust that code, add {unnamed[0]} to --models")  # fmt: skip
    rates, shared = (old.options.rates, options.rates), set(old.options.models) & set(options.models)
    differing = ["base"] if old.options.base != options.base else []
    differing += ["rates"] if any(rates[0].get(model) != rates[1].get(model) for model in shared) else []
    differing += [n for n in ("measures", "margin") if getattr(old.options, n) != getattr(options, n)]
    differing += [name for name in ("store_digest", "backend") if getattr(old, name) != getattr(new, name)]
    if differing:
        named = ", ".join({"base": "training options", "rates": "learning rates", "store_digest": "store"}.get(n, n)
                          for n in differing)  # fmt: skip
        raise DataError("OTHER_STUDY", f"a folder whose study has another {named}", "the same, to go on",
                        "repeat its options (study.json lists them), or choose another --out", path=folder)  # fmt: skip
    merged = dataclasses.replace(
        old.options,
        organs=_joined(old.options.organs, options.organs),
        models=_joined(old.options.models, options.models),
        arms=_joined(old.options.arms, options.arms),
        seeds=max(old.options.seeds, options.seeds),
        rates=rates[0] | rates[1],
    )
    return dataclasses.replace(old, options=merged, store=store)


def _joined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*old, *new]))


def unit_folder(folder: Path, unit: Unit) -> Path:
    """Return where the runs of an organ, network and seed lie."""
    return folder / "runs" / f"{_plain(unit.organ)}-{_plain(unit.model)}" / f"seed-{unit.seed}"


def _plain(name: str) -> str:
    """Return a name as part of a file's name; what is replaced is told apart by a digest."""
    plain = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    return plain if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
