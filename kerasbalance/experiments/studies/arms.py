"""The arms of a study: what is trained on, and what the scores of the slices lead to."""

import re
from dataclasses import dataclass

from kerasbalance.experiments.runs.options import usage

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
    """

    name: str
    ratio: float
    strategy: str
    loss: str
    meaning: str

    @property
    def trunk(self) -> tuple[float, str]:
        """Arms of equal trunk are one training up to the moment of mining."""
        return self.ratio, self.loss


NAMED = {
    arm.name: arm
    for arm in (
        Arm("all", 1.0, "none", "dice", "all training cases"),
        Arm(
            "mined",
            PAPER_RATIO,
            "mined",
            "dice",
            "half of the cases, then the hard slices of the rest (the paper)",
        ),
        Arm("random", PAPER_RATIO, "random", "dice", "half, then as many random slices of the rest"),
        Arm("add-all", PAPER_RATIO, "add-all", "dice", "half, then all slices of the rest"),
        Arm("mined-all", 1.0, "mined-all", "dice", "all cases, then the hard slices once more"),
        Arm("weighted", 1.0, "weighted", "dice", "all cases, then drawn by 1 - score"),
        Arm("focal", 1.0, "none", "dice+focal", "all cases, Dice and focal loss"),
        Arm("topk", 1.0, "none", "dice+topk", "all cases, Dice and the hardest tenth of the pixels"),
    )
}
DEFAULT = ("all", "0.8", "0.5", "0.3", "0.2", "mined", "random")
BASELINES = ("all", "0.5", "random")
"""What the other arms are compared with, where the study has them."""


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
