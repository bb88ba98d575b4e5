"""The synthetic patient: its anatomy, its hard kinds, its determinism."""

import numpy as np
import pytest
from scipy import ndimage

from kerasbalance.data.phantom import HARD_KINDS, LABELS, make_case, plan_cases

SIZE = 64
SPECS = [(0, 0, ()), (0, 1, ()), (0, 2, ("lesions",)), (0, 3, ("atypical", "lowcontrast"))]


@pytest.fixture(scope="module", params=SPECS, ids=str)
def case(request):
    seed, number, kinds = request.param
    return make_case((seed, number), SIZE, kinds)


def millilitres(case, organ):
    return case.mask(organ).sum() * np.prod(case.spacing_mm) / 1000


@pytest.mark.parametrize("organ", LABELS)
def test_every_organ_is_in_one_piece(case, organ):
    _, pieces = ndimage.label(case.mask(organ))
    assert pieces == 1


def test_organ_volumes_are_those_of_adults(case):
    assert 500 < millilitres(case, "liver") < 3200
    assert 40 < millilitres(case, "spleen") < 500
    assert 60 < millilitres(case, "kidney_left") < 300
    assert 60 < millilitres(case, "kidney_right") < 300


def test_liver_lies_left_in_the_image_and_spleen_right(case):
    def centre(organ):
        return ndimage.center_of_mass(case.mask(organ))[2]

    assert centre("liver") < SIZE / 2 < centre("spleen")
    assert centre("kidney_right") < SIZE / 2 < centre("kidney_left")


def test_slices_ascend_to_the_head_and_rows_run_to_the_back(case):
    def centre(organ):
        return np.array(ndimage.center_of_mass(case.mask(organ)))

    bone = np.argwhere(case.hu > 300)
    assert centre("liver")[0] > centre("kidney")[0]
    assert centre("kidney")[1] > centre("liver")[1]
    assert np.median(bone[:, 1]) > SIZE / 2


def test_hounsfield_units_are_those_of_tissue():
    case = make_case((0, 0), SIZE)
    assert case.hu.dtype == np.int16
    assert -1024 <= case.hu.min() < -950
    assert 300 < case.hu.max() <= 1600
    assert 40 < np.median(case.hu[case.mask("liver")]) < 140
    assert np.median(case.hu[:, 0, 0]) == pytest.approx(-1000, abs=30)


def test_organs_of_an_easy_case_are_homogeneous():
    case = make_case((0, 1), 128)
    for organ in ("liver", "spleen"):
        low, high = np.percentile(case.hu[case.mask(organ)], [25, 75])
        assert high - low < 60


def test_same_seed_gives_the_same_case_and_another_seed_another_one():
    first, again, other = (make_case(seed, SIZE) for seed in (7, 7, 8))
    assert np.array_equal(first.hu, again.hu)
    assert np.array_equal(first.labels, again.labels)
    assert first.hu.shape != other.hu.shape or not np.array_equal(first.hu, other.hu)


def test_the_same_patient_is_drawn_at_every_size():
    small, large = make_case((0, 5), 64), make_case((0, 5), 128)
    assert len(small.hu) == len(large.hu)
    for organ in LABELS:
        assert millilitres(small, organ) == pytest.approx(millilitres(large, organ), rel=0.08)
    shrunk = large.mask("liver").reshape(len(large.hu), 64, 2, 64, 2).mean((2, 4)) > 0.5
    both = (shrunk & small.mask("liver")).sum()
    assert 2 * both / (shrunk.sum() + small.mask("liver").sum()) > 0.95


def test_kidney_is_both_kidneys():
    case = make_case(1, SIZE)
    assert np.array_equal(case.mask("kidney"), case.mask("kidney_left") | case.mask("kidney_right"))


@pytest.mark.parametrize("kind", HARD_KINDS)
def test_every_hard_kind_changes_the_case(kind):
    easy, hard = make_case((2, 0), 32), make_case((2, 0), 32, (kind,))
    assert hard.kinds == (kind,)
    assert easy.hu.shape != hard.hu.shape or np.abs(easy.hu.astype(int) - hard.hu).max() > 30


def test_unknown_kinds_organs_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"hard kinds \['blurred'\]; expected some of"):
        make_case(0, 32, ("blurred",))
    with pytest.raises(ValueError, match="size 8; expected at least 16"):
        make_case(0, 8)
    with pytest.raises(ValueError, match="organ 'heart'; expected one of"):
        make_case(0, 16).mask("heart")


@pytest.mark.parametrize(("cases", "share", "hard"), [(20, 0.25, 5), (7, 0.25, 2), (3, 0.0, 0), (3, 1.0, 3)])
def test_the_number_of_hard_cases_is_exact(cases, share, hard):
    plan = plan_cases(cases, SIZE, seed=4, hard_share=share)
    assert sum(bool(planned.kinds) for planned in plan) == hard


def test_the_numbers_of_mask_formats_are_exact():
    formats = [planned.mask_format for planned in plan_cases(20, SIZE, seed=4)]
    assert [formats.count(name) for name in ("seg", "rtstruct", "nifti")] == [12, 4, 4]


def test_shares_and_counts_out_of_range_are_refused():
    with pytest.raises(ValueError, match="hard_share 25; expected 0 to 1"):
        plan_cases(4, SIZE, 0, hard_share=25)
    with pytest.raises(ValueError, match="cases 0; expected at least 1"):
        plan_cases(0, SIZE, 0)
    with pytest.raises(ValueError, match="seed -1; expected 0 or more"):
        plan_cases(1, SIZE, -1)
    with pytest.raises(ValueError, match="expected a sum of at most 1"):
        plan_cases(4, SIZE, 0, rtstruct_share=0.6, nifti_share=0.6)
