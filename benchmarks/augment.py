"""Random changes of slices: how many a CPU second, on two threads as the dataset reads ahead."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from measure import Row, is_installed, take_turns

from kerasbalance.batches.augmentation import Augmentation

BATCH, THREADS = 16, 2


def run(size: int = 512, batches: int = 16, repeats: int = 5) -> list[Row]:
    """Return the figures; none where OpenCV (extra `augment`) is not installed."""
    if not is_installed("cv2"):
        print("left out, not installed: opencv-python-headless")
        return []
    x, y = _made(size)
    with ThreadPoolExecutor(THREADS) as threads:
        spent = take_turns(
            {
                "copy": _work(threads, lambda x, y, rng: (x.copy(), y.copy()), x, y, batches),
                "default": _work(threads, Augmentation(), x, y, batches),
            },
            repeats,
        )
    rate = BATCH * batches / spent["default"]
    label = f"augment: defaults, {BATCH} x {size} x {size} image + mask, {THREADS} threads"
    return [
        Row(rate, label, "slices a CPU second", ">= 1000"),
        Row(spent["default"] / spent["copy"], label, "times a copy of the slices"),
    ]


def _work(
    threads: ThreadPoolExecutor, change: Callable[..., object], x: np.ndarray, y: np.ndarray, batches: int
) -> Callable[[], object]:
    return lambda: list(threads.map(lambda n: change(x, y, np.random.default_rng(n)), range(batches)))


def _made(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return slices of noise in an ellipse, with an organ on four of five, int16 and uint8 `(batch, size, size, 1)`."""
    rows, columns = (np.mgrid[:size, :size] / size - 0.5) * 2
    x = np.full((BATCH, size, size), -1024, np.int16)
    body = np.hypot(columns / 0.85, rows / 0.65) < 1
    x[:, body] = np.random.default_rng(0).normal(40, 30, (BATCH, int(body.sum())))
    y = np.zeros(x.shape, np.uint8)
    y[math.ceil(BATCH / 5) :, np.hypot(columns + 0.3, rows) < 0.3] = 1
    return x[..., None], y[..., None]
