"""Trains in one of several processes that share every batch, and prints as JSON what came of it.

Usage: joined_training.py FOLDER. Keras' own variables KERAS_DISTRIBUTION_... in the environment say which process this
is. First a training without a distribution is tried, then a whole one, then one that process 1 is asked to stop.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import keras
import numpy as np

import kerasbalance as kb
from kerasbalance.backend.devices import host_value
from kerasbalance.backend.processes import join_processes, process_share
from made.spread_training import STEPS, StopAt, parts


def trained(run_dir, resume=False, stop=()):
    """Train to the end; return what can be compared."""
    model, dataset, mining = parts(kb.DiceLoss())
    rows, read = [0], dataset.source.read

    def counting(refs, flips):
        rows[0] += len(refs)
        return read(refs, flips)

    dataset.source.read = counting
    callbacks = [mining, StopAt(stop)]
    history = kb.fit(
        model, dataset, STEPS, callbacks=callbacks, run_dir=run_dir, resume=resume, checkpoint_s=0, verbose=0
    )
    scores = kb.score_slices(model, dataset.source, np.arange(13), 6)
    return {
        "loss": history.history["loss"],
        "index": hashlib.sha256(dataset.index.refs.tobytes()).hexdigest(),
        "weights": [host_value(variable).ravel().tolist() for variable in model.variables],
        "scores": scores.counts.ravel().tolist(),
        "rows": rows[0],
    }


def main():
    folder = Path(sys.argv[1])
    join_processes()
    found = {}
    try:
        trained(folder / "refused")
    except ValueError as error:
        found["refused"] = str(error)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    found["whole"] = trained(folder / "whole")
    try:
        trained(folder / "stopped", stop=(5,) if process_share()[0] == 1 else ())
    except kb.Interrupted as interruption:
        found["stopped"] = [interruption.iteration, interruption.exit_code]
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)  # the other process may have ended already
