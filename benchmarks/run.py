"""Print a table of ratios, each from one run: `python benchmarks/run.py [--tiny] [NAME ...]`."""

import argparse
import importlib

from measure import machine

TINY = {
    "ingest": {"slices": 4, "size": 32, "repeats": 1},
    "evaluate": {"slices": 16, "size": 48, "repeats": 1},
    "loader": {"slices": 8, "size": 32, "cases": 2, "repeats": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*TINY, []], help="which; all by default")
    parser.add_argument(
        "--tiny", action="store_true", help="as small as possible: shows that it runs, no more"
    )
    options = parser.parse_args()
    print(machine())
    for name in options.names or TINY:
        settings = TINY[name] if options.tiny else {}
        for label, ratio, meaning in importlib.import_module(name).run(**settings):
            print(f"{ratio:8.2f}  {label}  [{meaning}]")


if __name__ == "__main__":
    main()
