"""What a run started from, as `run.json` keeps it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Started:
    """What a run started from; part of `run.json`.

    Args:
        sha256: Of the file, or of the weights of the other run.
        taken: How many arrays of weights were taken over.
        left: The names of the network's arrays that start at random, since nothing of their name and shape was there.
    """

    sha256: str
    taken: int
    left: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Started":
        """Read what `to_json` returned."""
        return cls(**{**plain, "left": tuple(plain["left"])})
