"""Hard slices whose mask looks wrong: a list to look at, never a verdict.

A slice is hard because the model errs on it or because its mask is wrong. Three signs are evidence against the mask,
each for one organ of one slice. The numbers were set on the phantom with errors planted into its masks and hold for
slices up to about 10 mm apart.

- `jump`: the masks of both neighbours agree with each other better than either does with this slice's. Anatomy
  changes steadily, so a slice should lie between its neighbours. A mask that is missing on one slice is the
  plainest case.
- `prediction`: the model's prediction on this slice agrees with the neighbours' masks, and this slice's mask does
  not. Finds what `jump` cannot: an error on the first or last slices of an organ, or on two slices in a row.
- `isolated`: a mask where neither the neighbours nor the prediction show the organ.

Hounsfield units alone are no evidence: a lesion inside an organ has another median and another spread than the rest
of the organ, and its mask is right. Where the median HU inside the mask lies far from that of the case's other slices,
or the HU spread much wider than theirs, `jump` and `prediction` count from half of their thresholds on, and the HU
are named beside them.

Not found: errors that many slices in a row share (ingest checks whole cases, see `organ_check`), a shift of a
pixel or two, and errors on slices that the model did not find hard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.ingest.organ_check import MAX_IQR_HU
from kerasbalance.experiments.tabular import to_csv
from kerasbalance.mining.counts import dice_from_counts

Mask = NDArray[np.bool_]

JUMP = 0.15
"""By how much the neighbours' Dice with each other exceeds that with the slice between them."""
AGREEMENT = 0.35
"""By how much the prediction's Dice with the neighbours' masks exceeds that of the slice's own mask."""
HU_SUPPORT = 0.5
"""The share of their thresholds from which `jump` and `prediction` count where the HU deviate as well."""
HU_SHIFT, HU_DEVIATIONS = 30.0, 5.0
"""HU between a slice's median and the case's; at least so many robust deviations of the case's slices as well."""
SPREAD_FACTOR = 2.0
"""How often the interquartile range of a slice exceeds the median one of the case; at least `MAX_IQR_HU`."""
MIN_PIXELS, MIN_SLICES = 20, 5
"""HU of a smaller mask are mostly border; the statistics of fewer slices say nothing."""

COLUMNS = ("case", "slice", "organ", "reason", "score", "pixels", "text")


@dataclass(frozen=True)
class Suspect:
    """One organ on one slice whose mask may be wrong.

    Args:
        case: the case's key.
        slice: place in the case, from 0, as in `slices.csv`.
        organ: whose mask it is.
        reason: the strongest evidence: "jump", "prediction" or "isolated".
        score: how far beyond the evidence's threshold, 1 at the threshold; the list is sorted by it.
        pixels: size of the mask.
        text: all the evidence in words, deviating HU last.
    """

    case: str
    slice: int
    organ: str
    reason: str
    score: float
    pixels: int
    text: str


@dataclass(frozen=True)
class Sign:
    """One sign that speaks against a mask; see `Suspect`."""

    reason: str
    score: float
    text: str


@dataclass(frozen=True, eq=False)
class Tissue:
    """HU inside an organ's mask, slice by slice; NaN where fewer than `MIN_PIXELS` pixels are left to measure.

    Args:
        median: float64 `(slices,)`.
        iqr: float64 `(slices,)`, interquartile range.
    """

    median: NDArray[np.float64]
    iqr: NDArray[np.float64]


def measure_tissue(hu: NDArray[np.int16], mask: Mask) -> Tissue:
    """Measure the HU inside a mask, slice by slice, without its outermost pixels: those hold other tissue too.

    Args:
        hu: int16 `(slices, rows, columns)`.
        mask: bool of the same shape.
    """
    from scipy import ndimage

    median, iqr = np.full(len(mask), np.nan), np.full(len(mask), np.nan)
    for number in np.flatnonzero(mask.sum(axis=(1, 2)) >= MIN_PIXELS):
        inside = ndimage.binary_erosion(mask[number])
        if np.count_nonzero(inside) < MIN_PIXELS:
            continue
        q1, median[number], q3 = np.percentile(hu[number][inside], (25, 50, 75))
        iqr[number] = q3 - q1
    return Tissue(median, iqr)


