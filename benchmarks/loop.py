"""CPU seconds of a step in `kerasbalance.fit` against plain `model.fit`, and of scoring against forwards.

    KERAS_BACKEND=jax python benchmarks/loop.py --size 128 --filters 16

The process is pinned to one core, the members of a pair take turns, and the median of the rounds counts:
other work on the machine then disturbs both alike. The first round of each, which compiles, is not counted.
"""

import argparse
import json
import os
import statistics
import tempfile
import time


def make_parts(size, filters, batch, steps):
    """Return a compiled U-Net of this package and a dataset."""
    import keras
    import numpy as np

    import kerasbalance as kb

    rng = np.random.default_rng(0)
    x = rng.integers(-1024, 1500, (4 * batch, size, size, 1)).astype("int16")
    source = kb.ArraySource(x, (x > 50).astype("uint8"))
    model = kb.models.unet((size, size, 1), base_filters=filters)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss=kb.DiceLoss())
    index = kb.Index(np.arange(len(x)))
    return model, kb.IndexedDataset(source, index, batch_size=batch, steps_per_epoch=steps)


def cpu_seconds(function):
    """Return the CPU seconds of a call, all threads together."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def alternate(rounds, **functions):
    """Return the median CPU seconds of each function, called in turns."""
    taken = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            taken[name].append(cpu_seconds(function))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def compare_fits(model, dataset, windows, rounds):
    """Return the seconds of plain fit, of ours, and of ours with a checkpoint a window, for equal steps."""
    import kerasbalance as kb

    def ours(**options):
        kb.fit(model, dataset, len(dataset) * windows, verbose=0, **options)

    def saving():
        with tempfile.TemporaryDirectory() as folder:
            ours(run_dir=folder, checkpoint_s=0)

    return alternate(
        rounds,
        plain=lambda: model.fit(dataset, epochs=windows, shuffle=False, verbose=0),
        ours=ours,
        saving=saving,
    )


def compare_scoring(model, dataset, slices, rounds):
    """Return the seconds of bare forwards over batches and of scoring the same slices."""
    import numpy as np

    import kerasbalance as kb

    batch = dataset.batch_size
    refs = np.arange(slices) % len(dataset.source)
    batches = [dataset.source.x[refs[start : start + batch]] for start in range(0, slices, batch)]

    def bare():
        for x in batches:
            model.predict_on_batch(x)

    return alternate(rounds, bare=bare, scoring=lambda: kb.score_slices(model, dataset.source, refs, batch))


def waiting_share(model, dataset):
    """Return the share of wall time that the training spends waiting for batches."""
    waited = []
    read = dataset._reader.get

    def timed(phase, iteration):
        begin = time.perf_counter()
        made = read(phase, iteration)
        waited.append(time.perf_counter() - begin)
        return made

    dataset._reader.get = timed
    begin = time.perf_counter()
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    return sum(waited) / (time.perf_counter() - begin)


def measure(model, dataset, windows, rounds):
    """Return all figures by name."""
    import keras

    steps, batch = len(dataset), dataset.batch_size
    fits = compare_fits(model, dataset, windows, rounds)
    scoring = compare_scoring(model, dataset, 8 * batch, rounds)
    return {
        "backend": keras.config.backend(),
        "step_ms": {name: 1000 * seconds / (steps * windows) for name, seconds in fits.items()},
        "ours_over_plain": fits["ours"] / fits["plain"],
        "saving_over_plain": fits["saving"] / fits["plain"],
        "scoring_throughput_over_bare": scoring["bare"] / scoring["scoring"],
        "waiting_share": waiting_share(model, dataset),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"size": 128, "filters": 16, "batch": 4, "steps": 20, "windows": 3, "rounds": 5}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parts = make_parts(*(options[name] for name in ("size", "filters", "batch", "steps")))
    print(json.dumps({**options, **measure(*parts, options["windows"], options["rounds"])}, indent=1))


if __name__ == "__main__":
    main()
