"""Freed feature maps are used again, and not cleared by the system for each batch."""

import os
import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, sys
import numpy as np
from kerasbalance.cli.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
def maps():
    for megabytes in (24, 40, 24):
        np.full(megabytes * 2**20, 1, np.uint8)
maps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    maps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **environment):
    """Pages of 4 KiB that the system handed out while blocks of 24 and 40 MiB came and went ten times."""
    words = [sys.executable, "-c", CHURN, how]
    plain = {
        name: value for name, value in os.environ.items() if "MALLOC" not in name and "GLIBC" not in name
    }
    plain["NUMPY_MADVISE_HUGEPAGE"] = "0"  # NumPy asks for pages of 2 MiB, Keras' backends do not
    return int(subprocess.run(words, capture_output=True, check=True, env=plain | environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_command_asks_the_system_for_its_memory_once():
    assert faults("kept") < 1_000 < 100_000 < faults("as it is")
    assert faults("kept", MALLOC_MMAP_THRESHOLD_="131072") > 100_000  # whoever sets it is obeyed
