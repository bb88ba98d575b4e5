"""What a run will take, before it is trained."""

import re

from click.testing import CliRunner
from made import runs

from kerasbalance.cli.main import main


def test_a_dry_run_of_train_prints_iterations_time_memory_and_disk_and_writes_nothing(tmp_path):
    runs.store_of_stacks(
        tmp_path / "store", [runs.made_stack(seed, 6) for seed in range(8)], organs=("liver",)
    )
    words = ["train", str(tmp_path / "store"), "--out", str(tmp_path / "run"), "--organ", "liver", "--model",
             "made.runs:tiny_model", "--iterations", "50", "--batch-size", "4",
             "--validation-share", "0.25"]  # fmt: skip
    result = CliRunner().invoke(main, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "training: 50 iterations of 4 slices" in result.output
    scored = int(re.search(r"scoring: (\d+) slices", result.output)[1])
    assert (
        scored % 12 == 0
    )  # two cases of part A once, and two validation cases after each epoch, of 6 slices each
    assert scored >= 24
    assert re.search(r"in all: about .*GiB of memory on each device, 0\.00 GiB of disk", result.output)
    assert not (tmp_path / "run").exists()
    refused = CliRunner().invoke(main, ["train", "--out", str(tmp_path / "run"), "--resume", "--dry-run"])
    assert refused.exit_code == 2
    assert "leave out --dry-run" in refused.output
