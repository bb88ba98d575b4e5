"""Trains with mining and checkpoints in forked children that are killed at stated moments.

One process imports Keras once and forks a child for each life, since importing costs more than training. A
child either ends the run and writes its end state, or is killed.
Usage: killed_training.py FOLDER LIVES, where LIVES is a JSON list such as ["step 7", "mining 1", "save 30", 0.4].
"""

import builtins
import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np

import kerasbalance as kb
from made.training import arrays, training, variables

TOTAL, MINED_AT = 23, [4, 12]


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def countdown(number, function):
    """Return `function`, but die at its n-th call."""
    left = [number]

    def counting(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            die()
        return function(*arguments, **options)

    return counting


class Dying(keras.callbacks.Callback):
    def __init__(self, hook, number):
        super().__init__()
        setattr(self, hook, countdown(number, getattr(self, hook)))


def arm(moment, mining, callbacks):
    """Make this process die at a moment: before a step, in the n-th read of a mining, or in a save."""
    kind, number = moment.split()
    if kind == "step":
        callbacks.append(Dying("on_train_batch_begin", int(number)))
    elif kind == "epoch":
        callbacks.append(Dying("on_epoch_end", int(number)))
    elif kind == "mining":
        mining.mine = countdown(int(number), mining.mine)
    elif kind == "mined":
        mine = mining.mine
        mining.mine = lambda *arguments: (mine(*arguments), countdown(int(number), int)())[0]
    elif kind == "save":  # the n-th system call of saving
        os.fsync = countdown(int(number), os.fsync)
        os.rename = countdown(int(number), os.rename)
    elif kind == "write":
        builtins.open = countdown(int(number), builtins.open)


def live(folder, moment):
    """One life: train from the newest checkpoint, or from the start if there is none."""
    resume = any((folder / "run" / "checkpoint").glob("[0-9]*"))
    model, dataset, mining = training(iterations=MINED_AT)
    if resume:
        keras.utils.set_random_seed(os.getpid())
    best = keras.callbacks.EarlyStopping("val_dice", mode="max", patience=50, restore_best_weights=True)
    validation = kb.Validation(kb.ArraySource(*arrays(4, seed=9)), range(4), [0, 0, 1, 1], batch_size=3)
    callbacks = [mining, best, validation]
    if isinstance(moment, str):
        arm(moment, mining, callbacks)
    history = kb.fit(
        model,
        dataset,
        TOTAL,
        callbacks=callbacks,
        run_dir=folder / "run",
        resume=resume,
        checkpoint_s=0,
        validation_data=arrays(4, seed=9),
        verbose=0,
    )
    state = [*variables(model), *dataset.state().values(), *mining.state().values()]
    np.savez(folder / "end.npz", *map(np.asarray, state), history=np.array(json.dumps(history.history)))


def main():
    folder, lives = Path(sys.argv[1]), json.loads(sys.argv[2])
    killed = 0
    for moment in [*lives, None]:
        child = os.fork()
        if child == 0:
            try:
                live(folder, moment)
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                os._exit(1)
            os._exit(0)
        if isinstance(moment, float):
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -signal.SIGKILL):
            sys.exit(f"the child of {moment!r} ended with {status}")
        sys.stderr.write(f"{moment}: {status}\n")
        killed += status != 0
        if status == 0:
            break
    sys.stdout.write(json.dumps({"killed": killed}) + "\n")


if __name__ == "__main__":
    main()
