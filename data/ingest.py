"""Many cases into a store: in parallel, resumable, each kept or refused on its own.

Processes read and check cases and write them aside; the one that holds the store's lock puts them in place.
Running the same ingest again changes nothing, completes what was interrupted and mends what was damaged.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasbalance.data.case import CaseOptions, CaseRequest, open_source, read_case
from kerasbalance.data.errors import DataError
from kerasbalance.data.isolate import Limits, run_isolated
from kerasbalance.data.store.casefile import build_case
from kerasbalance.data.store.facts import CaseFacts, Entry, load_entry
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.keys import Pseudonyms
from kerasbalance.data.store.store import Rejection, Store, Writer
from kerasbalance.data.store.verify import check_stored

STATUSES = ("taken", "replaced", "mended", "unchanged", "duplicate", "refused")


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Args:
        request: the case as it was asked for.
        status: one of `STATUSES`.
        facts: what is stored of it; None where it was refused.
        error: why it was refused, else None.
    """

    request: CaseRequest
    status: str
    facts: CaseFacts | None = None
    error: DataError | None = None


@dataclass(frozen=True)
class _Task:
    request: CaseRequest
    options: CaseOptions
    pseudonyms: Pseudonyms
    store: Path | None


@dataclass(frozen=True)
class _Built:
    entry: Entry
    written: Path | None
    known: bool = False


def ingest(
    requests: Sequence[CaseRequest],
    store: Store,
    pseudonyms: Pseudonyms,
    options: CaseOptions,
    *,
    jobs: int = 1,
    replace_changed: bool = False,
) -> Iterator[Outcome]:
    """Bring cases into a store.

    Cases are read in processes of their own, so a script that calls this needs the usual
    `if __name__ == "__main__":` guard.

    Args:
        requests: the cases.
        store: where they go; locked until the iterator is exhausted or closed.
        pseudonyms: the secret that the store's keys are made with.
        options: what holds for all of them.
        jobs: cases read at a time.
        replace_changed: let a case take the place of an older one of the same series with other content.

    Yields:
        One outcome a case, as they end. A case whose outcome is `taken` or `replaced` is stored for good.

    Raises:
        DataError: the store is locked, or the disk is full (codes `LOCKED`, `DISK_FULL`); what was yielded stays.
    """
    with store.writing() as writer:
        tasks = [_Task(request, options, pseudonyms, store.path) for request in requests]
        limits = Limits.for_jobs(jobs)
        refused: dict[str, Rejection] = {}
        taken: set[str] = set()
        try:
            for number, result in run_isolated(_work, tasks, jobs=jobs, limits=limits):
                outcome = _settle(writer, requests[number], result, replace_changed)
                source = pseudonyms.of("source", str(outcome.request.ct.absolute()))
                if outcome.error is not None:
                    refused[source] = Rejection(source, outcome.error.code, outcome.error.message())
                else:
                    taken.add(source)
                if outcome.facts is not None and outcome.status != "unchanged":
                    pseudonyms.remember(outcome.facts.key, outcome.request.ct)
                yield outcome
        finally:
            writer.record_rejections(refused, taken)


def examine(
    requests: Sequence[CaseRequest], pseudonyms: Pseudonyms, options: CaseOptions, *, jobs: int = 1
) -> Iterator[Outcome]:
    """Do all that `ingest` does but for writing; outcomes are `taken` or `refused`."""
    tasks = [_Task(request, options, pseudonyms, None) for request in requests]
    for number, result in run_isolated(_work, tasks, jobs=jobs, limits=Limits.for_jobs(jobs)):
        if isinstance(result, DataError):
            yield Outcome(requests[number], "refused", error=_named(result, requests[number]))
        else:
            yield Outcome(requests[number], "taken", result.entry.facts)


def _work(task: _Task) -> _Built:
    """Read one case in a worker process and write it aside, unless it is stored already."""
    source = open_source(task.request, task.options)
    store = None if task.store is None else Store(task.store)
    if store is not None:
        known = _find_source(store, source.digest)
        if known is not None:
            return _Built(known, None, known=True)
    facts, arrays = read_case(task.request, task.options, source, task.pseudonyms)
    entry, content = build_case(facts, arrays)
    return _Built(entry, None if store is None else write_aside(store.aside, content))


def _find_source(store: Store, digest: str) -> Entry | None:
    """Return the sound case that was made from the very same source, if there is one."""
    index = store.path / "index.jsonl"
    if not index.exists():
        return None
    wanted = digest.encode()
    for line in index.read_bytes().splitlines():
        entry = load_entry(line) if wanted in line else None
        if entry is not None and entry.facts.source_digest == digest:
            try:
                check_stored(store, entry)
            except DataError:
                return None  # damaged: it is made anew, and the outcome says "mended"
            return entry
    return None


def _settle(
    writer: Writer, request: CaseRequest, result: _Built | DataError, replace_changed: bool
) -> Outcome:
    if isinstance(result, DataError):
        if result.code == "DISK_FULL":
            raise result
        return Outcome(request, "refused", error=_named(result, request))
    if result.known or result.written is None:
        return Outcome(request, "unchanged", result.entry.facts)
    try:
        status = _judge(writer, result.entry, replace_changed)
    except DataError as error:
        result.written.unlink()
        return Outcome(request, "refused", error=_named(error, request))
    if status in ("unchanged", "duplicate"):
        result.written.unlink()
    else:
        writer.commit(result.entry, result.written)
    return Outcome(request, status, result.entry.facts)


def _judge(writer: Writer, entry: Entry, replace_changed: bool) -> str:
    """Decide what a newly read case is to the store.

    Raises:
        DataError: it contradicts a stored case (codes `CHANGED`, `DUPLICATE`).
    """
    facts = entry.facts
    if facts.key in writer.faults:
        return "mended"
    old = writer.entries.get(facts.key)
    if old is not None:
        if old.sha256 == entry.sha256 or _content(old.facts) == _content(facts):
            return "mended" if _is_damaged(writer, old) else "unchanged"
        if replace_changed:
            return "replaced"
        raise DataError("CHANGED", "a series that is stored with other pixels, another mask or other options",
                        "the same content as before", "pass --replace to put it in place of the old")  # fmt: skip
    twins = [
        other.facts for other in writer.entries.values() if other.facts.image_digest == facts.image_digest
    ]
    if not twins:
        return "taken"
    if any(twin.label_digest == facts.label_digest for twin in twins):
        return "duplicate"
    raise DataError("DUPLICATE", f"the images of case {twins[0].key[:8]} under another series UID, with another mask",
                    "each CT once", "decide on one mask")  # fmt: skip


def _content(facts: CaseFacts) -> tuple[object, ...]:
    return facts.image_digest, facts.label_digest, facts.patient, facts.organs


def _is_damaged(writer: Writer, entry: Entry) -> bool:
    try:
        check_stored(writer.store, entry)
    except DataError:
        return True
    return False


def _named(error: DataError, request: CaseRequest) -> DataError:
    where = request.where if error.where is None else f"{request.where}, {error.where}"
    named = DataError(error.code, error.received, error.expected, error.advice, path=error.path, where=where)
    return named if named.path is not None else _with_path(named, request.ct)


def _with_path(error: DataError, path: Path) -> DataError:
    return DataError(error.code, error.received, error.expected, error.advice, path=path, where=error.where)


def spelled_twice(facts: Sequence[CaseFacts]) -> int:
    """Return how many patients bear identifiers of more than one spelling."""
    spellings = {(case.patient, case.patient_spelling) for case in facts}
    return sum(count > 1 for count in Counter(patient for patient, _ in spellings).values())
