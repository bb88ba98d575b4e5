import importlib.util
from pathlib import Path

from tiny import training

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "loop.py"


def test_the_benchmark_of_the_loop_runs():
    specification = importlib.util.spec_from_file_location("loop_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    model, dataset, _ = training(steps=2)
    figures = module.measure(model, dataset, windows=1, rounds=1)
    assert figures["ours_over_plain"] > 0
    assert figures["scoring_throughput_over_bare"] > 0
    assert 0 <= figures["waiting_share"] < 1
