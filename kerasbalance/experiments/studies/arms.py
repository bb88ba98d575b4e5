"""The arms of a study: what is trained on, and what the scores of the slices lead to."""

import re
from dataclasses import dataclass

from kerasbalance.experiments.runs.augmentations import STRENGTHS
from kerasbalance.experiments.runs.losses import LOSSES
from kerasbalance.experiments.runs.options import usage
from kerasbalance.experiments.runs.strategies import STRATEGIES, Strategy

PAPER_RATIO = 0.5


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        name: as it is asked for.
        ratio: the share of the training cases that is part B.
        strategy: see `TrainOptions`.
        loss: see `TrainOptions`.
        meaning: a phrase for tables.
        controls: arms with which it is compared, where the study has them. Every comparison more makes the others
            harder to show.
        augment: see `TrainOptions`.
    """

    name: str
    ratio: float
    strategy: str
    loss: str
    meaning: str
    controls: tuple[str, ...] = ("all",)
    augment: str = "none"

    @property
    def trunk(self) -> tuple[float, str, str]:
        """Arms of equal trunk are one training up to the moment of mining."""
        return self.ratio, self.loss, self.augment

    @property
    def is_plain(self) -> bool:
        """Whether it trains on a share of the cases and does nothing else."""
        return (self.strategy, self.loss, self.augment) == ("none", "dice", "none")


def _arm_of(strategy: Strategy) -> Arm:
    ratio, control = (PAPER_RATIO, "random") if strategy.needs_part_a else (1.0, "random-on-top")
    half = (f"{PAPER_RATIO:g}",) if strategy.needs_part_a else ()
    controls = ("all", *half, *((control,) if strategy.name != control else ()))
    return Arm(strategy.name, ratio, strategy.name, "dice", strategy.arm, controls)


NAMED = {
    arm.name: arm
    for arm in (
        Arm("all", 1.0, "none", "dice", STRATEGIES["none"].arm, ()),
        *(_arm_of(strategy) for strategy in STRATEGIES.values() if strategy.name != "none"),
        *(Arm(loss.arm, 1.0, "none", loss.name, loss.meaning) for loss in LOSSES.values() if loss.arm),
        Arm(
            "guarded", 1.0, "mined-all", "dice+slice",
            "all cases, a fifth of the loss by slice, then the hard slices once more",
            ("all", "dice+slice", "random-on-top"),
        ),
        *(
            Arm(strength.arm, 1.0, "none", "dice", strength.meaning, augment=strength.name)
            for strength in STRENGTHS.values()
            if strength.arm
        ),
    )
}  # fmt: skip
DEFAULT = ("all", "0.8", "0.5", "0.3", "0.2", "mined", "random")


def parse_arm(name: str) -> Arm:
    """Return the arm of a name, or of a selection ratio such as "0.3".

    Raises:
        DataError: there is no such arm (code `USAGE`).
    """
    if name in NAMED:
        return NAMED[name]
    if re.fullmatch(r"0?\.\d{1,3}", name) and float(name) > 0:
        return Arm(f"{float(name):g}", float(name), "none", "dice", f"{100 * float(name):g} % of the cases")
    raise usage(f"the arm {name!r}", f"{', '.join(NAMED)}, or a selection ratio between 0 and 1",
                "correct --arms")  # fmt: skip
