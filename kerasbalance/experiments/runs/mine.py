"""A run's model on a pool of its cases: which slices are hard, and which of them have a suspicious mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import kerasbalance as kb
from kerasbalance.backend.inference import slices_at_a_time
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.rules import parse_rule
from kerasbalance.experiments.runs.segment import segment_refs
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.suspects import Suspect, find_signs, measure_tissue
from kerasbalance.experiments.runs.train import Run

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Mined:
    """What mining found.

    Args:
        table: all slices of the pool.
        threshold: the score under which slices are hard.
        suspects: hard slices whose mask may be wrong, the most suspicious first.
        segmenter: the model that was used.
    """

    table: SliceTable
    threshold: float
    suspects: tuple[Suspect, ...]
    segmenter: Segmenter


def mine_run(run: Run, parts: Sequence[str] = ("A",), progress: Progress = lambda done, total: None) -> Mined:
    """Score the slices of some parts with a run's model, apply the run's rule, look at the hard ones' masks.

    Nothing is written and the run is left as it is.

    Args:
        run: the run, opened with its store.
        parts: of the split: "A", "B", "validation", "test".
        progress: called with (slices scored, slices in all).

    Raises:
        DataError: the parts are empty, or the run has no sound checkpoint (codes `SPLIT`, `CHECKPOINT`).
    """
    refs = run.refs(*parts)
    if not len(refs):
        raise DataError("SPLIT", f"no cases in part {' or '.join(parts)}", "a part of the run that has cases",
                        "choose another --part; the run's split.csv lists them")  # fmt: skip
    source = run.source()
    model = load_model(run.options, source.plane, run.folder.path / "checkpoint")
    size = slices_at_a_time(model, run.options.batch_size)
    scores = kb.score_slices(model, source, refs, size, progress=progress)
    rule = parse_rule(run.options.rule).make(run.case_slices)
    sampler = kb.HardSliceSampler(refs, refs, rule, flips=run.options.flips)
    reference = kb.score_slices(model, source, rule.reference, size) if len(rule.reference) else None
    result = sampler.update(scores, reference=reference, iteration=run.options.iterations)
    table = SliceTable.of(run.store, run.options.organs, result)
    segmenter = Segmenter(model, size, OperatingPoint.default(run.options.organs))  # as the scores
    return Mined(table, result.threshold, find_suspects(run, segmenter, table), segmenter)


def find_suspects(run: Run, segmenter: Segmenter, table: SliceTable) -> tuple[Suspect, ...]:
    """Look at the masks of the hard slices of a table, case by case; see `suspects` for the signs."""
    found: list[Suspect] = []
    for key in dict.fromkeys(table.case[table.hard].tolist()):
        rows = np.flatnonzero(table.hard & (table.case == key))
        found += _case_suspects(run, segmenter, key, table.ref[rows])
    return tuple(sorted(found, key=lambda one: (-one.score, one.case, one.slice, one.organ)))


def _case_suspects(run: Run, segmenter: Segmenter, key: str, hard: NDArray[np.int64]) -> list[Suspect]:
    source = run.source()
    number = int(run.store.case_of(hard[:1])[0])
    refs = run.store.refs(run.options.organs, [number])
    x, y = source.source.read(refs)
    predicted, _ = segment_refs(segmenter, source, hard)
    found = []
    for value, organ in enumerate(run.options.organs, 1):
        mask = y[..., 0] == value
        tissue = measure_tissue(source.source.middle(x), mask)
        for row, place in enumerate((hard - refs[0]).tolist()):
            signs = find_signs(place, mask, predicted[row] == value, tissue)
            if signs:
                pixels, text = int(np.count_nonzero(mask[place])), "; ".join(sign.text for sign in signs)
                found.append(Suspect(key, place, organ, signs[0].reason, signs[0].score, pixels, text))
    return found
