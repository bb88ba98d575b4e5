"""Mine with an encoder of `keras.applications`: segment RGB images, without looking at their masks to find hard ones.

    KERAS_BACKEND=jax python examples/encoder.py

The score is the disagreement between the prediction for an image and for its mirror image, so candidates could be
scored before they are annotated. `weights="imagenet"` would load the published weights of the encoder.
"""

import keras
import numpy as np

import kerasbalance as kb

STEPS = 10


def make_model():
    """Return the first layers of MobileNet with a head that brings their output back to the size of the image."""
    mobile_net = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    fine = mobile_net.get_layer("conv_pw_1_relu").output
    h = keras.layers.Conv2DTranspose(8, 2, strides=2, activation="relu")(fine)
    return keras.Model(mobile_net.input, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(h))


def make_images(count=200, size=32, seed=0):
    """Return RGB images of discs, and their masks; one disc in eight is faint."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radius = rng.uniform(8, size - 8, (2, count, 1, 1)), rng.uniform(4, 8, (count, 1, 1))
    y = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    contrast = np.where(np.arange(count) % 8 == 1, 0.2, 1.0)[:, None, None]
    x = (y * contrast)[..., None] * rng.uniform(0.5, 1, (count, 1, 1, 3)) + rng.normal(0, 0.15, (*y.shape, 3))
    return x.astype("float32"), y[..., None].astype("uint8")


def main(epochs=8):
    source, (test_x, test_y) = kb.ArraySource(*make_images()), make_images(count=40, seed=1)
    dice, result = {}, None
    for name in ("with mining", "without"):
        keras.utils.set_random_seed(0)
        model = make_model()
        model.compile(keras.optimizers.Adam(1e-2), loss=kb.DiceLoss())
        sampler = kb.HardSliceSampler(range(100), range(100, 200), kb.lowest(0.15))
        dataset = kb.IndexedDataset(source, sampler, batch_size=10, steps_per_epoch=STEPS)
        mining = kb.ScheduledMining(dataset, at=epochs // 2 * STEPS, score="disagreement")
        callbacks = [mining] if name == "with mining" else []
        model.fit(dataset, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
        scores = kb.score_slices(model, kb.ArraySource(test_x, test_y), np.arange(40), 10)
        dice[name] = scores.dice.mean()
        result = mining.results[-1] if mining.results else result
    print(result)
    print(
        f"faint discs among the hard images: {np.mean(result.ref[result.hard] % 8 == 1):.0%}, among all: 12%"
    )
    print(f"test Dice with mining {dice['with mining']:.3f}, as many steps without {dice['without']:.3f};",
          "one run of each does not show which is better")  # fmt: skip
    return result


if __name__ == "__main__":
    main()
