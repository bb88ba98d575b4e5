import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

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


NEEDS = {"digits": "sklearn", "torch_dataset": "torch"}


@pytest.mark.parametrize("name", ["digits", "signals", "torch_dataset", "encoder", "neighbours"])
def test_an_example_prints_what_was_mined_beside_a_run_without_mining(name, capsys):
    pytest.importorskip(NEEDS.get(name, "keras"))
    result = load(name).main(epochs=2)
    printed = capsys.readouterr().out
    assert 0 < result.hard.sum() <= 140
    assert repr(result) in printed
    assert "with mining" in printed
    assert "as many steps without" in printed


def test_every_example_stands_on_the_page_of_examples():
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r"examples/(\w+\.py)\)", page))


def test_the_digits_that_are_mined_are_those_with_the_largest_loss():
    """The loss is computed from the probabilities by scikit-learn, one digit at a time."""
    metrics = pytest.importorskip("sklearn.metrics")
    model, dataset, mining, _ = load("digits").prepare(at=20)
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    result = mining.mine(model, 20)
    source = dataset.source
    # The sum makes them what log_loss expects: float32 ones do not add up to 1 exactly.
    probabilities = np.asarray(model.predict_on_batch(source.x), np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = list(range(10))
    losses = np.array(
        [metrics.log_loss([y], p[None], labels=labels) for y, p in zip(source.y, probabilities, strict=True)]
    )
    threshold = np.sort(losses)[-140]
    assert result.hard.sum() == 140
    assert losses[result.ref[result.hard]].min() >= threshold - 1e-5
    np.testing.assert_allclose(1 / result.score - 1, losses, rtol=1e-3, atol=1e-5)
