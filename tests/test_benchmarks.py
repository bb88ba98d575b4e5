"""The benchmarks of reading, loading and evaluating, as small as possible, so that they cannot rot."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tiny_benchmarks_print_ratios():
    words = [sys.executable, BENCHMARKS / "run.py", "--tiny"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(" ")]
    assert len(lines) >= 6
    assert all(float(line[0]) > 0 for line in lines)
