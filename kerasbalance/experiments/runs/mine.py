"""A run's model on a pool of its cases: which slices are hard, and which of them have a suspicious mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kerasbalance as kb
from kerasbalance.backend.inference import slices_at_a_time
from kerasbalance.data.errors import DataError
from kerasbalance.data.store.source import NOT_ANNOTATED
from kerasbalance.experiments.runs.model import Segmenter, load_model
from kerasbalance.experiments.runs.operating_point import OperatingPoint
from kerasbalance.experiments.runs.rules import parse_rule
from kerasbalance.experiments.runs.slice_table import SliceTable
from kerasbalance.experiments.runs.suspects import Suspect
from kerasbalance.experiments.runs.suspicion import find_suspects
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
    scores = kb.score_slices(model, source, refs, size, ignore_label=NOT_ANNOTATED, progress=progress)
    rule = parse_rule(run.options.rule).make(run.case_slices)
    sampler = kb.HardSliceSampler(refs, refs, rule, flips=run.options.flips)
    reference = (
        kb.score_slices(model, source, rule.reference, size, ignore_label=NOT_ANNOTATED)
        if len(rule.reference)
        else None
    )
    result = sampler.update(scores, reference=reference, iteration=run.options.iterations)
    table = SliceTable.of(run.store, run.options.organs, result)
    segmenter = Segmenter(model, size, OperatingPoint.default(run.options.organs))  # as the scores
    suspects = find_suspects(run.store, source, run.options.organs, segmenter, table.ref[table.hard])
    return Mined(table, result.threshold, suspects, segmenter)
