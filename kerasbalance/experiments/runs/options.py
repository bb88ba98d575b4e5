"""What a training run is told, and the named presets."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.augmentations import STRENGTHS
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.optimizers import OPTIMIZERS, default_rate
from kerasbalance.experiments.runs.parts import VALIDATION
from kerasbalance.experiments.runs.rules import parse_rule
from kerasbalance.experiments.runs.strategies import STRATEGIES

MODELS = ("unet", "fcn")
FLIPS = ("none", "horizontal", "vertical", "both")
_OPTION_OF = {"organs": "organ", "callbacks": "callback"}
"""Options of `train` that bear another name than what they set."""
EPOCHS = 100
"""A run is divided into about so many epochs: points of the curve, chances for a checkpoint."""
KEEP = ("best", "last")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def _checked(default: Any, sound: Callable[[Any], bool], expected: str) -> Any:
    """Declare a field of `TrainOptions` with what is asked of its value.

    Args:
        default: Its default; an ellipsis for a field that must be given.
        sound: Whether a value is in range.
        expected: The range in words.
    """
    metadata = {"sound": sound, "expected": expected}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides what a run does; written to `run.json` as it is.

    Args:
        organs: what is segmented; one gives a sigmoid, several a softmax with background.
        model: "unet", "fcn", or "package.module:function" that takes (input_shape, num_classes) and returns a
            Keras model of HU.
        base_filters: filters of the first level; for "unet" and "fcn".
        window_hu: the HU window of the model's first layer, for "unet" and "fcn"; pictures are shown in it too.
        iterations: optimizer steps in all.
        batch_size: slices a step.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: at the beginning; left out, what `default_rate` says for optimizer and network.
        momentum: of SGD; the first beta of AdamW.
        power: of the polynomial decay to 0.
        strategy: what scoring the slices leads to, one of `STRATEGIES`.
        loss: one of `LOSSES`.
        mine_at: the share of the iterations after which slices are scored, unless `mine_every` is given.
        mine_every: slices are scored each time so many iterations are done; the index begins anew each time.
        rule: one of `RULES`, with its value after a colon; see `kerasbalance.below`, `kerasbalance.lowest` and
            `kerasbalance.below_worst_case`.
        repeat: how often each form of a hard slice is added.
        skip_worst: the share of the candidates, the very worst, that is never added: often their masks are wrong.
        flips: forms in which slices are trained on, beginning with "none": those of part B all along, those of
            the hard slices from mining on.
        augment: how strongly slices are changed at random while they are trained on, one of `STRENGTHS`.
        ratio: the share of the training cases that is part B.
        test_share: the share of all cases that is kept for evaluation.
        validation_share: the share of all cases that is scored at the end of each epoch; they are not trained on.
        keep: "last", or "best": the weights of the epoch with the best validation Dice, of those that end after
            the first mining.
        patience: epochs without a better validation Dice, counted from the first mining on, after which the
            training stops; None for never.
        neighbours: how many slices before and after each one the network sees as channels.
        partial_labels: whether cases that annotate only some of the organs take part too.
        seed: of the split, the weights and the order.
        test_seed: of the choice of the test cases alone, so that runs of several seeds can be judged on the same
            cases; None for `seed`.
        precision: Keras' dtype policy.
        callbacks: "package.module:function" of each callback of the user's own; never imported by this name alone.

    Raises:
        DataError: a value is out of range or contradicts another (code `USAGE`).
    """

    # fmt: off
    organs: tuple[str, ...] = _checked(..., lambda v: len(set(v)) == len(v) > 0, "at least one organ, each once")
    model: str = _checked("unet", lambda v: v in MODELS or ":" in v, f"{', '.join(MODELS)} or package.module:function")
    base_filters: int = _checked(16, lambda v: v >= 1, "1 or more")
    window_hu: tuple[float, float] = _checked((-150.0, 250.0), lambda v: -math.inf < v[0] < v[1] < math.inf,
                                              "LOW,HIGH with LOW below HIGH")
    iterations: int = _checked(4_000, lambda v: v >= 2, "2 or more")
    batch_size: int = _checked(16, lambda v: v >= 1, "1 or more")
    optimizer: str = _checked("sgd", lambda v: v in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
    learning_rate: float = _checked(None, lambda v: v > 0, "above 0")  # a number from __post_init__ on
    momentum: float = _checked(0.9, lambda v: 0 <= v < 1, "from 0 to below 1")
    power: float = _checked(0.9, lambda v: 0 < v < math.inf, "above 0")
    strategy: str = _checked("mined", lambda v: v in STRATEGIES, f"one of {', '.join(STRATEGIES)}")
    loss: str = _checked("dice", lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}")
    mine_at: float = _checked(0.5, lambda v: 0 < v < 1, "between 0 and 1")
    mine_every: int | None = _checked(None, lambda v: v is None or v >= 1, "1 or more iterations")
    rule: str = "lowest:0.15"
    repeat: int = _checked(1, lambda v: v >= 1, "1 or more")
    skip_worst: float = _checked(0.0, lambda v: 0 <= v < 1, "from 0 to below 1")
    flips: tuple[str, ...] = _checked(("none",), lambda v: "none" in v and set(v) <= set(FLIPS),
                                      f"none and others of {FLIPS}")
    augment: str = _checked("none", lambda v: v in STRENGTHS, f"one of {', '.join(STRENGTHS)}")
    ratio: float = _checked(0.5, lambda v: 0 < v <= 1, "above 0 and at most 1")
    test_share: float = _checked(0.25, lambda v: 0 < v < 1, "between 0 and 1")
    validation_share: float = _checked(0.0, lambda v: 0 <= v < 1, "0 or a share beside the test's")
    keep: str = _checked("last", lambda v: v in KEEP, f"one of {', '.join(KEEP)}")
    patience: int | None = _checked(None, lambda v: v is None or v >= 1, "1 or more epochs")
    neighbours: int = _checked(0, lambda v: 0 <= v <= 8, "from 0 to 8")
    partial_labels: bool = False
    seed: int = _checked(0, lambda v: v >= 0, "0 or more")
    test_seed: int | None = _checked(None, lambda v: v is None or v >= 0, "0 or more")
    precision: str = _checked("float32", lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
    callbacks: tuple[str, ...] = _checked((), lambda v: len(set(v)) == len(v) and all(":" in name for name in v),
                                          "package.module:function, each once")
    # fmt: on

    def __post_init__(self) -> None:
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", default_rate(self.optimizer, self.model))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.metadata and not each.metadata["sound"](value):
                raise self._refused(each.name, each.metadata["expected"])
        self._check_together()

    def _refused(self, name: str, expected: str) -> DataError:
        option = _OPTION_OF.get(name, name.replace("_", "-"))
        return usage(f"{name} {getattr(self, name)!r}", expected, f"correct --{option}")

    def _check_together(self) -> None:
        """Refuse values that are in range but contradict each other."""
        if self.validation_share >= 1 - self.test_share:
            raise self._refused("validation_share", "0 or a share beside the test's")
        for name, wanted in (("keep", self.keep == "best"), ("patience", self.patience is not None)):
            if wanted and not self.validation_share:
                raise usage(f"{name} {getattr(self, name)} without validation cases", "cases to judge epochs on",
                            f"pass --validation-share 0.2, or leave out --{name}")  # fmt: skip
        if STRATEGIES[self.strategy].needs_part_a and self.ratio == 1:
            raise usage(f"the strategy {self.strategy} with ratio 1, which leaves no candidates",
                        "a ratio below 1, no mining, or mining in all the data",
                        "pass --ratio 0.5, --no-mining or --strategy mined-all")  # fmt: skip
        self._check_mining()

    def _check_mining(self) -> None:
        rule = parse_rule(self.rule)
        if rule.value == VALIDATION and not self.validation_share:
            raise usage(f"the rule {self.rule} without validation cases", "cases to compare with",
                        "pass --validation-share 0.1, or another --rule")  # fmt: skip
        if self.mine_every is not None and self.mine_every >= self.iterations:
            raise self._refused("mine_every", f"less than the {self.iterations} iterations of the run")
        changed = [name for name, value in (("flips", ("none",)), ("repeat", 1), ("skip_worst", 0))
                   if getattr(self, name) != value]  # fmt: skip
        if self.strategy == "weighted" and changed:
            raise usage(f"the strategy weighted with {changed[0]}", "slices as they are, drawn by their scores",
                        f"leave out --{changed[0].replace('_', '-')}, or choose another strategy")  # fmt: skip

    @property
    def mining(self) -> bool:
        """Whether slices are scored at all."""
        return self.strategy != "none"

    @property
    def num_classes(self) -> int:
        """Output channels of the model."""
        return 1 if len(self.organs) == 1 else len(self.organs) + 1

    @property
    def mine_iterations(self) -> tuple[int, ...]:
        """The iterations at which slices are scored, in order; at least one, whatever the strategy."""
        if self.mine_every is not None:
            return tuple(range(self.mine_every, self.iterations, self.mine_every))
        return (min(max(round(self.mine_at * self.iterations), 1), self.iterations - 1),)

    @property
    def epoch_iterations(self) -> int:
        """Iterations an epoch."""
        return max(1, math.ceil(self.iterations / EPOCHS))

    @property
    def trunk_iterations(self) -> int:
        """Iterations up to the end of the last epoch before mining: what runs can share that differ after it."""
        return self.mine_iterations[0] // self.epoch_iterations * self.epoch_iterations

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "TrainOptions":
        """Read what `to_json` returned."""
        lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        return cls(**{**plain, **lists})


def usage(received: str, expected: str, advice: str) -> DataError:
    """Make the error for a wrong option."""
    return DataError("USAGE", received, expected, advice)


@dataclass(frozen=True)
class Preset:
    """A named set of options.

    Args:
        purpose: one phrase for `--help`.
        options: what differs from the defaults of `TrainOptions`.
    """

    purpose: str
    options: dict[str, Any] = field(default_factory=dict)


PRESETS = {
    "default": Preset("learns in minutes to hours on two cores or more"),
    "paper": Preset(
        "Zhang et al. 2019 to the letter: full-width FCN, plain SGD 0.001, 10^6 iterations, flips, Dice below 0.923",
        {
            "model": "fcn",
            "base_filters": 64,
            "iterations": 1_000_000,
            "learning_rate": 0.001,
            "momentum": 0.0,
            "rule": "below:0.923",
            "flips": ("none", "horizontal", "vertical"),
        },
    ),
}
