"""Sources keep one contract, and `check_source` finds the ones that do not."""

import numpy as np
import pytest
from made.runs import made_stack, store_of_stacks
from made.training import arrays

import kerasbalance as kb
from kerasbalance.testing import check_source


@pytest.mark.parametrize("y", [arrays()[1], arrays()[1][..., 0]])
def test_an_array_source_keeps_the_contract(y):
    check_source(kb.ArraySource(arrays()[0], y))


def test_the_source_of_a_store_keeps_the_contract(tmp_path):
    store = store_of_stacks(tmp_path / "store", [made_stack(seed) for seed in range(2)], organs=("liver",))
    check_source(store.source("liver"), store.refs("liver"))


class Broken(kb.ArraySource):
    """Reads as it should but for one thing."""

    def __init__(self, fault):
        super().__init__(*arrays())
        self.fault, self.reads = fault, 0

    def __len__(self):
        return 0 if self.fault == "empty" else super().__len__()

    def read(self, refs, flips):
        self.reads += 1
        if self.fault == "lenient":
            refs = np.asarray(refs) % len(self.x)
        x, y = super().read(np.sort(refs) if self.fault == "sorted" else refs, flips)
        if self.fault == "unpaired":
            y = super().read(refs, np.zeros_like(flips))[1]
        return {
            "flat": (x[..., 0], y), "list": [x, y], "short": (x, y[1:]), "other size": (x, y[:, 1:]),
            "text": (x.astype(str), y),
            "random": (x + self.reads, y), "dtype": (x.astype("float32" if self.reads < 3 else "float64"), y),
        }.get(self.fault, (x, y))  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            "empty",
            "received a source of length 0; expected at least one sample; pass a source that holds data",
        ),
        ("flat", r"arrays of shapes \(3, 8, 8\), \(3, 8, 8, 1\); .*; set the attribute can_flip .* to False"),
        (
            "other size",
            r"arrays of shapes \(3, 8, 8, 1\), \(3, 7, 8, 1\); expected images .* with masks of their",
        ),
        ("list", "a batch of type list; expected .*; return a tuple"),
        (
            "short",
            r"targets of shape \(2, 8, 8, 1\) for 3 refs; .*; return one row for each ref in every array",
        ),
        ("text", "inputs of dtype <U32; expected numbers; convert them in read"),
        ("sorted", "other inputs for refs in another order or repeated; .*; make read depend on nothing but"),
        ("unpaired", "other targets for flip code 1; expected the same values"),
        ("random", "other inputs for refs in another order"),
        ("dtype", "other inputs for no refs"),
        ("lenient", "no IndexError for ref -1; expected refs from 0 to 29; check the refs in read"),
    ],
)
def test_a_source_that_breaks_the_contract_is_told_how(fault, text):
    with pytest.raises(AssertionError, match=text):
        check_source(Broken(fault))


def test_a_source_that_returns_its_own_arrays_is_found():
    class Shared(kb.ArraySource):
        def read(self, refs, flips):
            plain = np.array_equal(refs, [0, 15, 29]) and not flips.any()
            if plain and not hasattr(self, "kept"):
                self.kept = super().read(refs, flips)
            return self.kept if plain else super().read(refs, flips)

    with pytest.raises(
        AssertionError, match="a second read, after the caller changed the first one's arrays"
    ):
        check_source(Shared(*arrays()))


def test_an_array_source_refuses_a_negative_ref():
    with pytest.raises(
        IndexError, match="received ref -2; expected refs from 0 to 29; take them from an index"
    ):
        kb.ArraySource(*arrays()).read(np.array([3, -2]), np.zeros(2, np.uint8))
