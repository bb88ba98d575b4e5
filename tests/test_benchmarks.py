"""The benchmarks, as small as possible, so that they cannot rot."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BACKEND = os.environ["KERAS_BACKEND"]


@pytest.mark.parametrize(
    ("names", "least"),
    [
        pytest.param(
            ("loader", "augment", "feed", "ingest", "evaluate", "scale"),
            25,
            marks=pytest.mark.without_backend,
        ),
        (("step", "loop"), 8),
    ],
)
def test_the_tiny_benchmarks_print_a_number_a_line(names, least):
    words = [sys.executable, BENCHMARKS / "run.py", *names, "--tiny", "--backend", BACKEND]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()[2:] if not line.startswith("left out")]
    assert len(lines) >= least
    assert all(float(line[0]) >= 0 for line in lines)


def test_the_torch_network_that_steps_are_measured_against_is_the_same():
    torch = pytest.importorskip("torch")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        specification = importlib.util.spec_from_file_location("step_benchmark", BENCHMARKS / "step.py")
        step = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(step)
    finally:
        sys.path.remove(str(BENCHMARKS))
    with torch.device("meta"):
        network = step.torch_unet(64)
    assert sum(weight.numel() for weight in network.parameters()) == 31_036_481
