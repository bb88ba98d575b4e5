import importlib.util
import os
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "loop.py"


@pytest.fixture
def benchmark():
    specification = importlib.util.spec_from_file_location("loop_benchmark", PATH)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    cores = os.sched_getaffinity(0)
    yield module
    os.sched_setaffinity(0, cores)


def test_the_loop_benchmark_runs_and_its_figures_are_sane(benchmark, capsys):
    small = {"size": 32, "filters": 2, "batch": 2, "steps": 3, "windows": 2, "rounds": 1}
    report = benchmark.main([f"--{name}={value}" for name, value in small.items()])
    assert report["ours_over_plain"] > 0
    assert report["scoring_throughput_over_bare"] > 0
    assert 0 <= report["waiting_share"] < 1
    assert '"step_ms"' in capsys.readouterr().out
