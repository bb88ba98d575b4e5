import importlib.util
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_mining_in_a_foreign_model_finds_the_slices_made_hard(capsys):
    result = load("foreign_model").main(epochs=8)
    assert result.iteration == 72
    assert result.hard.sum() == 30
    assert np.mean(result.ref[result.hard] % 8 == 1) > 0.4  # one in eight of all slices
    assert "faint slices among the hard" in capsys.readouterr().out
