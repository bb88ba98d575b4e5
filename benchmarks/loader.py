"""Batches of image and mask from the store against a memory copy and against a typical Keras loader."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from measure import take_turns

from kerasbalance.data.store import CaseFacts, Pseudonyms, SliceStore, Store
from kerasbalance.data.store.casefile import CaseArrays, build_case
from kerasbalance.data.store.files import write_aside

BATCH = 16


def make_arrays(slices: int, size: int) -> CaseArrays:
    """Return a noisy body and a disc that grows along z, on about half of the slices."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(y, 1.2 * x)
    image = np.where(radius < 0.45 * size, 40, -1000) + rng.normal(0, 15, (slices, size, size))
    mask = np.zeros((slices, size, size), np.uint8)
    for number in range(slices // 4, 3 * slices // 4):
        mask[number] = radius < (0.1 + 0.2 * number / slices) * size
    return CaseArrays(image.astype(np.int16), mask, 2.0 * np.arange(slices))


def make_store(root: Path, arrays: CaseArrays, cases: int) -> SliceStore:
    """Write a store of `cases` equal cases."""
    pseudonyms = Pseudonyms.load(root / "key")
    store = Store.create(root / "store", pseudonyms)
    slices, rows, columns = arrays.image.shape
    with store.writing() as writer:
        for number in range(cases):
            facts = CaseFacts(
                key=pseudonyms.of("series", str(number)), patient=str(number), patient_spelling="", slices=slices,
                rows=rows, columns=columns, spacing_mm=(2.0, 0.7, 0.7), organs=("liver",),
                organ_hu=((),), hu_percentiles=(), source_kind="dicom", mask_kind="nifti", tags={}, notes=(),
                source_digest="", reader_version="",
            )  # fmt: skip
            entry, content = build_case(facts, arrays)
            writer.commit(entry, write_aside(store.aside, content))
    return SliceStore(root / "store")


def run(slices: int = 64, size: int = 512, cases: int = 8, repeats: int = 15) -> list[tuple[str, float, str]]:
    """Return rows of (name, ratio, meaning)."""
    with tempfile.TemporaryDirectory() as name:
        arrays = make_arrays(slices, size)
        store = make_store(Path(name), arrays, cases)
        with h5py.File(Path(name) / "typical.h5", "w") as file:
            file.create_dataset("image", data=arrays.image, chunks=(1, size, size), compression="gzip")
            file.create_dataset("mask", data=arrays.mask, chunks=(1, size, size), compression="gzip")
            spent = _measure(store, file, arrays, repeats)
    copy, ours = spent["memory copy"], spent["store"]
    label = f"{BATCH} x {size} x {size} image + mask, fresh arrays"
    unit = f"speed / memory copy ({1e6 * copy / BATCH:.0f} us a slice)"
    return [
        (f"store: {label}", copy / ours, unit),
        (f"NumPy .copy(): {label}", copy / spent["fresh copy"], unit),
        (
            "store against h5py gzip + float64 window + one-hot + stack",
            spent["typical"] / ours,
            "times as fast",
        ),
    ]


def _measure(store: SliceStore, file: h5py.File, arrays: CaseArrays, repeats: int) -> dict[str, float]:
    source, refs = store.source("liver"), store.refs("liver")
    for start in range(
        0, len(refs), BATCH
    ):  # the first read of a slice compares its checksum; measure the later ones
        source.read(refs[start : start + BATCH])
    batches = _batches(len(refs))
    few = _batches(len(arrays.image))
    image, mask = arrays.image[:BATCH].copy(), arrays.mask[:BATCH].copy()
    image_to, mask_to = np.empty_like(image), np.empty_like(mask)
    return take_turns(
        {
            "memory copy": lambda: (np.copyto(image_to, image), np.copyto(mask_to, mask)),
            "fresh copy": lambda: (image.copy(), mask.copy()),
            "store": lambda: source.read(refs[next(batches)]),
            "typical": lambda: _typical(file, next(few)),
        },
        repeats,
    )


def _batches(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, count, BATCH)


def _typical(file: h5py.File, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images = [np.clip((file["image"][n].astype(float) + 150) / 400, 0, 1)[..., None] for n in numbers]
    masks = [np.eye(2)[file["mask"][n]] for n in numbers]
    return np.stack(images), np.stack(masks)
