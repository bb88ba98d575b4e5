"""Many cases into a store: in parallel, resumable, each kept or refused on its own.

Processes read and check cases and write them aside; the one that holds the store's lock puts them in place.
Running the same ingest again changes nothing, completes what was interrupted and mends what was damaged.
"""

from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.ingest.case import CaseOptions, CaseRequest, open_case, read_opened
from kerasbalance.data.ingest.isolate import Limits, run_isolated
from kerasbalance.data.store.catalogue import load_entry
from kerasbalance.data.store.facts import CaseFacts, Entry
from kerasbalance.data.store.files import write_aside
from kerasbalance.data.store.keys import Pseudonyms
from kerasbalance.data.store.rejections import Rejection, record_rejections
from kerasbalance.data.store.sealed_case import build_case
from kerasbalance.data.store.store import Store
from kerasbalance.data.store.verify import check_stored
from kerasbalance.data.store.writer import Writer, open_writer

STATUSES = ("taken", "replaced", "mended", "unchanged", "duplicate", "refused")


@dataclass(frozen=True)
class Outcome:
    """The result of one case.

    Args:
        request: The case as it was asked for.
        status: One of `STATUSES`.
        facts: What is stored of it, for a duplicate of the case that it equals; None where it was refused.
        error: Why it was refused, else None.
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
    """The result of a worker: a file that was written aside, or nothing because the case is stored already."""

    entry: Entry
    written: Path | None = None


def ingest(
    requests: Sequence[CaseRequest],
    store: Store,
    pseudonyms: Pseudonyms,
    options: CaseOptions,
    *,
    jobs: int = 1,
    replace_changed: bool = False,
) -> Generator[Outcome, None, None]:
    """Bring cases into a store.

    Cases are read in processes of their own, so a script that calls this needs the usual
    `if __name__ == "__main__":` guard. Of two series with the same images the one that is read first is kept;
    everything else is the same for any number of jobs and any order.

    Args:
        requests: The cases.
        store: Where they go; locked until the iterator is exhausted or closed.
        pseudonyms: The secret that the store's keys are made with.
        options: What holds for all of them.
        jobs: Cases read at a time.
        replace_changed: Let a case take the place of an older one of the same series with other content.

    Yields:
        One outcome a case, as they end. A case whose status is `taken`, `replaced` or `mended` is on the disk.

    Raises:
        DataError: If the store is locked, or the disk is full or cannot be written (codes `LOCKED`, `DISK_FULL`,
            `UNWRITABLE`); what was yielded stays.
    """
    store.check_key(pseudonyms)
    with open_writer(store) as writer:
        log = _Log(pseudonyms, pseudonyms.sources())
        tasks = [_Task(request, options, pseudonyms, store.path.absolute()) for request in requests]
        try:
            # Closed, and with it the worker processes, before the lock is given back.
            with closing(run_isolated(_work, tasks, jobs=jobs, limits=Limits.for_jobs(jobs))) as results:
                for number, result in results:
                    outcome = _settle(writer, requests[number], result, replace_changed, log.keys)
                    log.note(outcome)
                    yield outcome
        except BaseException:
            with suppress(DataError, OSError):  # the first error is the one to report
                record_rejections(store, log.refused, log.taken)
            raise
        record_rejections(store, log.refused, log.taken)


@dataclass
class _Log:
    """The sources that were refused and taken, as keys, and the source of each key, which is kept outside the store."""

    pseudonyms: Pseudonyms
    links: dict[str, str]
    refused: dict[str, Rejection] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def note(self, outcome: Outcome) -> None:
        request = outcome.request
        place = request.source
        source = self.pseudonyms.of("source", f"{place}\0{request.series or request.series_uid}")
        if outcome.error is not None:
            self.refused[source] = Rejection(source, outcome.error.code, outcome.error.message())
            return
        self.taken.add(source)
        facts = outcome.facts
        if facts is not None:
            self.keys.add(facts.key)
        if facts is not None and outcome.status != "duplicate" and self.links.get(facts.key) != place:
            self.pseudonyms.remember(facts.key, Path(place))


def examine(
    requests: Sequence[CaseRequest], pseudonyms: Pseudonyms, options: CaseOptions, *, jobs: int = 1
) -> Generator[Outcome, None, None]:
    """Do all that `ingest` does but for writing; outcomes are `taken` or `refused`."""
    tasks = [_Task(request, options, pseudonyms, None) for request in requests]
    with closing(run_isolated(_work, tasks, jobs=jobs, limits=Limits.for_jobs(jobs))) as results:
        for number, result in results:
            if isinstance(result, DataError):
                yield Outcome(requests[number], "refused", error=_named(result, requests[number]))
            else:
                yield Outcome(requests[number], "taken", result.entry.facts)


def _work(task: _Task) -> _Built:
    """Read one case in a worker process and write it aside, unless it is stored already."""
    opened = open_case(task.request, task.options)
    if task.store is None:
        return _Built(build_case(*read_opened(opened, task.pseudonyms))[0])
    store = Store(task.store)
    known = _find_source(store, opened.key(task.pseudonyms), opened.digest)
    if known is not None:
        return _Built(known)
    entry, content = build_case(*read_opened(opened, task.pseudonyms))
    return _Built(entry, write_aside(store.aside, content))


def _find_source(store: Store, key: str, digest: str) -> Entry | None:
    """Return the case if it is stored, sound, and made from the very same source."""
    try:
        lines = store.index.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    wanted = digest.encode()
    for line in reversed(lines):
        entry = load_entry(line) if wanted in line else None
        if entry is not None and (entry.facts.key, entry.facts.source_digest) == (key, digest):
            try:
                check_stored(store, entry)
            except DataError:
                return None  # damaged: it is made anew, and the outcome says "mended"
            return entry
    return None


def _settle(
    writer: Writer,
    request: CaseRequest,
    result: _Built | DataError,
    replace_changed: bool,
    done: set[str],
) -> Outcome:
    if isinstance(result, DataError):
        if result.code == "DISK_FULL":
            raise result
        return Outcome(request, "refused", error=_named(result, request))
    if result.written is None:
        return Outcome(request, "unchanged", result.entry.facts)
    try:
        again = result.entry.facts.key in done
        status, facts = _judge(writer, result.entry, replace_changed and not again, again)
    except DataError as error:
        result.written.unlink()
        if error.code in ("DISK_FULL", "UNWRITABLE"):
            raise
        return Outcome(request, "refused", error=_named(error, request))
    if status in ("unchanged", "duplicate"):
        result.written.unlink()
    else:
        writer.commit(result.entry, result.written)
    return Outcome(request, status, facts)


def _judge(writer: Writer, entry: Entry, replace_changed: bool, again: bool) -> tuple[str, CaseFacts]:
    """Decide what a newly read case is to the store: a status, and the facts that are stored then.

    Args:
        writer: The store.
        entry: The new case.
        replace_changed: Whether it may take the place of a stored case of the same series.
        again: Whether this ingest had a case of the same series before.

    Raises:
        DataError: If it contradicts a stored case (codes `CHANGED`, `DUPLICATE`).
    """
    facts = entry.facts
    old, known = writer.sound(facts.key), writer.knows(facts.key)
    before = old or writer.last_facts(facts.key)
    changed = before is not None and _content(before) != _content(facts)
    if old is not None and not changed:
        return "unchanged", old
    if changed and not replace_changed:
        raise _changed(before, facts, again)
    other = writer.same_images(facts)
    if other is None:
        return ("replaced" if changed else "mended" if known else "taken"), facts
    if other.label_digest != facts.label_digest or old is not None:
        raise DataError("DUPLICATE", f"the images of case {other.key[:8]} under another series UID",
                        "each CT once, with one mask", "ingest only one of the two")  # fmt: skip
    if known:
        writer.drop(facts.key)  # damaged, and its content is stored whole under another key
    return "duplicate", other


def _changed(before: CaseFacts | None, facts: CaseFacts, again: bool) -> DataError:
    """Make the error for other content of a stored series; following its advice never loses an organ."""
    lost = [organ for organ in before.organs if organ not in facts.organs] if before else []
    together = (
        "ingest all masks of the CT as one case: in one folder, or repeat --mask, or a manifest row for each"
    )
    if again:
        received, expected = (
            "a CT series that another case of this ingest has with other content",
            "each CT once",
        )
        return DataError("CHANGED", received, expected, together)
    if lost:
        received = f"a mask with {', '.join(facts.organs)} for a series that is stored with {', '.join(lost)} as well"
        return DataError("CHANGED", received, "a mask with all stored organs", together)
    return DataError("CHANGED", "a series that is stored with other pixels, another mask or other options",
                     "the same content as before", "pass --replace to put it in place of the old")  # fmt: skip


def _content(facts: CaseFacts) -> tuple[object, ...]:
    return facts.image_digest, facts.label_digest, facts.patient, facts.organs, facts.has_uids


def _named(error: DataError, request: CaseRequest) -> DataError:
    return error.at(where=request.where, path=request.ct)


def one_patient(facts: Sequence[CaseFacts]) -> tuple[Note, ...]:
    """Return a note where several cases all bear one PatientID, as it happens after careless anonymisation."""
    if len(facts) < 2 or len({case.patient for case in facts}) > 1:
        return ()
    text = (
        f"all {len(facts)} cases are of one patient by their PatientID, so that they cannot be split; if they are of "
        "several patients, name these in the column `patient` of a --manifest"
    )
    return (Note("ONE_PATIENT", text, loud=True),)
