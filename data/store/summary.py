"""What a store holds, in figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasbalance.data.store.facts import CaseFacts, spelled_twice

SPREAD = 0.1
"""Pixel spacings that differ by more than this share are worth one pixel size."""


@dataclass(frozen=True)
class StoredOrgan:
    """One organ over the cases that annotate it.

    Args:
        organ: Its name.
        cases: Cases that annotate it.
        slices: Their slices.
        positive_slices: Those with at least one pixel of it.
        hu_median: Smallest, median and largest of the cases' median HU; empty where no case has a pixel.
    """

    organ: str
    cases: int
    slices: int
    positive_slices: int
    hu_median: tuple[float, ...]

    @property
    def positive_share(self) -> float:
        """Share of slices with the organ, 0 where there are no slices."""
        return self.positive_slices / self.slices if self.slices else 0.0


@dataclass(frozen=True)
class StoreSummary:
    """A store in figures; see `summarise`.

    Args:
        cases: Number of cases.
        patients: Number of patients.
        slices: Number of slices.
        sizes: Cases by "rows x columns".
        slice_spacing_mm: Smallest, median and largest distance of slices; empty without cases.
        pixel_spacing_mm: The same of rows; empty without cases.
        suggested_spacing_mm: For `ingest --spacing`, the median of the pixel spacings, where they differ by more than
            `SPREAD`; None where they do not, or all cases were brought to one pixel size.
        hu_percentiles: Medians over the cases of the 0.5, 50 and 99.5 percentile; empty without cases.
        organs: The organs, by name.
        warnings: What a user should read: pairs of a case's key (first eight digits) and a sentence.
    """

    cases: int
    patients: int
    slices: int
    sizes: dict[str, int]
    slice_spacing_mm: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...]
    suggested_spacing_mm: float | None
    hu_percentiles: tuple[float, ...]
    organs: tuple[StoredOrgan, ...]
    warnings: tuple[tuple[str, str], ...]


def summarise(cases: Sequence[CaseFacts]) -> StoreSummary:
    """Put a store in figures; an empty one gives zeros and empty tuples."""
    names = sorted({organ for case in cases for organ in case.organs})
    warnings = [(case.key[:8], f"{note.code}: {note.text}") for case in cases for note in case.warnings]
    doubled = spelled_twice(cases)
    if doubled:
        text = f"PATIENT_SPELLING: {doubled} patients have identifiers of more than one spelling; counted as one each"
        warnings.append(("", text))
    sizes = Counter(f"{case.rows} x {case.columns}" for case in cases)
    one_pixel_size = len({case.resampled_mm or case.key for case in cases}) == 1
    if len(sizes) > 1 and not one_pixel_size:
        text = f"SIZES: slices of {len(sizes)} sizes; training needs one, see ingest --spacing, --resize and --crop"
        warnings.append(("", text))
    return StoreSummary(
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        slices=sum(case.slices for case in cases),
        sizes=dict(sizes.most_common()),
        slice_spacing_mm=_range([case.spacing_mm[0] for case in cases if case.spacing_mm[0] is not None]),
        pixel_spacing_mm=_range([case.spacing_mm[1] for case in cases]),
        suggested_spacing_mm=_suggested(cases),
        hu_percentiles=tuple(np.median([case.hu_percentiles for case in cases], axis=0).tolist())
        if cases
        else (),
        organs=tuple(_organ(name, cases) for name in names),
        warnings=tuple(warnings),
    )


def _suggested(cases: Sequence[CaseFacts]) -> float | None:
    pixels = [side for case in cases for side in case.spacing_mm[1:]]
    if not pixels or max(pixels) <= (1 + SPREAD) * min(pixels):
        return None
    return round(float(np.median(pixels)), 2)


def _organ(name: str, cases: Sequence[CaseFacts]) -> StoredOrgan:
    own = [case for case in cases if name in case.organs]
    places = [case.organs.index(name) for case in own]
    medians = [case.organ_hu[at][1] for case, at in zip(own, places, strict=True) if case.organ_hu[at]]
    positive = sum(case.positive_slices[at] for case, at in zip(own, places, strict=True))
    return StoredOrgan(name, len(own), sum(case.slices for case in own), positive, _range(medians))


def _range(values: Sequence[float]) -> tuple[float, ...]:
    return (min(values), float(np.median(values)), max(values)) if values else ()
