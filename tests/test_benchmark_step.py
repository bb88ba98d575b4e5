import importlib.util
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "step.py"


@pytest.fixture(scope="module")
def step():
    spec = importlib.util.spec_from_file_location("step_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_of_a_step_runs(step):
    medians = step.compare(size=16, filters=2, batch=2, steps=1, rounds=1)
    assert set(medians) <= {"keras", "torch"}
    assert all(seconds > 0 for seconds in medians.values())


@pytest.mark.parametrize(("batch_norm", "weights"), [(True, 31_036_481), (False, 31_030_593)])
def test_the_torch_network_is_the_published_one_too(step, batch_norm, weights):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        network = step.torch_unet(64, batch_norm)
    assert sum(weight.numel() for weight in network.parameters()) == weights
