"""How the C library hands out memory to a command's process."""

import ctypes
import os

_TRIM, _MAP = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of glibc's `mallopt`, see its manual page."""
_KEPT_BYTES, _MAPPED_BYTES = 256 * 2**20, 64 * 2**20


def keep_freed_memory() -> None:
    """Let freed memory be used again, instead of being given back to the system and asked for anew.

    A forward pass frees its feature maps after each batch. glibc gives back what it has more than 32 MiB of, and the
    system clears it before it hands it out again: on PyTorch and JAX a tenth of the CPU time and more. Whoever sets
    glibc's own variables is left alone, as are other C libraries.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM, _KEPT_BYTES)
        mallopt(_MAP, _MAPPED_BYTES)
