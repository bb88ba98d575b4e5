"""Validation as the user means it: whole cases, all their slices, the same ones at each epoch."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from kerasbalance.batches.index import as_refs
from kerasbalance.batches.source import Source
from kerasbalance.errors import explain
from kerasbalance.evaluation.thresholds import mean_case_dice
from kerasbalance.mining.decision import THRESHOLDS
from kerasbalance.mining.scoring import score_at_thresholds


class Validation(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """Scores validation cases at the end of each epoch and adds `val_dice` to the epoch's logs.

    `val_dice` is the mean case Dice at the threshold at which it is best: every slice is read once, in the same
    order at each epoch, and none is left out. With several organs it is the mean over the organs, each at its own
    threshold. A case that shows an organ in neither mask is excluded from that organ's mean.

    `EarlyStopping(monitor="val_dice", mode="max")`, `ModelCheckpoint` and the like can use it. In `model.fit` put
    this callback before them in the list; `kerasbalance.fit` does so by itself.

    Args:
        source: Where images and masks are read from.
        refs: `(slices,)`, rows of the source; at least one.
        cases: `(slices,)`, the case of each of them: any values that can be sorted.
        batch_size: Slices a step; see `score_slices`.
        thresholds: See `score_at_thresholds`.

    Raises:
        ValueError: If there is no slice, or `cases` has another length; in `fit`, if no case shows any organ.

    Example:
        >>> import numpy as np, kerasbalance as kb
        >>> source = kb.ArraySource(np.zeros((6, 16, 16, 1), np.int16), np.ones((6, 16, 16), np.uint8))
        >>> dataset = kb.IndexedDataset(source, kb.Index(range(2)), batch_size=2, steps_per_epoch=2)
        >>> model = kb.models.unet((16, 16, 1), base_filters=1)
        >>> model.compile("sgd", kb.DiceLoss())
        >>> validation = kb.Validation(source, range(2, 6), cases=[0, 0, 1, 1])
        >>> history = kb.fit(model, dataset, 4, callbacks=[validation], verbose=0)
        >>> len(history.history["val_dice"])
        2
    """

    def __init__(
        self,
        source: Source,
        refs: ArrayLike,
        cases: ArrayLike,
        *,
        batch_size: int = 16,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> None:
        super().__init__()
        self.source, self.refs, self.cases = source, as_refs(refs, "refs"), np.asarray(cases)
        self.batch_size, self.thresholds = batch_size, tuple(thresholds)
        if not len(self.refs) or self.cases.shape != self.refs.shape:
            raise ValueError(
                explain(
                    f"{len(self.refs)} refs and cases of shape {self.cases.shape}",
                    "at least one slice, and one case for each",
                    "pass the case of every slice",
                )
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Score all slices and add the result to the logs, which the callbacks behind this one receive too."""
        scores = score_at_thresholds(
            self.model, self.source, self.refs, self.batch_size, thresholds=self.thresholds
        )
        shown = scores.counts[0, ..., 2].sum(axis=0) > 0
        if not shown.any():
            raise ValueError(
                explain(
                    "validation cases whose masks are all empty",
                    "at least one that shows an organ",
                    "validate on other cases",
                )
            )
        best = mean_case_dice(scores, self.cases)[:, shown].max(axis=0)
        if logs is not None:
            logs["val_dice"] = float(best.mean())
