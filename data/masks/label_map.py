"""Masks that are stacks of numbers (image files, DICOM image series, PNG), alone or one stack for each organ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasbalance.data.errors import Note
from kerasbalance.data.labels import OrganRule
from kerasbalance.data.masks.mask import Canvas, Mask, Request, finish
from kerasbalance.data.masks.names import Structure, select
from kerasbalance.data.masks.placing import is_known, place
from kerasbalance.data.masks.values import count_values, translate, value_table
from kerasbalance.data.volume.geometry import Grid


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A stack of label values before anyone has said what they mean.

    Args:
        planes: Gives the slices `(rows, columns)` in order, each time it is called.
        grid: Where they lie.
        kind: As in `Mask`.
        notes: What was tolerated.
    """

    planes: Callable[[], Iterator[NDArray[Any]]]
    grid: Grid
    kind: str
    notes: tuple[Note, ...] = ()

    def organs(self, rules: tuple[OrganRule, ...]) -> tuple[NDArray[np.uint8], tuple[Note, ...]]:
        """Return organ numbers (from 1) on the stack's own grid; raises as `values.value_table`."""
        table, notes = value_table(count_values(self.planes()), rules)
        return translate(self.planes(), table, self.grid.shape), (*self.notes, *notes)


def mask_from_label_map(label_map: LabelMap, request: Request) -> Mask:
    """Turn one stack, whose values the rules name, into a mask."""
    labels, notes = label_map.organs(request.rules)
    placed, remarks = place(labels, label_map.grid, request, is_known=is_known(label_map.notes))
    organs = tuple(rule.organ for rule in request.rules)
    return finish(placed, organs, label_map.kind, (*notes, *remarks))


def mask_from_parts(
    names: Sequence[str], load: Callable[[int], LabelMap], request: Request, *, word: str
) -> Mask:
    """Turn one two-valued stack for each organ or half organ into a mask.

    Args:
        names: What each stack is called.
        load: Reads the stack of a given position in `names`; called only for those that the rules select.
        request: Rules without values, or with names.
        word: What a part is called in messages, `"file"` or `"folder"`.
    """
    structures = [Structure(number, name) for number, name in enumerate(names)]
    selection = select(structures, request.rules, word=word)
    canvas = Canvas(request.volume.grid.shape, selection.organs)
    notes, kind = [], ""
    for number, organ in sorted(selection.organ_of.items(), key=lambda item: (item[1], item[0])):
        part = load(number)
        labels, remarks = part.organs((OrganRule(selection.organs[organ]),))
        placed, more = place(labels, part.grid, request, is_known=is_known(part.notes))
        for slice_number in range(len(placed)):
            canvas.paint(slice_number, organ, placed[slice_number] > 0)
        notes += [*remarks, *more]
        kind = part.kind
    unique = tuple(dict.fromkeys([*notes, *canvas.notes()]))
    return finish(canvas.labels, selection.organs, kind, unique, canvas.losers)
