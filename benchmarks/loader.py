"""Batches of image and mask from the store against a memory copy, a typical Keras loader, MONAI's and nnU-Net's."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from measure import Row, Ways, peer, take_turns

from kerasbalance.data.store import CaseFacts, Pseudonyms, SliceStore, Store
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.sealed_case import CaseArrays, build_case
from kerasbalance.data.store.writer import open_writer

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
    with open_writer(store) as writer:
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


def run(slices: int = 64, size: int = 512, cases: int = 8, repeats: int = 15) -> list[Row]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as name:
        root, arrays = Path(name), make_arrays(slices, size)
        store = make_store(root, arrays, cases)
        with h5py.File(root / "typical.h5", "w") as file:
            file.create_dataset("image", data=arrays.image, chunks=(1, size, size), compression="gzip")
            file.create_dataset("mask", data=arrays.mask, chunks=(1, size, size), compression="gzip")
            ways = _ways(root, store, file, arrays)
            spent = take_turns(ways, repeats)
        rows = _warm(spent, size)
        return [*rows, *_threads(store, size, repeats), _cold(root, store, repeats)]


def _warm(spent: dict[str, float], size: int) -> list[Row]:
    copy, ours = spent.pop("memory copy"), spent.pop("store")
    label = f"{BATCH} x {size} x {size} image + mask"
    unit = f"speed / memory copy into warm arrays ({1e6 * copy / BATCH:.0f} us a slice)"
    rows = [
        Row(copy / ours, f"loader: store, fresh arrays, {label}", unit, ">= 0.2"),
        Row(copy / spent.pop("fresh copy"), f"loader: NumPy's own fresh copy of such arrays, {label}", unit),
    ]
    aims = {"h5py gzip + float64 window + one-hot + stack": ">= 50"}
    return rows + [
        Row(seconds / ours, f"loader: store, against {name}", "times as fast", aims.get(name, ""))
        for name, seconds in spent.items()
    ]


def _ways(root: Path, store: SliceStore, file: h5py.File, arrays: CaseArrays) -> Ways:
    source, refs = store.source("liver"), store.refs("liver")
    # The first read of a slice compares its checksum; measure the later ones.
    for start in range(0, len(refs), BATCH):
        source.read(refs[start : start + BATCH])
    batches, few = _batches(len(refs)), _batches(len(arrays.image))
    image, mask = arrays.image[:BATCH].copy(), arrays.mask[:BATCH].copy()
    image_to, mask_to = np.empty_like(image), np.empty_like(mask)
    ways: Ways = {
        "memory copy": lambda: (np.copyto(image_to, image), np.copyto(mask_to, mask)),
        "fresh copy": lambda: (image.copy(), mask.copy()),
        "store": lambda: source.read(refs[next(batches)]),
        "h5py gzip + float64 window + one-hot + stack": lambda: _typical(file, next(few)),
    }
    with peer("monai"):
        ways |= _monai(root, arrays)
    with peer("blosc2 (nnU-Net's layout)"):
        ways["nnU-Net's blosc2 layout (float32, zstd), opened for each slice"] = _blosc2(root, arrays, few)
    return ways


def _batches(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, count, BATCH)


def _typical(file: h5py.File, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images = [np.clip((file["image"][n].astype(float) + 150) / 400, 0, 1)[..., None] for n in numbers]
    masks = [np.eye(2)[file["mask"][n]] for n in numbers]
    return np.stack(images), np.stack(masks)


def _monai(root: Path, arrays: CaseArrays) -> Ways:
    """A batch from MONAI's datasets and loader, without workers, of slices that it has already read once."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.data import CacheDataset, DataLoader, PersistentDataset

    def pick(number: int) -> dict[str, np.ndarray]:
        return {"image": arrays.image[number][None], "mask": arrays.mask[number][None]}

    numbers = list(range(len(arrays.image)))
    sets = {
        "MONAI CacheDataset (all in memory) + DataLoader": CacheDataset(
            numbers, pick, progress=False, num_workers=0
        ),
        "MONAI PersistentDataset + DataLoader": PersistentDataset(numbers, pick, cache_dir=root / "monai"),
    }
    return {name: _next_of(DataLoader, dataset) for name, dataset in sets.items()}


def _next_of(loader_class: Any, dataset: Any) -> Callable[[], object]:
    state: dict[str, Iterator[Any]] = {}

    def step() -> object:
        found = next(state["it"], None) if state else None
        if found is None:
            state["it"] = iter(loader_class(dataset, batch_size=min(BATCH, len(dataset)), shuffle=True))
            found = next(state["it"])
        return found

    return step


def _blosc2(root: Path, arrays: CaseArrays, few: Iterator[np.ndarray]) -> Callable[[], object]:
    import blosc2

    settings = {"codec": blosc2.Codec.ZSTD, "clevel": 8, "nthreads": 1}
    for name, array in (("image", arrays.image.astype(np.float32)), ("mask", arrays.mask)):
        blosc2.asarray(
            array, chunks=(1, *array.shape[1:]), urlpath=str(root / f"{name}.b2nd"), cparams=settings
        )

    def read(name: str, numbers: np.ndarray) -> np.ndarray:
        opened = blosc2.open(str(root / f"{name}.b2nd"), mode="r", dparams={"nthreads": 1})
        return np.stack([opened[int(number)] for number in numbers])

    def step() -> object:
        numbers = next(few)
        return read("image", numbers), read("mask", numbers)

    return step


def _threads(store: SliceStore, size: int, repeats: int) -> list[Row]:
    """Wall time of many batches in one thread and in two; on a machine with other load this says little."""
    source, refs = store.source("liver"), store.refs("liver")
    picks = [refs[numbers] for numbers, _ in zip(_batches(len(refs)), range(32), strict=False)]
    pools = {1: ThreadPoolExecutor(1), 2: ThreadPoolExecutor(2)}
    spent = take_turns(
        {str(n): lambda pool=pool: list(pool.map(source.read, picks)) for n, pool in pools.items()},
        repeats,
        time.perf_counter,
    )
    return [
        Row(
            spent["1"] / spent["2"], f"loader: store in two threads against one, {size} px", "wall time ratio"
        )
    ]


def _cold(root: Path, store: SliceStore, repeats: int) -> Row:
    """Wall time from a disk whose pages were dropped, against reading the files' bytes from one."""
    files = sorted((root / "store" / "cases").iterdir())

    def drop() -> None:
        if hasattr(os, "posix_fadvise"):
            for path in files:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def ours() -> None:
        opened = SliceStore(store.path)
        source, refs = opened.source("liver"), opened.refs("liver")
        for start in range(0, len(refs), BATCH):
            source.read(refs[start : start + BATCH])

    def raw() -> None:
        for path in files:
            path.read_bytes()

    spent: dict[str, list[float]] = {"ours": [], "raw": []}
    for _ in range(max(1, repeats // 5)):
        for name, way in (("ours", ours), ("raw", raw)):
            drop()
            begin = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - begin)
    ratio = float(np.median(spent["raw"]) / np.median(spent["ours"]))
    return Row(
        ratio,
        "loader: first pass over a cold store, checksums and all",
        "speed / reading the files, wall time",
    )
