"""Which epoch's weights a run keeps, and when it stops early: decided by `val_dice`, from the mining on."""

from dataclasses import asdict, dataclass
from typing import Any

from kerasbalance.experiments.runs.options import TrainOptions

SCORE = "val_dice"


@dataclass(frozen=True)
class Kept:
    """The epoch whose weights a finished run holds.

    Args:
        epoch: Its number, from 0.
        epochs: Epochs that were trained.
        val_dice: The mean case Dice of the validation cases at its end.
        why: The reason, in a few words.
        stopped_early: Whether the training ended before its last iteration.
    """

    epoch: int
    epochs: int
    val_dice: float
    why: str
    stopped_early: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def text(self) -> str:
        """Return a sentence for people, who count epochs from 1."""
        end = ", stopped early" if self.stopped_early else ""
        return (
            f"weights of epoch {self.epoch + 1} of {self.epochs}{end}: {self.why}; mean Dice of the validation "
            f"cases {self.val_dice:.4f}"
        )


def first_epoch(options: TrainOptions) -> int:
    """Return the first epoch that may be kept, and at which patience begins: the first that ends after a mining."""
    return options.mine_iterations[0] // options.epoch_iterations if options.mining else 0


def make_stopping(options: TrainOptions) -> list[Any]:
    """Return the callback that keeps the best weights or stops early; none where neither is asked for."""
    if options.keep == "last" and options.patience is None:
        return []
    import keras  # `run.json` is read before a backend is chosen

    return [
        keras.callbacks.EarlyStopping(
            SCORE,
            mode="max",
            patience=options.patience or options.iterations,
            restore_best_weights=options.keep == "best",
            start_from_epoch=first_epoch(options),
        )
    ]


def kept_epoch(options: TrainOptions, epochs: list[int], history: dict[str, list[float]]) -> Kept | None:
    """Return which epoch's weights a finished run holds; None without validation cases.

    Args:
        options: The run's.
        epochs: The epochs that were trained, as Keras' `History` has them.
        history: Their logs.
    """
    scores = history.get(SCORE)
    if not scores:
        return None
    scored = dict(zip(epochs[-len(scores) :], scores, strict=True))  # version 0.1 began without this score
    last = epochs[-1]
    early = (last + 1) * options.epoch_iterations < options.iterations
    if options.keep == "last":
        return Kept(last, last + 1, scored[last], "the last one", early)
    first = first_epoch(options)
    best = max((epoch for epoch in scored if epoch >= first), key=lambda epoch: (scored[epoch], -epoch))
    return Kept(best, last + 1, scored[best], "the best since the mining" if first else "the best", early)
