"""Stores of cases that were never read from anywhere, and ingests into stores."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasbalance.data.ingest.case import CaseOptions, CaseRequest
from kerasbalance.data.ingest.ingest import Outcome, ingest
from kerasbalance.data.store import CaseFacts, Entry, Pseudonyms, SliceStore, Store
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.sealed_case import CaseArrays, build_case
from kerasbalance.data.store.writer import open_writer
from made import commands  # noqa: F401  # lets worker processes import this checkout

SECRET = bytes(range(32))


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
    with open_writer(store) as writer:
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
