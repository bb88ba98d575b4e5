"""The cases of `quality.py`: synthetic CT as NIfTI, in the folder layout that nnU-Net and `ingest` both read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from kerasbalance.data.phantom.case import PhantomCase, case_patient, make_case
from kerasbalance.data.phantom.cohort import plan_cases

DATASET = "Dataset900_Phantom"
UNSEEN = ("unseen-images", "unseen-masks")
"""Folders of the cases that nobody trains on; beside the data set, where no reader looks for cases."""
PIXEL_MM = 6.0
"""The one pixel size; a case then has about 64 pixels a side."""
SIDES = (48, 64, 80, 96)
"""Pixels a side where sizes are mixed."""
TEST_SEED = 9_000
"""Test cases are drawn from this seed, training cases from small ones."""


@dataclass(frozen=True)
class Regime:
    """A kind of training set.

    Args:
        cases: Training cases.
        mixed: Whether pixel sizes and scanners differ from case to case.
        words: What stands in the table.
    """

    cases: int
    mixed: bool
    words: str


REGIMES = {
    "one": Regime(60, False, "60 cases of one pixel size"),
    "few": Regime(8, False, "8 cases of one pixel size"),
    "mixed": Regime(60, True, "60 cases of mixed pixel sizes and scanners"),
}


def write_cases(folder: Path, regime: Regime, seed: int, test_cases: int) -> Path:
    """Write training and test cases, unless they are there; return the data set's folder.

    Args:
        folder: Where the data set goes, as `folder/Dataset900_Phantom/imagesTr` and so on.
        regime: How many, and how much they differ.
        seed: Of the training cases.
        test_cases: How many unseen cases; they are the same for every seed.
    """
    dataset = folder / DATASET
    if (dataset / "dataset.json").exists():
        return dataset
    training, unseen = (dataset / "imagesTr", dataset / "labelsTr"), (folder / UNSEEN[0], folder / UNSEEN[1])
    for places, count, number in ((training, regime.cases, seed), (unseen, test_cases, TEST_SEED)):
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        for n, case in enumerate(_make(count, number, regime.mixed)):
            affine = np.diag([-case.spacing_mm[2], -case.spacing_mm[1], case.spacing_mm[0], 1.0])
            _save(case.hu, affine, places[0] / f"case_{n:03}_0000.nii.gz")
            _save(case.mask("liver").astype(np.uint8), affine, places[1] / f"case_{n:03}.nii.gz")
    facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": regime.cases,
             "file_ending": ".nii.gz"}  # fmt: skip
    (dataset / "dataset.json").write_text(json.dumps(facts))
    return dataset


def _make(count: int, seed: int, mixed: bool) -> Iterator[PhantomCase]:
    rng = np.random.default_rng((seed, 77))
    for planned in plan_cases(count, 64, seed):
        field = case_patient(planned.key, planned.kinds).field_of_view
        side = int(rng.choice(SIDES)) if mixed else round(field / PIXEL_MM)
        case = make_case(planned.key, side, planned.kinds)
        yield _scanned(case, rng) if mixed else case


def _scanned(case: PhantomCase, rng: np.random.Generator) -> PhantomCase:
    """Return the case as another scanner would show it: its kernel, noise, scale and offset of HU."""
    hu = ndimage.gaussian_filter(case.hu.astype(np.float32), (0, *[rng.uniform(0, 0.8)] * 2))
    hu = hu * rng.uniform(0.95, 1.05) + rng.uniform(-15, 15) + rng.normal(0, rng.uniform(0, 20), hu.shape)
    seen: NDArray[np.int16] = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    return PhantomCase(seen, case.labels, case.spacing_mm, case.origin_mm, case.kinds, case.phase)


def _save(volume: NDArray[np.generic], affine: NDArray[np.float64], path: Path) -> None:
    image = nibabel.Nifti1Image(np.transpose(volume, (2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
