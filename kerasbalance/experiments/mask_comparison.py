"""Predicted masks against reference masks, in any two formats, on one grid."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.ct import open_ct
from kerasbalance.data.dicom.checks import check_allow
from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks import Mask, read_mask
from kerasbalance.data.masks.empty_volume import empty_volume
from kerasbalance.data.volume.geometry import Grid
from kerasbalance.data.volume.volume import Volume
from kerasbalance.evaluation.cases import (
    CaseMetrics,
    SliceMetrics,
    evaluate_case,
    evaluate_slices,
    keep_largest_component,
)
from kerasbalance.evaluation.surface import TOLERANCE_MM


@dataclass(frozen=True)
class CompareOptions:
    """How two masks are read and compared.

    Args:
        ct: folder or file of the CT, None to take the masks' own grid.
        series: number of the CT series in its folder, None where there is only one.
        rules: which values of the reference mean which organ; empty to recognise known names.
        prediction_rules: the same for the prediction; empty for the rules or the organs of the reference.
        png_order: how PNG stacks are ordered, see `masks.read_mask`.
        resample: map masks of another grid by position, nearest voxel.
        allow: relaxations by name, see `dicom.checks.RELAXATIONS`.
        keep_largest: organs of which only the largest connected part of the prediction is evaluated once more.
        tolerance_mm: what the normalised surface Dice forgives.
    """

    ct: Path | None = None
    series: int | None = None
    rules: tuple[OrganRule, ...] = ()
    prediction_rules: tuple[OrganRule, ...] = ()
    png_order: str | None = None
    resample: bool = False
    allow: frozenset[str] = frozenset()
    keep_largest: tuple[str, ...] = ()
    tolerance_mm: float = TOLERANCE_MM


@dataclass(frozen=True)
class Comparison:
    """What came out of it.

    Args:
        cases: metrics of each organ, in the order of the rules.
        cleaned: metrics of the organs of `keep_largest`, with the smaller parts removed.
        slices: rows of all slices, organ by organ; slices count from the feet.
        notes: what was tolerated: `"CT"`, `"reference"` or `"prediction"`, and the remark.
    """

    cases: tuple[CaseMetrics, ...]
    cleaned: tuple[CaseMetrics, ...]
    slices: tuple[SliceMetrics, ...]
    notes: tuple[tuple[str, Note], ...]


def compare_masks(prediction: Path, reference: Path, options: CompareOptions | None = None) -> Comparison:
    """Evaluate a prediction against a reference; no model and no store are needed.

    Distances and volumes come from the grid of the CT, else of the masks themselves (`masks.empty_volume`).
    Unevenly spaced slices, where they are allowed, count at their own positions; a gantry tilt, where it is
    allowed, is measured as if the slices stood straight on each other.

    Args:
        prediction: file or folder of a mask, any format that `masks.read_mask` takes.
        reference: another.
        options: how; None for all defaults.

    Raises:
        DataError: a mask or the CT is refused; or there is no CT, and a mask has no grid of its own or
            marks voxels beyond the other's grid (code `NEEDS_CT`).
    """
    options = options or CompareOptions()
    check_allow(options.allow)
    volume = _volume(prediction, reference, options)
    with _told_as("reference", options):
        theirs = _read(reference, volume, options.rules, options)
    rules = options.prediction_rules or options.rules or tuple(OrganRule(organ) for organ in theirs.organs)
    with _told_as("prediction", options):
        ours = _same_organs(_read(prediction, volume, rules, options), theirs.organs)
    _check_cleaning(options.keep_largest, theirs.organs)
    notes = [("CT", note) for note in volume.notes]
    notes += [(name, note) for name, m in (("reference", theirs), ("prediction", ours)) for note in m.notes]
    cases: list[CaseMetrics] = []
    cleaned: list[CaseMetrics] = []
    slices: list[SliceMetrics] = []
    for number, organ in enumerate(theirs.organs, 1):
        pair = ours.labels == number, theirs.labels == number
        cases.append(_evaluate(*pair, organ, volume.grid, options))
        slices += evaluate_slices(*pair, organ=organ)
        if organ in options.keep_largest:
            cleaned.append(_evaluate(keep_largest_component(pair[0]), pair[1], organ, volume.grid, options))
    return Comparison(tuple(cases), tuple(cleaned), tuple(slices), tuple(notes))


def _evaluate(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    organ: str,
    grid: Grid,
    options: CompareOptions,
) -> CaseMetrics:
    return evaluate_case(
        prediction,
        reference,
        grid.spacing_mm,
        organ=organ,
        tolerance_mm=options.tolerance_mm,
        depth_mm=None if grid.is_regular else grid.depth_mm,
    )


def _volume(prediction: Path, reference: Path, options: CompareOptions) -> Volume:
    if options.ct is None:
        return empty_volume(reference, prediction)
    return open_ct(options.ct, allow=options.allow, series=options.series).read()


def _read(path: Path, volume: Volume, rules: tuple[OrganRule, ...], options: CompareOptions) -> Mask:
    mask = read_mask(
        path,
        volume,
        rules,
        resample=options.resample,
        png_order=options.png_order,
        allow=options.allow,
    )
    if options.ct is None and any(note.code == "OUTSIDE" for note in mask.notes):
        raise DataError("NEEDS_CT", "labelled voxels beyond the grid of the other mask, and no CT",
                        "the CT of both, whose grid holds all of them", "name it with --ct",
                        path=path)  # fmt: skip
    return mask


@contextmanager
def _told_as(name: str, options: CompareOptions) -> Iterator[None]:
    """Say in an error which of the masks it is about, and not "the CT" where there is none."""
    try:
        yield
    except DataError as error:
        if error.code == "GEOMETRY" and options.ct is None:
            error = DataError("GEOMETRY", error.received, "the grid of the other mask",
                              "name the CT with --ct, or map one mask onto the other with --resample-mask",
                              path=error.path, where=error.where)  # fmt: skip
        raise error.at(where=name) from None


def _same_organs(mask: Mask, organs: tuple[str, ...]) -> Mask:
    """Number the organs of a prediction as the reference does."""
    if mask.organs == organs:
        return mask
    if set(mask.organs) != set(organs):
        raise DataError("LABEL_RULE", f"a prediction of {', '.join(mask.organs)} for a reference of "
                        f"{', '.join(organs)}", "the same organs", "name them alike with --label")  # fmt: skip
    table = np.array([0, *(organs.index(organ) + 1 for organ in mask.organs)], np.uint8)
    return replace(mask, labels=table[mask.labels], organs=organs)


def _check_cleaning(wanted: tuple[str, ...], organs: tuple[str, ...]) -> None:
    unknown = [organ for organ in wanted if organ not in organs]
    if unknown:
        raise DataError("USAGE", f"the organ {unknown[0]!r} for cleaning", f"one of {', '.join(organs)}",
                        "correct --keep-largest")  # fmt: skip
