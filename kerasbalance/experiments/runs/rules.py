"""Which slices are hard, as a word of the command line: one entry a rule. A new one is one entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kerasbalance as kb
from kerasbalance.data.errors import DataError
from kerasbalance.experiments.runs.parts import PART_B, VALIDATION

if TYPE_CHECKING:
    from kerasbalance.batches.index import Refs
    from kerasbalance.mining.rules import Rule

CaseSlices = Callable[[str], "tuple[Refs, Refs]"]
"""Returns the slices of a part of the split, int64 `(slices,)`, and the number of the case of each."""
_REFERENCES = (VALIDATION, PART_B)


@dataclass(frozen=True)
class RuleForm:
    """One rule.

    Args:
        name: The word before the colon.
        value: What stands after it, for help.
        read: Reads that; a ValueError refuses it.
        make: Makes the rule from what was read and the slices of a run.
        expected: Which values there are, in words.
    """

    name: str
    value: str
    read: Callable[[str], Any]
    make: Callable[[Any, CaseSlices], "Rule"]
    expected: str


@dataclass(frozen=True)
class ChosenRule:
    """A rule as it was chosen on the command line.

    Args:
        form: Which rule.
        value: What it was given: a number, or a part of the split.
    """

    form: RuleForm
    value: Any

    def make(self, slices_of: CaseSlices) -> "Rule":
        """Return the rule for a run.

        Args:
            slices_of: The slices of the run's parts, for a rule that compares with other cases.
        """
        return self.form.make(self.value, slices_of)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _part(text: str) -> str:
    return _REFERENCES[_REFERENCES.index(text)]


RULES = {
    form.name: form
    for form in (
        RuleForm("below", "SCORE", _share, lambda score, _: kb.below(score), "a number from 0 to 1"),
        RuleForm("lowest", "SHARE", _share, lambda share, _: kb.lowest(share), "a number from 0 to 1"),
        RuleForm(
            "below_worst_case", "PART", _part, lambda part, slices_of: kb.below_worst_case(*slices_of(part)),
            " or ".join(_REFERENCES),
        ),
    )
}  # fmt: skip
RULE_FORMS = ", ".join(f"{form.name}:{form.value} ({form.expected})" for form in RULES.values())


def parse_rule(text: str) -> ChosenRule:
    """Read a rule such as "below:0.923", "lowest:0.15" or "below_worst_case:validation".

    Raises:
        DataError: If it is no rule, or its value is out of range (code `USAGE`).
    """
    name, _, value = text.partition(":")
    try:
        form = RULES[name]
        return ChosenRule(form, form.read(value))
    except (KeyError, ValueError):
        raise DataError("USAGE", f"rule {text!r}", RULE_FORMS,
                        "correct --rule, for example --rule lowest:0.15") from None  # fmt: skip
