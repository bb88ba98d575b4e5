"""The command line, run in this process or in one of its own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from kerasbalance.cli.main import main as cli

TESTS = Path(__file__).parents[1]
IMPORTABLE = os.pathsep.join([str(TESTS.parent), str(TESTS)])

# Worker processes look for the package anew, from whatever folder a test is in.
os.environ["PYTHONPATH"] = IMPORTABLE


def environment(folder: Path) -> dict[str, str]:
    """Environment of a child process that imports this checkout and its tests, and keeps its keys in `folder`."""
    return os.environ | {
        "PYTHONPATH": IMPORTABLE,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONWARNINGS": "error",
    }


def run_cli(folder: Path, *words: object, **how) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "kerasbalance.cli", *map(os.fspath, map(_text, words))]
    options = {"cwd": folder, "env": environment(folder), "timeout": 120, "capture_output": True}
    return subprocess.run(command, check=False, encoding="utf-8", errors="surrogateescape", **(options | how))


def invoke(folder: Path, *words: object) -> Result:
    """Run the command line in this process, in a folder that also keeps its keys; nothing unforeseen may escape."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(
            cli, [os.fspath(_text(word)) for word in words], env={"XDG_CONFIG_HOME": str(folder / "config")}
        )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _text(word: object) -> str | os.PathLike[str]:
    return word if isinstance(word, os.PathLike) else str(word)
