"""A training step of the package's networks under Keras, against plain PyTorch and against the machine's limit."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Row, is_installed, take_turns


def make_slices(size: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return int16 HU and masks."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1024, 1500, (count, size, size, 1)).astype("int16")
    return x, (x > 50).astype("uint8")


def keras_model(name: str, size: int, filters: int, precision: str) -> Any:
    """Return a compiled network of the package."""
    import keras

    import kerasbalance as kb

    keras.config.set_dtype_policy(precision)
    build = {"unet": kb.models.unet, "fcn": kb.models.fcn_vgg16}[name]
    model = build((size, size, 1), base_filters=filters)
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9), loss=kb.DiceLoss())
    keras.config.set_dtype_policy("float32")
    return model


def multiply_adds(model: Any) -> float:
    """Return the floating-point operations of the convolutions of one forward pass over one slice."""
    total = 0.0
    for layer in model.layers:
        if type(layer).__name__ in ("Conv2D", "Conv2DTranspose"):
            plane = layer.input.shape[1:3] if "Transpose" in type(layer).__name__ else layer.output.shape[1:3]
            total += 2.0 * np.prod(plane) * np.prod(layer.kernel.shape)
    return total


def torch_trainer(name: str, size: int, filters: int, batch: int, bf16: bool) -> Callable[[int], None]:
    """Return a function that trains a network in plain torch, eager and channels-last, for a number of steps."""
    import torch

    model = {"unet": torch_unet, "fcn": torch_fcn}[name](filters).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)

    def step(x: Any, y: Any) -> float:
        window = (x.float().clip(-150, 250) + 150) / 400
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(window.permute(0, 3, 1, 2))
        prediction = torch.sigmoid(logits.float()).permute(0, 2, 3, 1)
        overlap, total = (y * prediction).sum(), y.sum() + prediction.sum()
        loss = 1 - (2 * overlap + 1) / (total + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def train(steps: int) -> None:
        x, y = make_slices(size, steps * batch)
        for start in range(0, len(x), batch):
            step(
                torch.from_numpy(x[start : start + batch]), torch.from_numpy(y[start : start + batch]).float()
            )

    return train


def torch_unet(filters: int) -> Any:
    """Return the network of `kerasbalance.models.unet` as a torch module, from window to logits."""
    import torch
    from torch import nn

    def two(channels: int, width: int) -> Any:
        layers: list[Any] = []
        for inputs in (channels, width):
            layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width, eps=1e-3), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [filters * 2**level for level in range(5)]
            self.down = nn.ModuleList(two(i, o) for i, o in zip([1, *widths], widths, strict=False))
            self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:4])
            self.up = nn.ModuleList(two(2 * width, width) for width in widths[:4])
            self.score = nn.Conv2d(filters, 1, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for level, block in enumerate(self.down):
                x = block(nn.functional.max_pool2d(x, 2) if level else x)
                skips.append(x)
            for level in reversed(range(4)):
                x = self.up[level](torch.cat([skips[level], self.grow[level](x)], dim=1))
            return self.score(x)

    return UNet()


def torch_fcn(filters: int) -> Any:
    """Return the network of `kerasbalance.models.fcn_vgg16` as a torch module, from window to logits."""
    import torch
    from torch import nn

    def grow(x: Any, factor: int) -> Any:
        return nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")

    class FCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks, inputs = [], 3
            for width, depth in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
                layers: list[Any] = []
                for _ in range(depth):
                    layers += [nn.Conv2d(inputs, width * filters, 3, padding=1), nn.ReLU(inplace=True)]
                    inputs = width * filters
                blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
            wide = 64 * filters
            self.to_pool3, self.to_pool4 = nn.Sequential(*blocks[:3]), blocks[3]
            self.to_top = nn.Sequential(
                blocks[4], nn.Conv2d(inputs, wide, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout(),
                nn.Conv2d(wide, wide, 1), nn.ReLU(inplace=True), nn.Dropout(),
            )  # fmt: skip
            self.scores = nn.ModuleList(nn.Conv2d(n, 1, 1) for n in (4 * filters, 8 * filters, wide))

        def forward(self, x: Any) -> Any:
            pool3 = self.to_pool3((x * 255 - 116) / 128 * torch.ones(1, 3, 1, 1))
            pool4 = self.to_pool4(pool3)
            scores = [
                score(x) for score, x in zip(self.scores, (pool3, pool4, self.to_top(pool4)), strict=True)
            ]
            return grow(grow(grow(scores[2], 2) + scores[1], 2) + scores[0], 8)

    return FCN()


def convolution_peak(bf16: bool) -> float:
    """Return the operations a CPU second of a large 3 x 3 convolution in torch (oneDNN): the limit of a step."""
    import torch

    kind = torch.bfloat16 if bf16 else torch.float32
    with torch.inference_mode():
        layer = (
            torch.nn.Conv2d(128, 128, 3, padding=1, bias=False).to(kind).to(memory_format=torch.channels_last)
        )
        x = torch.zeros(4, 128, 64, 64, dtype=kind).to(memory_format=torch.channels_last)
        times = []
        for _ in range(8):
            begin = time.process_time()
            layer(x)
            times.append(time.process_time() - begin)
    return 2 * 9 * 128 * 128 * 64 * 64 * 4 / min(times)


def run(
    size: int = 128,
    filters: int = 32,
    batch: int = 4,
    steps: int = 3,
    rounds: int = 5,
    precisions: tuple[str, ...] = ("float32", "mixed_bfloat16"),
) -> list[Row]:
    """Return the figures of this process's backend."""
    import keras

    backend = keras.config.backend()
    rows = []
    for precision in precisions:
        rows += _compare(backend, "unet", precision, size, filters, batch, steps, rounds)
    return rows + _compare(backend, "fcn", "float32", size, max(1, filters // 2), batch, steps, rounds)


def _compare(
    backend: str, name: str, precision: str, size: int, filters: int, batch: int, steps: int, rounds: int
) -> list[Row]:
    import kerasbalance as kb

    bf16 = precision != "float32"
    model = keras_model(name, size, filters, precision)
    x, y = make_slices(size, steps * batch)
    dataset = kb.IndexedDataset(
        kb.ArraySource(x, y), kb.Index(np.arange(len(x))), batch_size=batch, steps_per_epoch=steps
    )
    ways = {"keras": lambda: kb.fit(model, dataset, steps, verbose=0)}
    if is_installed("torch"):
        train = torch_trainer(name, size, filters, batch, bf16)
        ways["torch"] = lambda: train(steps)
    spent = take_turns(ways, rounds)
    title = {"unet": "U-Net", "fcn": "FCN-8s"}[name]
    label = f"step: {backend}, {title}, {size} px, {filters} filters, batch {batch}, {precision}"
    if "torch" not in spent:
        return [Row(1000 * spent["keras"] / steps, label, "CPU ms; plain torch is not installed")]
    aim = (
        {"tensorflow": ">= 1.0", "torch": ">= 0.9"}.get(backend, "")
        if (name, bf16) == ("unet", False)
        else ""
    )
    speed = 3 * multiply_adds(model) * batch * steps / spent["keras"]
    unit = f"speed / the same network in plain torch ({1000 * spent['torch'] / steps:.0f} CPU ms a step)"
    return [
        Row(spent["torch"] / spent["keras"], label, unit, aim),
        Row(speed / convolution_peak(bf16), label, "share of the speed of one large convolution in torch"),
    ]
