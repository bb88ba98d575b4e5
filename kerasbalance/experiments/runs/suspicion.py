"""Looks for masks that may be wrong among some slices of a store, with a model's predictions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.store import SliceStore
from kerasbalance.experiments.runs.model import Segmenter
from kerasbalance.experiments.runs.planes import PaddedSource
from kerasbalance.experiments.runs.segment import segment_refs
from kerasbalance.experiments.runs.suspects import Suspect, find_signs, measure_tissue

Refs = NDArray[np.int64]


def find_suspects(
    store: SliceStore, source: PaddedSource, organs: Sequence[str], segmenter: Segmenter, refs: Refs
) -> tuple[Suspect, ...]:
    """Look at the masks of some slices, case by case; see `suspects` for the signs.

    Args:
        store: the cases.
        source: the source of the organs, over the same store.
        organs: whose masks are looked at.
        segmenter: the model.
        refs: int64 `(n,)`; none gives no suspects.

    Returns:
        What speaks against a mask, the most suspicious first.
    """
    found: list[Suspect] = []
    numbers = store.case_of(refs)
    for number in np.unique(numbers):
        found += _case_suspects(store, source, organs, segmenter, int(number), refs[numbers == number])
    return tuple(sorted(found, key=lambda one: (-one.score, one.case, one.slice, one.organ)))


def are_suspicious(
    store: SliceStore, source: PaddedSource, organs: Sequence[str], segmenter: Segmenter, refs: Refs
) -> NDArray[np.bool_]:
    """Say of each slice whether `find_suspects` lists it, bool `(n,)`; arguments as there."""
    listed = {(one.case, one.slice) for one in find_suspects(store, source, organs, segmenter, refs)}
    numbers = store.case_of(refs)
    pairs = zip(numbers.tolist(), (refs - store.first_ref[numbers]).tolist(), strict=True)
    return np.array([(store.cases[number].key, place) in listed for number, place in pairs], bool)


def _case_suspects(
    store: SliceStore,
    source: PaddedSource,
    organs: Sequence[str],
    segmenter: Segmenter,
    number: int,
    hard: Refs,
) -> list[Suspect]:
    refs = store.case_refs(number)
    x, y = source.source.read(refs)
    predicted, _ = segment_refs(segmenter, source, hard)
    found = []
    for value, organ in enumerate(organs, 1):
        if organ not in store.cases[number].organs:
            continue
        mask = y[..., 0] == value
        tissue = measure_tissue(source.source.middle(x), mask)
        for row, place in enumerate((hard - refs[0]).tolist()):
            signs = find_signs(place, mask, predicted[row] == value, tissue)
            if signs:
                pixels, text = int(np.count_nonzero(mask[place])), "; ".join(sign.text for sign in signs)
                key = store.cases[number].key
                found.append(Suspect(key, place, organ, signs[0].reason, signs[0].score, pixels, text))
    return found
