"""A run's validation cases: checked before the training, scored after each of its epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import kerasbalance as kb
from kerasbalance.backend.inference import slices_at_a_time
from kerasbalance.batches.source import Source
from kerasbalance.data.errors import DataError
from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.parts import VALIDATION
from kerasbalance.experiments.runs.split import SplitRow


def check_validation_cases(store: SliceStore, rows: Sequence[SplitRow], organs: Sequence[str]) -> None:
    """Refuse validation cases none of which shows an organ: nothing could be chosen on them.

    Raises:
        DataError: If there are validation cases and an organ is in none of them (code `SPLIT`).
    """
    keys = {row.case for row in rows if row.part == VALIDATION}
    cases = [case for case in store.cases if case.key in keys]
    for organ in organs:
        own = [case for case in cases if organ in case.organs]
        if cases and not any(case.positive_slices[case.organs.index(organ)] for case in own):
            raise DataError("SPLIT", f"{len(cases)} validation cases without a slice that shows {organ}",
                            "at least one that shows it",
                            "pass another --seed or a larger --validation-share")  # fmt: skip


def make_validation(
    store: SliceStore, source: Source, refs: np.ndarray, model: Any, batch_size: int
) -> list[Any]:
    """Return the callback that scores the validation cases after each epoch; none without such cases.

    Args:
        store: The run's cases.
        source: Images and labels, padded to what the network takes.
        refs: Int64 `(slices,)`, the slices of the validation cases.
        model: The model in training, which decides how many slices fit into memory at a time.
        batch_size: Slices a step at most.
    """
    if not len(refs):
        return []
    size = slices_at_a_time(model, batch_size)
    return [kb.Validation(source, refs, store.case_of(refs), batch_size=size)]
