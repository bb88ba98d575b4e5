"""CPU seconds of a step in `kerasbalance.fit` against plain `model.fit`, and of scoring against bare forwards.

    KERAS_BACKEND=jax python benchmarks/loop.py --size 128 --filters 16

The process is pinned to one core, the members of a pair take turns, and the median of the rounds counts: other
work on the machine then disturbs both alike. The first round of each, which compiles, is not counted.
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


def compare_fits(size, filters, batch, steps, windows, rounds):
    """Return the seconds of plain fit, of ours, and of ours with a checkpoint a window, for equal steps."""
    import kerasbalance as kb

    model, dataset = make_parts(size, filters, batch, steps)

    def ours(**options):
        kb.fit(model, dataset, steps * windows, verbose=0, **options)

    def saving():
        with tempfile.TemporaryDirectory() as folder:
            ours(run_dir=folder, checkpoint_s=0)

    return alternate(
        rounds,
        plain=lambda: model.fit(dataset, epochs=windows, shuffle=False, verbose=0),
        ours=ours,
        saving=saving,
    )


def compare_scoring(size, filters, batch, slices, rounds):
    """Return the seconds of bare forwards over batches and of scoring the same slices."""
    import numpy as np

    import kerasbalance as kb

    model, dataset = make_parts(size, filters, batch, 1)
    refs = np.arange(slices) % len(dataset.source)
    batches = [dataset.source.x[refs[start : start + batch]] for start in range(0, slices, batch)]

    def bare():
        for x in batches:
            model.predict_on_batch(x)

    return alternate(rounds, bare=bare, scoring=lambda: kb.score_slices(model, dataset.source, refs, batch))


def waiting_share(size, filters, batch, steps):
    """Return the share of wall time that the training spends waiting for batches."""
    model, dataset = make_parts(size, filters, batch, steps)
    waited = []
    read = dataset._reader.get

    def timed(phase, iteration):
        begin = time.perf_counter()
        made = read(phase, iteration)
        waited.append(time.perf_counter() - begin)
        return made

    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    dataset._reader.get = timed
    begin = time.perf_counter()
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    return sum(waited) / (time.perf_counter() - begin)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("size", 128),
        ("filters", 16),
        ("batch", 4),
        ("steps", 20),
        ("windows", 3),
        ("rounds", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import keras

    size = options.size, options.filters, options.batch
    fits = compare_fits(*size, options.steps, options.windows, options.rounds)
    scoring = compare_scoring(*size, 8 * options.batch, options.rounds)
    report = {
        "backend": keras.config.backend(),
        **vars(options),
        "step_ms": {name: 1000 * s / (options.steps * options.windows) for name, s in fits.items()},
        "ours_over_plain": fits["ours"] / fits["plain"],
        "saving_over_plain": fits["saving"] / fits["plain"],
        "scoring_throughput_over_bare": scoring["bare"] / scoring["scoring"],
        "waiting_share": waiting_share(*size, options.steps),
    }
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main()
