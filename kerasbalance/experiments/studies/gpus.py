"""Which GPU each of several processes of one machine uses."""

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"


def gpu_of(slot: int, environment: Mapping[str, str], installed: int) -> str | None:
    """Return the GPU for one of several processes, as `CUDA_VISIBLE_DEVICES` names it.

    Args:
        slot: Which process, from 0; more processes than GPUs share them in turn.
        environment: Of this process. A `CUDA_VISIBLE_DEVICES` in it is respected: only GPUs that it names are given.
        installed: The number of GPUs of this machine.

    Returns:
        One name, or None where there is nothing to choose: no GPU, or all of them are hidden.
    """
    named = environment.get(VARIABLE)
    if named is None:
        names = [str(number) for number in range(installed)]
    else:
        names = [name.strip() for name in named.split(",")]
    usable = [name for name in names if name not in ("", "-1", "NoDevFiles")]
    return usable[slot % len(usable)] if usable else None


def use_one_gpu(slot: int) -> None:
    """Let this process see one GPU only, its own; call it before anything imports a backend."""
    gpu = gpu_of(slot, os.environ, len(list(Path("/dev").glob("nvidia[0-9]*"))))
    if gpu is not None:
        os.environ[VARIABLE] = gpu
