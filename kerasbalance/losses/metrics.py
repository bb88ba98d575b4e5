"""Hard Dice as a Keras metric."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbalance.losses.channels import nan_unless, organ_channels, read_reference, slice_weights
from kerasbalance.losses.labels import SLACK, check_probabilities


@keras.saving.register_keras_serializable("kerasbalance")
class DiceScore(keras.metrics.Metric):  # type: ignore[misc]  # untyped
    """Dice of the thresholded prediction from pixel counts summed over all slices, averaged over the organs.

    Counts are summed before the division, so the value depends neither on the batch size nor on how many
    slices hold no organ (a mean over slices would be lifted by each of those), and for the slices of one case
    it is the case Dice. For one score per slice use `score_slices`.

    One channel is thresholded at a probability of 0.5, which itself counts as background. Of several channels
    the largest wins; among equals the choice is the backend's.

    The empty case: an organ absent from all masks and all predictions scores 1; one predicted anywhere
    although the masks hold none scores 0. The value before the first update is thus 1.

    Masks and predictions are refused as by `dice_loss`; in a compiled step they make the value NaN.

    Args:
        include_background: Whether channel 0 of several is averaged in. Without effect on one channel.
        from_logits: Whether predictions are logits: one channel is then thresholded at 0.
        ignore_label: The value in the masks of pixels that are not annotated; they are left out.
        name: Name of the metric.
        dtype: Type of the counts, float32 by default: a count is exact up to 2**24 pixels, and beyond keeps a
            relative error near 1e-7.

    Raises:
        ValueError: At an update, if the shapes of masks, predictions or weights, or the values of NumPy arrays
            do not fit.

    Example:
        >>> import numpy as np
        >>> metric = DiceScore()
        >>> metric.update_state(np.array([[[[1], [1]]]]), np.array([[[[0.9], [0.2]]]]))
        >>> round(float(metric.result()), 3)
        0.667
    """

    def __init__(
        self,
        *,
        include_background: bool = False,
        from_logits: bool = False,
        ignore_label: int | None = None,
        name: str = "dice_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.include_background = include_background
        self.from_logits = from_logits
        self.ignore_label = ignore_label
        self._overlap: Any = None
        self._total: Any = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the counts of a batch.

        Args:
            y_true: Labels or channels, as for `dice_loss`.
            y_pred: Prediction `(batch, height, width, channels)`.
            sample_weight: `(batch,)`, how many times each slice counts.
        """
        y_pred = self._tensor(y_pred)
        reference = read_reference(y_true, y_pred, self.ignore_label)
        sound = ops.logical_and(reference.sound, self._are_thresholdable(y_pred))
        y_true = organ_channels(reference.channels, self.include_background)
        y_pred = organ_channels(self._harden(y_pred), self.include_background)
        if self._total is None:
            self._add_counts(y_pred.shape[-1])
        # The reference is thresholded too, so that a soft mask and its hard form score alike.
        y_true = y_true > 0.5
        if reference.kept is not None:
            y_pred = ops.logical_and(y_pred, reference.kept > 0)
        spatial = tuple(range(1, len(y_pred.shape) - 1))
        weights = 1.0 if sample_weight is None else slice_weights(sample_weight, self.dtype)
        overlap, found, pred = (
            ops.sum(ops.cast(ops.sum(ops.cast(mask, "int32"), axis=spatial), self.dtype) * weights, axis=0)
            for mask in (ops.logical_and(y_true, y_pred), y_true, y_pred)
        )
        self._overlap.assign_add(overlap)
        self._total.assign_add(nan_unless(sound, found + pred))

    def result(self) -> Any:
        """Return the Dice of what was counted since the last reset, a scalar."""
        if self._total is None:
            return ops.ones((), dtype=self.dtype)
        overlap, total = ops.convert_to_tensor(self._overlap), ops.convert_to_tensor(self._total)
        empty = ops.equal(total, 0)
        dice = 2.0 * overlap / ops.where(empty, 1.0, total)
        return ops.mean(ops.where(empty, 1.0, dice))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this metric."""
        names = ("include_background", "from_logits", "ignore_label")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _tensor(self, y_pred: Any) -> Any:
        if isinstance(y_pred, np.ndarray) and y_pred.shape[-1] == 1 and not self.from_logits:
            check_probabilities(y_pred)
        return ops.convert_to_tensor(y_pred)

    def _are_thresholdable(self, y_pred: Any) -> Any:
        """Say whether 0.5 divides the values of one channel; of several channels the largest wins anyway."""
        if self.from_logits or y_pred.shape[-1] > 1:
            return True
        return ops.all(ops.logical_and(y_pred >= -SLACK, y_pred <= 1 + SLACK))

    def _harden(self, y_pred: Any) -> Any:
        if y_pred.shape[-1] == 1:
            return y_pred > (0.0 if self.from_logits else 0.5)
        winner = ops.argmax(y_pred, axis=-1, keepdims=True)
        return ops.equal(ops.cast(winner, "int32"), ops.arange(y_pred.shape[-1], dtype="int32"))

    def _add_counts(self, organs: int) -> None:
        self._overlap = self.add_weight(shape=(organs,), initializer="zeros", name="overlap")
        self._total = self.add_weight(shape=(organs,), initializer="zeros", name="total")
