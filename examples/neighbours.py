"""Write your own source: each slice of a volume with the slices before and after it as channels.

    KERAS_BACKEND=tensorflow python examples/neighbours.py

A source has a length and a `read` method. `check_source` tells whether yours keeps the contract.
"""

import keras
import numpy as np

import kerasbalance as kb
from kerasbalance.testing import check_source

STEPS = 10


class Neighbours:
    """Slices of volumes `(volumes, slices, height, width)` with their neighbours, and masks of the slices alone."""

    can_flip = False  # read does not mirror, so flips are refused

    def __init__(self, volumes, masks):
        self.volumes, self.masks = volumes, masks

    def __len__(self):
        return self.volumes.shape[0] * self.volumes.shape[1]

    def read(self, refs, flips):
        """Return `(n, height, width, 3)` and `(n, height, width)`; at an end the slice is its own neighbour."""
        if len(refs) and not (np.min(refs) >= 0 and np.max(refs) < len(self)):
            raise IndexError(f"refs from 0 to {len(self) - 1} only")
        if np.any(flips):
            raise ValueError("this source cannot mirror slices")
        volume, slice_ = np.divmod(refs, self.volumes.shape[1])
        near = np.clip(slice_[:, None] + [-1, 0, 1], 0, self.volumes.shape[1] - 1)
        return np.moveaxis(self.volumes[volume[:, None], near], 1, -1), self.masks[volume, slice_]


def make_balls(volumes=25, slices=16, size=24, seed=0):
    """Return noisy volumes with a ball each, and their masks; every eighth slice is noisier."""
    rng = np.random.default_rng(seed)
    z, rows, columns = np.mgrid[:slices, :size, :size]
    centre = rng.uniform(8, 14, (3, volumes, 1, 1, 1))
    y = (z - centre[0] + 3) ** 2 + (rows - centre[1]) ** 2 + (columns - centre[2]) ** 2 < 36
    noise = np.where(np.arange(slices) % 8 == 1, 1.0, 0.3)[:, None, None]
    return (y + noise * rng.normal(size=y.shape)).astype("float32"), y.astype("uint8")


def main(epochs=8):
    source, test = Neighbours(*make_balls()), Neighbours(*make_balls(volumes=5, seed=1))
    check_source(source)
    dice, result = {}, None
    for name in ("with mining", "without"):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
        model = keras.Sequential(
            [keras.Input((24, 24, 3)), *layers, keras.layers.Conv2D(1, 1, activation="sigmoid")]
        )
        model.compile(keras.optimizers.Adam(1e-2), loss=kb.DiceLoss())
        sampler = kb.HardSliceSampler(base=range(200), candidates=range(200, 400), rule=kb.lowest(0.15))
        dataset = kb.IndexedDataset(source, sampler, batch_size=10, steps_per_epoch=STEPS)
        mining = kb.ScheduledMining(dataset, at=epochs // 2 * STEPS)
        callbacks = [mining] if name == "with mining" else []
        model.fit(dataset, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
        scores = kb.score_slices(model, test, np.arange(len(test)), 10)
        dice[name] = scores.case_dice(np.arange(len(test)) // 16)[1].mean()
        result = mining.results[-1] if mining.results else result
    print(result)
    print(
        f"noisy slices among the hard ones: {np.mean(result.ref[result.hard] % 8 == 1):.0%}, among all: 12%"
    )
    print(f"Dice of a test volume with mining {dice['with mining']:.3f}, as many steps without {dice['without']:.3f};",
          "one run of each does not show which is better")  # fmt: skip
    return result


if __name__ == "__main__":
    main()
