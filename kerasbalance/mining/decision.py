"""Which pixels are an organ's, given a model's output and a threshold: one rule for scores, masks and backends."""

from typing import Any

from kerasbalance.errors import explain

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The thresholds at which outputs are compared by default."""


def organ_mask(y_pred: Any, organ: int, threshold: float, winner: Any) -> Any:
    """Return the pixels that are predicted to be an organ's.

    One class: where the output is larger than the threshold. Several: where the organ is the most probable of the
    organs, and its share of what the organ and the background have together is larger than the threshold. The
    organs' thresholds thus do not influence each other, and at 0.5 the largest output wins.

    Args:
        y_pred: `(..., classes)`, NumPy or a tensor, any float type. Several classes hold the background first.
        organ: The number of the organ, from 1.
        threshold: Any number for one class, such as 0 for logits; between 0 and 1 for several.
        winner: `argmax(y_pred[..., 1:], axis=-1) + 1` where there are several classes; else not looked at.

    Returns:
        Bool `(...)`.

    Raises:
        ValueError: If there are several classes and the threshold is not between 0 and 1.
    """
    if y_pred.shape[-1] == 1:
        return y_pred[..., 0] > threshold
    if not 0 < threshold < 1:
        raise ValueError(
            explain(
                f"threshold={threshold} for {y_pred.shape[-1]} classes",
                "a share between 0 and 1 of organ and background together",
                "pass 0.5, at which the largest output wins",
            )
        )
    odds = threshold / (1 - threshold)
    return (winner == organ) & (y_pred[..., organ] > y_pred[..., 0] * odds)
