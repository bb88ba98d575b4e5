"""Mine in signals: find a short wave in noise, with two inputs and a target for each moment.

    KERAS_BACKEND=tensorflow python examples/signals.py

Each sample is a signal of 64 moments with two channels, and a number beside it. The target says for each moment whether
the wave is there. The score is the loss, averaged over the moments of a signal.
"""

import keras
import numpy as np

import kerasbalance as kb

STEPS = 15


def make_signals(count=400, length=64, seed=0):
    """Return signals and gains, and where the wave is; in one signal of eight the wave is weak."""
    rng = np.random.default_rng(seed)
    moments = np.arange(length)
    start = rng.integers(5, length - 25, (count, 1))
    there = (moments >= start) & (moments < start + 16)
    strength = np.where(np.arange(count) % 8 == 1, 0.3, 1.0)[:, None]
    gain = rng.uniform(0.5, 2, (count, 1))
    wave = gain * strength * there * np.sin(moments * 0.8)
    channels = np.stack([wave, np.roll(wave, 3, axis=1)], axis=-1) + rng.normal(0, 0.15, (count, length, 2))
    x = {"signal": channels.astype("float32"), "gain": gain.astype("float32")}
    return x, there[..., None].astype("float32")


def make_model():
    signal, gain = keras.Input((64, 2), name="signal"), keras.Input((1,), name="gain")
    h = keras.layers.Conv1D(8, 9, padding="same", activation="relu")(signal)
    h = keras.layers.Concatenate()([h, keras.layers.RepeatVector(64)(gain)])
    h = keras.layers.Conv1D(8, 9, padding="same", activation="relu")(h)
    return keras.Model({"signal": signal, "gain": gain}, keras.layers.Conv1D(1, 1, activation="sigmoid")(h))


def main(epochs=10):
    x, y = make_signals()
    test_x, test_y = make_signals(count=80, seed=1)
    losses, result = {}, None
    for name in ("with mining", "without"):
        keras.utils.set_random_seed(0)
        model = make_model()
        model.compile(keras.optimizers.Adam(1e-2), loss="binary_crossentropy")
        sampler = kb.HardSliceSampler(base=range(200), candidates=range(200, 400), rule=kb.lowest(0.15))
        dataset = kb.IndexedDataset(kb.ArraySource(x, y), sampler, batch_size=16, steps_per_epoch=STEPS)
        mining = kb.ScheduledMining(dataset, at=epochs // 2 * STEPS, score="loss")
        kb.fit(model, dataset, epochs=epochs, callbacks=[mining] if name == "with mining" else [], verbose=0)
        losses[name] = model.evaluate(test_x, test_y, verbose=0)
        result = mining.results[-1] if mining.results else result
    print(result)
    print(
        f"weak waves among the hard signals: {np.mean(result.ref[result.hard] % 8 == 1):.0%}, among all: 12%"
    )
    print(f"test loss with mining {losses['with mining']:.3f}, as many steps without {losses['without']:.3f};",
          "one run of each does not show which is better")  # fmt: skip
    return result


if __name__ == "__main__":
    main()
