"""Several masks of one CT as one mask: every organ once, and nothing lost without a word.

Archives often ship one file for each organ of a CT. Each file is read on its own and reduced to one bit per
voxel and organ, so that many masks of a large CT fit in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import DataError, Note
from kerasbalance.data.labels import OrganRule, is_paired
from kerasbalance.data.masks.mask import Mask, finish, overlap_note

Bits = NDArray[np.uint8]


@dataclass(eq=False)
class _Part:
    """The voxels of one organ so far.

    Args:
        bits: One bit for each voxel of the CT.
        source: Number of the mask that marked them first.
    """

    bits: Bits
    source: int


def merge_masks(readers: Sequence[Callable[[], Mask]], rules: tuple[OrganRule, ...] = ()) -> Mask:
    """Read several masks of one CT and put them together.

    A mask without any organ that is wanted is left out with a loud note. An organ in two masks must have the
    same voxels in both; parts of a paired organ that do not touch each other (left and right kidney) are
    joined. Of two organs on one voxel the first-named one keeps it, with a note that names both.

    Args:
        readers: Each reads one mask on the grid of the CT; called once, in order.
        rules: The organs that the user named, in the order in which they are stored; may be empty.

    Returns:
        The mask of all organs.

    Raises:
        DataError: If no mask has an organ that is wanted (code `LABEL_NAME`), if an organ differs between two
            masks (`AMBIGUOUS`), or if a mask is refused.
    """
    count = len(readers)
    parts: dict[str, _Part] = {}
    notes: list[Note] = []
    kinds: list[str] = []
    left_out: list[DataError] = []
    shape = (0, 0, 0)
    for number, read in enumerate(readers, 1):
        try:
            mask = read()
        except DataError as error:
            if error.code != "LABEL_NAME":
                raise error.at(where=f"mask {number} of {count}") from None
            left_out.append(error)
            notes.append(_left_out(error, number, count))
            continue
        shape = mask.labels.shape
        kinds.append(mask.kind)
        notes += [note for note in mask.notes if note.code != "EMPTY"]
        for value, organ in enumerate(mask.organs, 1):
            marked = _Part(np.packbits(mask.labels == value), number)
            parts[organ] = _join(organ, parts.get(organ), marked, count, rules)
    if not parts:
        raise left_out[0]
    organs = tuple(dict.fromkeys([*(rule.organ for rule in rules if rule.organ in parts), *parts]))
    labels, overlaps = _paint({organ: parts[organ].bits for organ in organs}, shape)
    unique = tuple(dict.fromkeys([*notes, *overlaps]))
    losers = frozenset(organ for organ, part in parts.items() if part.bits.any())
    return finish(labels, organs, "+".join(dict.fromkeys(kinds)), unique, losers)


def _left_out(error: DataError, number: int, count: int) -> Note:
    text = f"mask {number} of {count} was left out: {error.received}; expected {error.expected}"
    return Note("MASK_LEFT_OUT", text, loud=True)


def _join(organ: str, old: _Part | None, new: _Part, count: int, rules: tuple[OrganRule, ...]) -> _Part:
    if old is None or not old.bits.any():
        return new
    if not new.bits.any() or np.array_equal(old.bits, new.bits):
        return old
    both = _voxels(old.bits & new.bits)
    named = next((len(rule.values) for rule in rules if rule.organ == organ), 0)
    if not both and (is_paired(organ) or named > 1):
        return _Part(old.bits | new.bits, old.source)
    raise DataError(
        "AMBIGUOUS",
        f"{organ} with {_voxels(old.bits):,} voxels in mask {old.source} and with {_voxels(new.bits):,} voxels in "
        f"mask {new.source} of {count} of one CT, {both:,} of them in both",
        "the same voxels of an organ in all masks of a CT",
        "name only the mask that counts: with --mask, or in a --manifest",
    )


def _voxels(bits: Bits) -> int:
    return int(np.count_nonzero(np.unpackbits(bits)))


def _paint(parts: dict[str, Bits], shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], list[Note]]:
    organs = list(parts)
    labels = np.zeros(shape, np.uint8)
    notes = []
    for number, (organ, bits) in enumerate(parts.items(), 1):
        marked = np.unpackbits(bits, count=labels.size).reshape(shape).view(bool)
        taken = np.bincount(labels[marked], minlength=number)
        for other in np.flatnonzero(taken[1:]):
            notes.append(overlap_note(organs[other], organ, int(taken[other + 1])))
        labels[marked & (labels == 0)] = number
    return labels, notes