def find_signs(number: int, mask: Mask, predicted: Mask, tissue: Tissue) -> tuple[Sign, ...]:
    """Look for signs that the mask of one slice is wrong.

    Args:
        number: the slice.
        mask: bool `(slices, rows, columns)`, the organ in the whole case.
        predicted: bool `(rows, columns)`, the model's prediction on the slice.
        tissue: of the whole case.

    Returns:
        The signs found, the strongest first and those of the HU last; nothing where only the HU deviate.
    """
    deviating = sorted(_tissue_signs(number, tissue), key=lambda sign: -sign.score)
    least = HU_SUPPORT if deviating else 1.0
    shapes = [
        replace(sign, score=sign.score / least)
        for sign in _shape_signs(number, mask, predicted)
        if sign.score >= least
    ]
    return (*sorted(shapes, key=lambda sign: -sign.score), *deviating) if shapes else ()


def _shape_signs(number: int, mask: Mask, predicted: Mask) -> Iterator[Sign]:
    """Yield what the masks around and the prediction say, also where it lies under the threshold (score below 1)."""
    own = mask[number]
    neighbours = [mask[n] for n in (number - 1, number + 1) if 0 <= n < len(mask)]
    shown = [neighbour for neighbour in neighbours if neighbour.any()]
    if len(neighbours) == 2 and len(shown) == 2:
        around, alike = _dice(*shown), max(_dice(own, neighbour) for neighbour in shown)
        if around > alike:
            text = f"Dice {around:.2f} between the neighbours, at most {alike:.2f} with them"
            yield Sign("jump", (around - alike) / JUMP, text)
    if not own.any() and not shown:
        return
    if own.any() and not shown:
        if not predicted.any():
            yield Sign("isolated", 1.0, "neither the neighbours nor the prediction show the organ")
        return
    told = float(np.mean([_dice(predicted, neighbour) for neighbour in shown]))
    marked = float(np.mean([_dice(own, neighbour) for neighbour in shown]))
    if told > marked:
        text = f"the neighbours agree with the prediction (Dice {told:.2f}), not with the mask ({marked:.2f})"
        yield Sign("prediction", (told - marked) / AGREEMENT, text)


def _tissue_signs(number: int, tissue: Tissue) -> Iterator[Sign]:
    others = np.delete(tissue.median, number)
    others, spreads = others[~np.isnan(others)], np.delete(tissue.iqr, number)
    if np.isnan(tissue.median[number]) or len(others) < MIN_SLICES:
        return
    usual, usual_iqr = float(np.median(others)), float(np.nanmedian(spreads))
    deviation = 1.4826 * float(np.median(np.abs(others - usual)))  # of a normal distribution
    limit = max(HU_SHIFT, HU_DEVIATIONS * deviation)
    shift, iqr = abs(float(tissue.median[number]) - usual), float(tissue.iqr[number])
    widest = max(MAX_IQR_HU, SPREAD_FACTOR * usual_iqr)
    if shift > limit:
        yield Sign(
            "hu", shift / limit, f"median {tissue.median[number]:.0f} HU, {usual:.0f} HU in the other slices"
        )
    if iqr > widest:
        text = f"interquartile range {iqr:.0f} HU, {usual_iqr:.0f} HU in the other slices"
        yield Sign("hu", iqr / widest, text)


def _dice(first: Mask, second: Mask) -> float:
    counts = [int(np.count_nonzero(mask)) for mask in (first & second, first, second)]
    return float(dice_from_counts(np.array(counts)))


def suspects_csv(suspects: Sequence[Suspect]) -> bytes:
    """Return the list as CSV with the heading `case,slice,organ,reason,score,pixels,text`."""
    return to_csv(
        COLUMNS,
        [
            (one.case, one.slice, one.organ, one.reason, f"{one.score:.3f}", one.pixels, one.text)
            for one in suspects
        ],
    )
