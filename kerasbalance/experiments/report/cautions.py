"""What a reader of a report should be warned of, in plain words."""

from collections.abc import Iterator, Sequence

from kerasbalance.data.errors import Note
from kerasbalance.data.store import CaseFacts
from kerasbalance.evaluation.summaries import OrganSummary
from kerasbalance.experiments.report.contents import Contents

FEW_TEST, FEW_TRAINING = 20, 20
LOW_DICE = 0.5
FALSE_SHARE = 0.05
SPACING_FACTOR, SLICE_FACTOR = 1.5, 2.0
MOST_NOTES = 8


def cautions(contents: Contents, facts: Sequence[CaseFacts]) -> list[str]:
    """Return the warnings of a run, plain text, the gravest first.

    Args:
        contents: what the run's folder holds.
        facts: what the store says of the run's cases.
    """
    found = [text for organ in contents.summary for text in _organ(contents, organ)]
    return [*found, *_mining(contents), *_counts(contents), *_spacings(facts), *_notes(contents, facts)]


def _organ(contents: Contents, organ: OrganSummary) -> Iterator[str]:
    name, total = organ.organ, organ.cases
    present = [case for case in contents.cases if case.organ == name and not case.absent]
    low = sorted((case.dice, case.case[:8]) for case in present if case.dice < LOW_DICE)
    if low and len(low) == len(present):
        yield (f"{name}: not learned. No test case reaches a Dice of {LOW_DICE:g}; train longer (--iterations), or "
               "look at the masks of the hardest slices below.")  # fmt: skip
    elif low:
        keys = ", ".join(key for _, key in low[:MOST_NOTES])
        yield f"{name}: failed in {_of(len(low), total, 'test case')}, with a Dice under {LOW_DICE:g} ({keys})."
    infinite = organ.metrics["hd95_mm"].infinite
    if infinite:
        yield (f"{name}: in {_of(infinite, total, 'test case')} only one of the two masks shows it. The distances are "
               "then infinite; the mean and SD of the distances leave these cases out.")  # fmt: skip
    if organ.absent:
        yield f"{name}: in neither mask of {_of(organ.absent, total, 'test case')}, which count in no average."
    if organ.false_positive_slices > FALSE_SHARE * organ.empty_slices:
        yield (f"{name}: predicted on {organ.false_positive_slices} of the {organ.empty_slices} test slices that do "
               "not show it. Dice of whole cases hides this.")  # fmt: skip


def _mining(contents: Contents) -> Iterator[str]:
    table = contents.mining
    if table is None or not len(table):
        return
    if contents.threshold < LOW_DICE:
        yield (f"The model had learned little when it scored part A (threshold {contents.threshold:.3f}): which slices "
               "were called hard is then mostly chance. Mine later (--mine-at) or train longer.")  # fmt: skip
    share = float(table.hard.mean())
    if share > 0.4:
        yield f"{100 * share:.0f} % of part A was called hard, which is hardly a selection; see --rule."


def _counts(contents: Contents) -> Iterator[str]:
    test = [row for row in contents.rows if row.part == "test"]
    training = [row for row in contents.rows if row.part in ("A", "B")]
    if len(test) < FEW_TEST:
        spread = [
            f"{2 * organ.metrics['dice'].sd / organ.metrics['dice'].count ** 0.5:.3f} ({organ.organ})"
            for organ in contents.summary
            if organ.metrics["dice"].count > 1
        ]
        known = (
            f"; the mean Dice is known to about ± {', ± '.join(spread)}, twice its standard error"
            if spread
            else ""
        )
        yield f"Only {_count(len(test), 'test case')}{known}. The worst case is one patient."
    if len(training) < FEW_TRAINING:
        yield f"Only {_count(len(training), 'training case')}: expect the model to fail on CT that looks different."


def _spacings(facts: Sequence[CaseFacts]) -> Iterator[str]:
    pixels = [case.spacing_mm[1] for case in facts]
    between = [case.spacing_mm[0] for case in facts if case.spacing_mm[0]]
    if pixels and max(pixels) > SPACING_FACTOR * min(pixels):
        yield (f"Pixels from {min(pixels):.2f} to {max(pixels):.2f} mm: the network sees an organ at very different "
               "sizes.")  # fmt: skip
    if between and max(between) > SLICE_FACTOR * min(between):
        yield (f"Slices from {min(between):.1f} to {max(between):.1f} mm apart: a case of thin slices brings more of "
               "them, and weighs more in training.")  # fmt: skip


def _notes(contents: Contents, facts: Sequence[CaseFacts]) -> Iterator[str]:
    parts = {row.case: row.part for row in contents.rows}
    notes = [(case.key, note.text) for case in facts for note in case.warnings if _concerns(note, contents)]
    for key, text in notes[:MOST_NOTES]:
        yield f"Case {key[:8]} ({parts.get(key, 'unused')}): {text}"
    if len(notes) > MOST_NOTES:
        yield f"And {len(notes) - MOST_NOTES} more remarks on cases; kerasbalance info shows them all."


def _concerns(note: Note, contents: Contents) -> bool:
    """Say whether a note is on the run's organs; the check of HU names the organ first."""
    return note.code != "HU_SPREAD" or note.text.partition(":")[0] in contents.record.options.organs


def _of(part: int, total: int, noun: str) -> str:
    return f"{part} of {_count(total, noun)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
