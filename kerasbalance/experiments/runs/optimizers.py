"""What makes the steps of a run: one entry an optimizer, with its rates. A new one is one entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasbalance.experiments.runs.options import TrainOptions


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Args:
        name: The word for it in options and files.
        make: Makes the Keras optimizer from its schedule of rates and the momentum.
        rates: Learning rate by network, from which each learns from scratch.
        own_rate: Learning rate for a network of the user's own.
        help: A sentence for `--help`.
    """

    name: str
    make: Callable[[Any, float], Any]
    rates: dict[str, float]
    own_rate: float
    help: str


def _sgd(rate: Any, momentum: float) -> Any:
    import keras

    return keras.optimizers.SGD(rate, momentum=momentum)


def _adamw(rate: Any, momentum: float) -> Any:
    import keras

    return keras.optimizers.AdamW(rate, beta_1=momentum)


# FCN-8s, which has no batch normalisation, does not survive the U-Net's rates.
OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", _sgd, {"unet": 0.1, "fcn": 0.003}, 0.01, "Stochastic gradient descent with momentum."),
        Optimizer("adamw", _adamw, {"unet": 0.003, "fcn": 0.001}, 0.001,
                  "Adam with decoupled weight decay, as Keras sets it."),
    )
}  # fmt: skip


def default_rate(optimizer: str, model: str) -> float:
    """Return the learning rate of a network where none is given; 0 for an optimizer that is not in the table."""
    entry = OPTIMIZERS.get(optimizer)
    return 0.0 if entry is None else entry.rates.get(model, entry.own_rate)


def make_optimizer(options: "TrainOptions") -> Any:
    """Return the Keras optimizer of a run, whose learning rate decays polynomially to 0."""
    from kerasbalance.losses.schedules import PolyDecay

    rate = PolyDecay(options.learning_rate, options.iterations, power=options.power)
    return OPTIMIZERS[options.optimizer].make(rate, options.momentum)
