"""What the core raises: each error is also a built-in one, and says received · expected · what to do."""

import signal
from collections.abc import Sequence
from pathlib import Path


def explain(received: str, expected: str, advice: str) -> str:
    """Return the text of an error in the package's one order: received, expected, what to do."""
    return f"received {received}; expected {expected}; {advice}"


class NonFiniteError(FloatingPointError):
    """The loss, the weights or the scores hold NaN or infinity.

    Args:
        message: the whole text.
        iteration: the first iteration at which it was seen; None where that cannot be known.
        refs: the slices of that iteration's batch, or the slices that are to blame.
    """

    def __init__(self, message: str, *, iteration: int | None = None, refs: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.iteration = iteration
        self.refs = tuple(int(ref) for ref in refs)


class CheckpointError(ValueError):
    """No checkpoint can be loaded, or it belongs to another run."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written, for instance because the disk is full; older ones are untouched."""


class CheckpointWarning(UserWarning):
    """A checkpoint was damaged and an older one was loaded in its place."""


class Interrupted(KeyboardInterrupt):
    """A signal stopped `fit`, after the running step and after a checkpoint.

    It is a `KeyboardInterrupt`, so that `except Exception` in the caller's code does not swallow it.

    Args:
        signal_number: the signal received, `signal.SIGINT` or `signal.SIGTERM`.
        iteration: steps done, and saved.
        checkpoint: the folder that resume will load.
    """

    def __init__(self, signal_number: int, iteration: int, checkpoint: Path) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(
            f"stopped by {name} after iteration {iteration}; the state is saved in {checkpoint}; "
            "call fit again with resume=True to go on"
        )
        self.signal_number = signal_number
        self.iteration = iteration
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.signal_number, self.iteration, self.checkpoint)

    @property
    def exit_code(self) -> int:
        """What a process should exit with: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal_number
