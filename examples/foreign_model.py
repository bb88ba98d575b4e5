"""Add mining to your own model: a small segmentation network on arrays, trained with a plain `model.fit`.

    KERAS_BACKEND=jax python examples/foreign_model.py

The program needs no CT, and it uses neither the fit loop nor the losses of this package. It uses the sampler, the
dataset and the callback.
"""

import keras
import numpy as np

import kerasbalance as kb


class TinyUNet(keras.Model):
    """A network that does not depend on this package: one level down, one level up, one skip connection."""

    def __init__(self, filters=8):
        super().__init__()
        self.enter = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")
        self.down = keras.layers.Conv2D(2 * filters, 3, strides=2, padding="same", activation="relu")
        self.up = keras.layers.Conv2DTranspose(filters, 2, strides=2, activation="relu")
        self.join = keras.layers.Concatenate()
        self.leave = keras.layers.Conv2D(1, 1, activation="sigmoid")

    def call(self, x):
        """Return probabilities `(batch, height, width, 1)`."""
        fine = self.enter(x)
        return self.leave(self.join([fine, self.up(self.down(fine))]))


def make_discs(slices=400, size=32, seed=0):
    """Return noisy images of discs and their masks; one slice in eight is faint, and one in four has no disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radius = rng.uniform(8, size - 8, (2, slices, 1, 1)), rng.uniform(3, 8, (slices, 1, 1))
    y = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    y[::4] = False
    contrast = np.where(np.arange(slices) % 8 == 1, 0.15, 1.0)[:, None, None]
    x = y * contrast + rng.normal(0, 0.15, y.shape)
    return x[..., None].astype("float32"), y[..., None].astype("uint8")


def main(epochs=12):
    keras.utils.set_random_seed(0)
    x, y = make_discs()
    model = TinyUNet()
    model.compile(keras.optimizers.Adam(1e-2), loss="binary_crossentropy")

    source = kb.ArraySource(x, y)
    sampler = kb.HardSliceSampler(
        base=np.arange(200),
        candidates=np.arange(200, 400),
        rule=kb.lowest(0.15),
        flips=("none", "horizontal"),
    )
    dataset = kb.IndexedDataset(source, sampler.index, batch_size=16, steps_per_epoch=12)
    mining = kb.ScheduledMining(dataset, sampler, at=6 * 12)
    model.fit(dataset, epochs=epochs, callbacks=[mining], shuffle=False, verbose=2)

    result = mining.results[-1]
    print(result, "- faint slices among the hard:", f"{np.mean(result.ref[result.hard] % 8 == 1):.0%}")
    return result


if __name__ == "__main__":
    main()
