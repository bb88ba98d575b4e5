"""Pairs of CT and mask as NIfTI, and folders of them."""

import csv
from pathlib import Path

import nibabel
import numpy as np

from kerasbalance.data.ingest.case import CaseRequest
from kerasbalance.data.labels import OrganRule

LIVER = (OrganRule("liver", (1,)),)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def made_pair(seed: int, *, slices: int = 5, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels `(slices, rows, columns)`: air, noise, a liver of 60 HU, and a spleen."""
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 1500, (slices, size, size)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[1:-1, 3 : 9 + seed % 5, 4:10] = 1
    labels[2:, size - 7 : size - 2, 2:8] = 2
    hu[labels > 0] = 60 + rng.integers(-15, 15, int((labels > 0).sum()))
    return hu, labels


def write_nifti(path: Path, volume: np.ndarray, spacing_mm=(3.0, 0.8, 0.8)) -> Path:
    """Write `(slices, rows, columns)`, canonical (columns to the left, rows to the back)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = LPS_TO_RAS @ np.diag([*spacing_mm[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(volume.transpose(2, 1, 0)), affine), path)
    return path


def make_cohort(folder: Path, cases: int = 4, **shape: int) -> list[CaseRequest]:
    """Write cases as NIfTI, with a manifest, and name them as requests."""
    requests = []
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ct", "mask", "patient", "labels"])
        for n in range(cases):
            hu, labels = made_pair(n, **shape)
            ct = write_nifti(folder / f"ct{n:03d}.nii", hu)
            mask = write_nifti(folder / f"mask{n:03d}.nii", labels)
            rows.writerow([ct.name, mask.name, f"P{n}", "liver=1;spleen=2"])
            rules = (OrganRule("liver", (1,)), OrganRule("spleen", (2,)))
            requests.append(CaseRequest(ct, mask, rules, f"P{n}", where=f"case {n + 1} of {cases}"))
    return requests
