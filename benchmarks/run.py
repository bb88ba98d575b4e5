"""Print a table of ratios, each from one run.

python benchmarks/run.py                       # everything, on every backend that is installed
python benchmarks/run.py loader scale          # some of it
python benchmarks/run.py step --backend torch  # one backend
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from measure import Row, is_installed, machine, one_core

TINY = {
    "loader": {"slices": 8, "size": 32, "cases": 2, "repeats": 1},
    "augment": {"size": 32, "batches": 2, "repeats": 1},
    "feed": {"slice_s": 0.0001, "step_s": 0.001, "steps": 3},
    "ingest": {"slices": 4, "size": 32, "repeats": 1},
    "evaluate": {"slices": 16, "size": 48, "repeats": 1},
    "scale": {"counts": (2, 4), "entries": (10,)},
    "step": {"size": 32, "filters": 2, "batch": 2, "steps": 1, "rounds": 1, "precisions": ("float32",)},
    "loop": {"size": 32, "filters": 2, "batch": 2, "steps": 2, "rounds": 1},
}
"""Every benchmark, and the settings with which it runs in a moment and only shows that it runs."""
WITH_KERAS = ("step", "loop")
"""These import Keras and run once for each backend, in a process of its own."""
BACKENDS = ("tensorflow", "jax", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*TINY, []], help="which; all by default")
    parser.add_argument(
        "--tiny", action="store_true", help="as small as possible: shows that it runs, no more"
    )
    parser.add_argument(
        "--backend", action="append", choices=BACKENDS, help="which; all that are installed by default"
    )
    parser.add_argument("--json", action="store_true", help="one JSON list a figure, for programs")
    options = parser.parse_args()
    backends = options.backend or [name for name in BACKENDS if is_installed(name)]
    if not options.json:
        print(machine())
        print(f"{'':9} {'aim':>8}")
    for name in options.names or TINY:
        if name in WITH_KERAS and not (options.json and len(options.names) == 1 and len(backends) == 1):
            for backend in backends:
                _elsewhere(name, backend, options.tiny, options.json)
        else:
            if name in WITH_KERAS:
                os.environ["KERAS_BACKEND"] = backends[0]
                one_core()
            for row in importlib.import_module(name).run(**(TINY[name] if options.tiny else {})):
                _show(row, options.json)


def _elsewhere(name: str, backend: str, tiny: bool, as_json: bool) -> None:
    command = [
        sys.executable,
        str(Path(__file__)),
        name,
        "--json",
        "--backend",
        backend,
        *(["--tiny"] if tiny else []),
    ]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    for line in done.stdout.splitlines():
        if line.startswith("["):
            _show(Row(*json.loads(line)), as_json)
        else:
            print(line)


def _show(row: Row, as_json: bool) -> None:
    print(
        json.dumps(row) if as_json else f"{row.number:9.3g} {row.aim:>8}  {row.what}  [{row.unit}]",
        flush=True,
    )


if __name__ == "__main__":
    main()
