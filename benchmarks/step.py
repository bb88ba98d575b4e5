"""CPU seconds of a training step: the U-Net of this package under Keras, and the same network in plain torch.

    KERAS_BACKEND=torch python benchmarks/step.py --size 128 --filters 32

The process is pinned to one core, the two take turns, and the medians count: other work on the machine then
disturbs both alike. Plain torch runs eagerly, in channels-last memory, as its own users would write it.
"""

import argparse
import importlib.util
import os
import statistics
import time

import numpy as np


def make_slices(size, count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1024, 1500, (count, size, size, 1)).astype("int16")
    return x, (x > 50).astype("uint8")


def keras_trainer(size, filters, batch, batch_norm):
    """Return a function that trains for a number of steps."""
    import keras

    import kerasbalance as kb

    model = kb.models.unet((size, size, 1), base_filters=filters, batch_norm=batch_norm)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=kb.DiceLoss())

    def train(steps):
        model.fit(*make_slices(size, steps * batch), batch_size=batch, shuffle=False, verbose=0)

    return train


def torch_trainer(size, filters, batch, batch_norm):
    """Return a function that trains for a number of steps."""
    import torch

    model = torch_unet(filters, batch_norm).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step(x, y):
        window = (x.float().clip(-150, 250) + 150) / 400
        prediction = torch.sigmoid(model(window.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        overlap, total = (y * prediction).sum(), y.sum() + prediction.sum()
        loss = 1 - (2 * overlap + 1) / (total + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def train(steps):
        x, y = make_slices(size, steps * batch)
        for start in range(0, len(x), batch):
            step(
                torch.from_numpy(x[start : start + batch]), torch.from_numpy(y[start : start + batch]).float()
            )

    return train


def torch_unet(filters, batch_norm):
    """Return the network of `kerasbalance.models.unet` as a torch module, from window to logits."""
    import torch
    from torch import nn

    def two(channels, width):
        layers = []
        for inputs in (channels, width):
            layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(width, eps=1e-3)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [filters * 2**level for level in range(5)]
            self.down = nn.ModuleList(two(i, o) for i, o in zip([1, *widths], widths, strict=False))
            self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:4])
            self.up = nn.ModuleList(two(2 * width, width) for width in widths[:4])
            self.score = nn.Conv2d(filters, 1, 1)

        def forward(self, x):
            skips = []
            for level, block in enumerate(self.down):
                x = block(nn.functional.max_pool2d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(4)):
                x = self.up[level](torch.cat([skips[level], self.grow[level](x)], dim=1))
            return self.score(x)

    return UNet()


def cpu_seconds_per_step(train, steps):
    start = time.process_time()
    train(steps)
    return (time.process_time() - start) / steps


def compare(*, size=128, filters=32, batch=4, steps=3, rounds=5, batch_norm=True):
    """Return the median CPU seconds of a step, by name; plain torch only where torch is installed."""
    options = (size, filters, batch, batch_norm)
    trainers = {"keras": keras_trainer(*options)}
    if importlib.util.find_spec("torch"):
        trainers["torch"] = torch_trainer(*options)
    for train in trainers.values():
        train(steps)
    seconds = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, train in trainers.items():
            seconds[name].append(cpu_seconds_per_step(train, steps))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 128), ("filters", 32), ("batch", 4), ("steps", 3), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-batch-norm", dest="batch_norm", action="store_false")
    options = vars(parser.parse_args())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    medians = compare(**options)

    import keras

    print(f"keras on {keras.backend.backend()}: {medians['keras']:.4f} CPU s a step, {options}")
    if "torch" in medians:
        ratio = medians["torch"] / medians["keras"]
        print(f"plain torch: {medians['torch']:.4f} CPU s a step; keras runs at {ratio:.2f} of its speed")


if __name__ == "__main__":
    main()
