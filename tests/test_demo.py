"""The demo from end to end: minutes, so only with `pytest -m large`."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from kerasbalance.cli.main import main


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_the_demo_learns_the_liver_to_a_mean_case_dice_of_090_on_unseen_cases(tmp_path):
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "demo" / "run" / "eval" / "cases.csv").open(newline="") as file:
        dice = [float(row["dice"]) for row in csv.DictReader(file)]
    assert len(dice) == 10
    assert np.mean(dice) >= 0.90
    assert (tmp_path / "demo" / "run" / "report.html").exists()
