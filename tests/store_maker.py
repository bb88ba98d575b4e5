"""Makes cohorts of small CT with masks as NIfTI, cases without any source, and runs the command line."""

import contextlib
import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
from click.testing import CliRunner, Result

from kerasbalance.cli.main import main as cli
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.ingest.ingest import Outcome, ingest
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.store import CaseFacts, Entry, Pseudonyms, SliceStore, Store
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.sealed_case import CaseArrays, build_case

ROOT = Path(__file__).parents[1]

# Worker processes look for the package anew, from whatever folder a test is in.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])

LIVER = (OrganRule("liver", (1,)),)
SECRET = bytes(range(32))
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def made_pair(seed: int, *, slices: int = 5, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels `(slices, rows, columns)`: air, noise, a liver of 60 HU, and a spleen."""
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 1500, (slices, size, size)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[1:-1, 3 : 9 + seed % 5, 4:10] = 1
    labels[2:, size - 7 : size - 2, 2:8] = 2
    hu[labels > 0] = 60 + rng.integers(-15, 15, int((labels > 0).sum()))
    return hu, labels


def write_nifti(path: Path, volume: np.ndarray, spacing_mm=(3.0, 0.8, 0.8)) -> Path:
    """Write `(slices, rows, columns)`, canonical (columns to the left, rows to the back)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = LPS_TO_RAS @ np.diag([*spacing_mm[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(volume.transpose(2, 1, 0)), affine), path)
    return path


def make_cohort(folder: Path, cases: int = 4, **shape: int) -> list[CaseRequest]:
    """Write cases as NIfTI, with a manifest, and name them as requests."""
    requests = []
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ct", "mask", "patient", "labels"])
        for n in range(cases):
            hu, labels = made_pair(n, **shape)
            ct = write_nifti(folder / f"ct{n:03d}.nii", hu)
            mask = write_nifti(folder / f"mask{n:03d}.nii", labels)
            rows.writerow([ct.name, mask.name, f"P{n}", "liver=1;spleen=2"])
            rules = (OrganRule("liver", (1,)), OrganRule("spleen", (2,)))
            requests.append(CaseRequest(ct, mask, rules, f"P{n}", where=f"case {n + 1} of {cases}"))
    return requests


def key_file(folder: Path) -> Path:
    """Write the secret that all tests share, so that the same cohort always gives the same store."""
    path = folder / "keys" / "secret.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SECRET)
    return path


def open_store(folder: Path) -> tuple[Store, Pseudonyms]:
    """Make or open the store at `folder / "store"`."""
    pseudonyms = Pseudonyms.load(key_file(folder))
    return Store.create(folder / "store", pseudonyms), pseudonyms


def take(
    folder: Path, requests: list[CaseRequest], options: CaseOptions | None = None, **how
) -> list[Outcome]:
    """Ingest into the store at `folder / "store"` and return the outcomes in the order of the requests."""
    store, pseudonyms = open_store(folder)
    outcomes = list(ingest(requests, store, pseudonyms, options or CaseOptions(), **how))
    return sorted(outcomes, key=lambda outcome: requests.index(outcome.request))


def statuses(outcomes: list[Outcome]) -> list[str]:
    """The statuses, a refusal by its code."""
    return [o.error.code if o.error else o.status for o in outcomes]


def made_facts(key: str = "0" * 32, shape=(4, 16, 12), organs=("liver", "spleen"), **changes) -> CaseFacts:
    """Facts of a case that was never read from anywhere."""
    facts = CaseFacts(
        key=key, patient="a" * 32, patient_spelling="b" * 32,
        slices=shape[0], rows=shape[1], columns=shape[2], spacing_mm=(3.0, 0.8, 0.8), organs=organs,
        organ_hu=tuple(() for _ in organs), hu_percentiles=(-1000.0, 0.0, 100.0),
        source_kind="nifti", mask_kind="nifti", tags={}, notes=(), source_digest="c" * 64, reader_version="1",
    )  # fmt: skip
    return replace(facts, **changes)


def made_arrays(seed: int = 0, shape=(4, 16, 12), organs: int = 2) -> CaseArrays:
    """Random HU and labels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-1024, 3071, shape).astype(np.int16)
    mask = rng.integers(0, organs + 1, shape).astype(np.uint8)
    mask[0] = 0
    return CaseArrays(image, mask, np.arange(shape[0]) * 3.0)


def add_case(store: Store, facts: CaseFacts, arrays: CaseArrays) -> Entry:
    """Put a case that was never read from anywhere into a store."""
    entry, content = build_case(facts, arrays)
    with store.writing() as writer:
        writer.commit(entry, write_aside(store.aside, content))
    return entry


def made_store(folder: Path, cases: int = 3, shape=(4, 16, 12), organs=("liver", "spleen")):
    """A store of random cases at `folder / "store"`: the store, and arrays by key."""
    store, pseudonyms = open_store(folder)
    arrays = {}
    for n in range(cases):
        key = pseudonyms.of("made", str(n))
        arrays[key] = made_arrays(n, shape, len(organs))
        add_case(store, made_facts(key, shape, organs), arrays[key])
    return store, arrays


def digest(folder: Path) -> str:
    """Digest of the store at `folder / "store"`."""
    return SliceStore(folder / "store").digest


def environment(folder: Path) -> dict[str, str]:
    """Environment of a child process that imports this checkout and this file, and keeps its keys in `folder`."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return os.environ | {
        "PYTHONPATH": paths,
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


def main(folder: str, source: str, jobs: str) -> None:
    """Ingest a cohort and print each outcome at once: what a killed process had reported as done."""
    from kerasbalance.data.ingest.layouts import find_cases

    store, pseudonyms = open_store(Path(folder))
    requests = find_cases(Path(source)).requests
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for outcome in ingest(requests, store, pseudonyms, CaseOptions(), jobs=int(jobs)):
        key = outcome.facts.key if outcome.facts else "-"
        sys.stdout.write(f"{outcome.status} {key} {outcome.request.ct.name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
