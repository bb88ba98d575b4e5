"""By what the arms of a study are compared: one entry a measure. A new one is one entry."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One way to compare two arms.

    Args:
        name: the word for it in options, tables and files.
        words: what is compared, in a sentence.
        statistic: how the scores of a seed are summed up, see `kerasbalance.paired_difference`.
        slices: whether the scores are those of the hard test slices, and not of the cases.
        equal_fp: whether the control is moved to the threshold at which it invents as much as the arm.
    """

    name: str
    words: str
    statistic: str
    slices: bool = False
    equal_fp: bool = False


_EQUAL = "at equal false positives"
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("mean", "mean case Dice", "mean"),
        Measure("worst-tenth", "the worst tenth of the cases", "worst tenth"),
        Measure("minimum", "the worst case", "minimum"),
        Measure("hard-slices", "the hard slices", "mean", slices=True),
        Measure("mean-at-equal-fp", f"mean case Dice {_EQUAL}", "mean", equal_fp=True),
        Measure(
            "worst-tenth-at-equal-fp", f"the worst tenth of the cases {_EQUAL}", "worst tenth", equal_fp=True
        ),
        Measure("hard-slices-at-equal-fp", f"the hard slices {_EQUAL}", "mean", slices=True, equal_fp=True),
    )
}
DEFAULT = ("mean", "worst-tenth-at-equal-fp", "hard-slices-at-equal-fp")
