"""Compare our defaults with nnU-Net's 2D trainer and a plain training: same cases, same CPU seconds on one core.

python benchmarks/quality.py --out quality             # many core hours; goes on where it stopped
python benchmarks/quality.py --out quality --regimes few --minutes 5 --seeds 1
python benchmarks/quality.py --out quality --table                # only print what there is

nnU-Net is a peer: `pip install nnunetv2`. A contender that is not installed is left out, and named.
"""

import argparse
import json
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
from contenders import ours
from contenders.cases import REGIMES, UNSEEN, write_cases
from measure import is_installed, machine, one_core

import kerasbalance as kb

CONTENDERS = ("nnunet", *ours.WAYS)
TEST_CASES = 20
WORST_SHARE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of cases, runs and results.jsonl")
    parser.add_argument("--regimes", nargs="*", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--contenders", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--minutes", nargs="*", type=float, default=[5.0, 15.0], help="CPU minutes a training"
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--table", action="store_true", help="train nothing, print what there is")
    options = parser.parse_args()
    one_core()
    results = options.out / "results.jsonl"
    if not options.table:
        for minutes, seed, regime, name in product(
            options.minutes, options.seeds, options.regimes, options.contenders
        ):
            if name == "nnunet" and not is_installed("nnunetv2"):
                print("left out, not installed: nnunetv2")
                continue
            key = {"regime": regime, "minutes": minutes, "seed": seed, "contender": name}
            if not any(key.items() <= row.items() for row in _read(results)):
                row = key | _measure(options.out, regime, minutes, seed, name)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    _show(_read(results))


def _read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _measure(out: Path, regime: str, minutes: float, seed: int, name: str) -> dict[str, object]:
    dataset = write_cases(out / f"{regime}-{seed}", REGIMES[regime], seed, TEST_CASES)
    place = out / f"{regime}-{seed}" / f"{name}-{minutes:g}"
    place.mkdir(exist_ok=True)
    print(f"{regime}, seed {seed}, {minutes:g} minutes, {name}", flush=True)
    if name == "nnunet":
        script = Path(__file__).with_name("contenders") / "nnunet.py"
        command = [sys.executable, script, dataset, minutes * 60, seed, place]
        done = subprocess.run([str(word) for word in command], check=True, text=True, stdout=subprocess.PIPE)
        costs = json.loads(done.stdout.splitlines()[-1])
    else:
        costs = ours.run(ours.WAYS[name], dataset, minutes * 60, seed, place)
    return costs | _judge(dataset.parent / UNSEEN[1], place)


def _judge(references: Path, predictions: Path) -> dict[str, object]:
    """Return Dice and HD95 of each unseen case, on the grid of its CT."""
    cases = []
    for path in sorted(references.glob("*.nii.gz")):
        reference = nibabel.load(path)
        prediction = nibabel.load(predictions / path.name)
        columns, rows, slices = (float(size) for size in reference.header.get_zooms())
        volumes = [
            np.transpose(np.asarray(image.dataobj) == 1, (2, 1, 0)) for image in (prediction, reference)
        ]
        cases.append(kb.evaluate_case(*volumes, (slices, rows, columns), case=path.name, organ="liver"))
    return {"dice": [case.dice for case in cases], "hd95_mm": [case.hd95_mm for case in cases]}


def _show(rows: list[dict[str, object]]) -> None:
    """Print a table in Markdown: a line for each regime, budget and contender, the mean over its seeds."""
    print(machine())
    print("| cases | CPU minutes | contender | seeds | iterations | case Dice | worst tenth | HD95 mm |")
    print("|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, float, str], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault((row["regime"], row["minutes"], row["contender"]), []).append(row)
    for (regime, minutes, name), group in sorted(groups.items(), key=lambda item: item[0]):
        words = "nnU-Net 2D" if name == "nnunet" else ours.WAYS[name].words
        figures = [f"{statistics.mean(row['iterations'] for row in group):.0f}",
                   _spread([np.nanmean(row["dice"]) for row in group], 3),
                   _spread([_worst(row["dice"]) for row in group], 3),
                   _spread([np.nanmean(row["hd95_mm"]) for row in group], 1)]  # fmt: skip
        print(f"| {REGIMES[regime].words} | {minutes:g} | {words} | {len(group)} | {' | '.join(figures)} |")


def _worst(dice: list[float]) -> float:
    return float(np.mean(sorted(dice)[: max(1, round(WORST_SHARE * len(dice)))]))


def _spread(values: list[float], digits: int) -> str:
    """Return the mean over seeds, with the SD of the seeds where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
