"""Mine by loss: classify the digits of scikit-learn, and draw the digits with the largest loss more often.

    KERAS_BACKEND=torch python examples/digits.py

Nothing here is a mask, so Dice has no meaning; the score is the loss that the model is compiled with.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import kerasbalance as kb

STEPS = 20


def prepare(at):
    """Return the model, its dataset, mining at an iteration, and the digits that are held back for the test."""
    keras.utils.set_random_seed(0)
    images, digits = load_digits(return_X_y=True)
    x, y = (images / 16).astype("float32"), digits.astype("int32")
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    source = kb.ArraySource(x[:1400], y[:1400])
    sampler = kb.mine_on_top(np.arange(1400), kb.lowest(0.1), repeat=3)
    dataset = kb.IndexedDataset(source, sampler, batch_size=32, steps_per_epoch=STEPS)
    mining = kb.ScheduledMining(dataset, at=at, score="loss")
    return model, dataset, mining, (x[1400:], y[1400:])


def main(epochs=8):
    accuracy = {}
    for name in ("with mining", "without"):
        model, dataset, mining, test = prepare(at=epochs // 2 * STEPS)
        callbacks = [mining] if name == "with mining" else []
        model.fit(dataset, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
        accuracy[name] = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
        if callbacks:
            result, digits = mining.results[-1], dataset.source.y
    print(result)
    print("digits with the largest loss:", np.bincount(digits[result.ref[result.hard]], minlength=10).tolist(),
          "of each of 0 to 9; the largest is", f"{1 / result.score.min() - 1:.2f}")  # fmt: skip
    print(f"test accuracy with mining {accuracy['with mining']:.1%}, as many steps without {accuracy['without']:.1%};",
          "one run of each does not show which is better")  # fmt: skip
    return result


if __name__ == "__main__":
    main()
