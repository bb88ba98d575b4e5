"""Mine in a `torch.utils.data.Dataset` of RGB images, on any backend of Keras.

    KERAS_BACKEND=torch python examples/torch_dataset.py

The dataset returns one sample at a time, channels first, as torch datasets do. `unpack` brings it into Keras' form.
"""

import keras
import numpy as np
import torch

import kerasbalance as kb

STEPS = 15


class Squares(torch.utils.data.Dataset):
    """Images with a red or a green square; in one of eight the colours are nearly alike."""

    def __init__(self, count=400, seed=0):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        rng = np.random.default_rng((self.seed, number))
        label = int(rng.integers(2))
        image = rng.normal(0.5, 0.1, (3, 16, 16))
        row, column = rng.integers(0, 10, 2)
        image[label, row : row + 6, column : column + 6] += 0.06 if number % 8 == 1 else 0.5
        return torch.tensor(image, dtype=torch.float32), label


def main(epochs=8):
    def unpack(item):
        return item[0].permute(1, 2, 0), item[1]

    test = kb.DatasetSource(Squares(count=80, seed=1), unpack).read(np.arange(80), np.zeros(80, np.uint8))
    accuracy, result = {}, None
    for name in ("with mining", "without"):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(8, 5, strides=2, activation="relu"), keras.layers.GlobalMaxPooling2D()]
        model = keras.Sequential(
            [keras.Input((16, 16, 3)), *layers, keras.layers.Dense(2, activation="softmax")]
        )
        model.compile(
            keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        source = kb.DatasetSource(Squares(), unpack)
        flips = ("none", "horizontal")
        sampler = kb.HardSliceSampler(range(200), range(200, 400), kb.lowest(0.15), flips=flips)
        dataset = kb.IndexedDataset(source, sampler, batch_size=16, steps_per_epoch=STEPS)
        mining = kb.ScheduledMining(dataset, at=epochs // 2 * STEPS, score="loss")
        callbacks = [mining] if name == "with mining" else []
        model.fit(dataset, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
        accuracy[name] = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
        result = mining.results[-1] if mining.results else result
    print(result)
    print(
        f"faint squares among the hard images: {np.mean(result.ref[result.hard] % 8 == 1):.0%}, among all: 12%"
    )
    print(f"test accuracy with mining {accuracy['with mining']:.1%}, as many steps without {accuracy['without']:.1%};",
          "one run of each does not show which is better")  # fmt: skip
    return result


if __name__ == "__main__":
    main()
