"""Metrics of cases and slices, their summaries, and the clean-up."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import kerasbalance
from kerasbalance.evaluation.cases import METRICS, evaluate_case, evaluate_slices, keep_largest_component
from kerasbalance.evaluation.clean_up import clean_up
from kerasbalance.evaluation.summaries import summarise_cases

SPACING = (2.0, 0.5, 1.0)
NAN = math.nan


def box(first, last, *, shape=(6, 10, 12)):
    mask = np.zeros(shape, bool)
    mask[first:last, 2:6, 3:8] = True
    return mask


def case(**values):
    """A case of one organ with the given metrics."""
    return replace(evaluate_case(box(1, 4), box(1, 4), SPACING, organ="liver"), **values)


def test_dice_and_volumes_come_from_the_counts_of_the_whole_case():
    found = evaluate_case(box(1, 3), box(1, 5), SPACING, case="one", organ="liver")
    assert (found.case, found.organ) == ("one", "liver")
    assert (found.shared_voxels, found.prediction_voxels, found.reference_voxels) == (40, 40, 80)
    assert found.dice == pytest.approx(2 / 3)
    assert (found.prediction_ml, found.reference_ml) == (pytest.approx(0.04), pytest.approx(0.08))
    assert found.ravd_percent == 50


def test_slices_are_counted_by_what_they_hold():
    found = evaluate_case(box(2, 6), box(1, 4), SPACING)
    assert (found.slices, found.empty_slices) == (6, 3)
    assert (found.false_positive_slices, found.missed_slices) == (2, 1)


def test_the_volume_difference_is_relative_to_the_reference():
    assert evaluate_case(box(1, 4), box(1, 2), SPACING).ravd_percent == pytest.approx(200)


def test_an_organ_in_neither_mask_has_no_metrics():
    empty = np.zeros((3, 4, 5), bool)
    found = evaluate_case(empty, empty, SPACING)
    assert found.absent
    assert all(math.isnan(getattr(found, name)) for name in METRICS)
    assert (found.reference_ml, found.empty_slices, found.false_positive_slices) == (0, 3, 0)


def test_an_organ_in_the_prediction_only_is_infinitely_far():
    found = evaluate_case(box(1, 3), box(0, 0), SPACING)
    assert (found.dice, found.nsd, found.missed_slices) == (0, 0, 0)
    assert found.hd95_mm == found.assd_mm == found.mssd_mm == found.ravd_percent == math.inf
    assert (found.iou, found.precision, found.volume_similarity) == (0, 0, 0)
    assert math.isnan(found.sensitivity)


def test_an_organ_in_the_reference_only_is_wholly_missing():
    found = evaluate_case(box(0, 0), box(1, 3), SPACING)
    assert (found.dice, found.ravd_percent, found.missed_slices) == (0, 100, 2)
    assert (found.iou, found.sensitivity, found.volume_similarity) == (0, 0, 0)
    assert math.isnan(found.precision)


def test_shares_of_the_voxels_have_the_literal_values_of_their_definitions():
    found = evaluate_case(box(1, 4), box(2, 6), SPACING)  # 60 and 80 voxels, 40 of them shared
    assert found.iou == pytest.approx(40 / 100)
    assert found.sensitivity == pytest.approx(40 / 80)
    assert found.precision == pytest.approx(40 / 60)
    assert found.volume_similarity == pytest.approx(1 - 20 / 140)
    assert found.mssd_mm == 4  # two slices of 2 mm between the upper faces


def test_the_volume_similarity_weighs_uneven_slices_by_what_they_stand_for():
    depth = np.array([0.0, 2.0, 4.0, 10.0, 12.0, 14.0])
    found = evaluate_case(box(0, 2), box(2, 3), SPACING, depth_mm=depth)  # 2 + 2 mm against 4 mm
    assert found.volume_similarity == 1
    assert found.ravd_percent == 0


def test_a_lone_slice_without_spacing_is_measured_in_its_plane():
    prediction, reference = np.zeros((2, 1, 9, 9), bool)
    prediction[0, 2:5, 2:5] = reference[0, 2:5, 3:6] = True
    found = evaluate_case(prediction, reference, (NAN, 1.0, 1.5))
    assert (found.dice, found.hd95_mm, found.ravd_percent) == (pytest.approx(2 / 3), 1.5, 0)
    assert (found.mssd_mm, found.volume_similarity) == (1.5, 1)
    assert math.isnan(found.reference_ml)
    empty = np.zeros((1, 9, 9), bool)
    assert evaluate_case(empty, empty, (NAN, 1.0, 1.0)).absent


def test_uneven_slices_stand_for_half_the_way_to_their_neighbours():
    mask = box(0, 6)
    depth = np.array([0.0, 2.0, 4.0, 10.0, 12.0, 14.0])
    found = evaluate_case(mask, mask, SPACING, depth_mm=depth)
    # 20 pixels of 0.5 mm2 on slices that stand for 2, 2, 4, 4, 2 and 2 mm
    assert found.reference_ml == pytest.approx(20 * 0.5 * 16 / 1000)
    with pytest.raises(ValueError, match="one position a slice"):
        evaluate_case(mask, mask, SPACING, depth_mm=np.arange(9.0))


def test_the_slice_table_follows_the_empty_policy():
    rows = evaluate_slices(box(2, 5), box(1, 4), case="one", organ="liver")
    assert [row.dice for row in rows] == [1, 0, 1, 1, 0, 1]
    assert [row.slice for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [(row.reference_pixels, row.prediction_pixels, row.shared_pixels) for row in rows[1:3]] == [
        (20, 0, 0),
        (20, 20, 20),
    ]


@settings(max_examples=50, deadline=None)
@given(masks=npst.arrays(bool, (2, 4, 5, 6)))
def test_the_slice_table_sums_to_the_case(masks):
    found, rows = evaluate_case(*masks, SPACING), evaluate_slices(*masks)
    assert sum(row.shared_pixels for row in rows) == found.shared_voxels
    assert sum(row.prediction_pixels for row in rows) == found.prediction_voxels
    assert sum(row.reference_pixels for row in rows) == found.reference_voxels
    assert sum(not row.reference_pixels for row in rows) == found.empty_slices
    expected = 2 * np.logical_and(*masks).sum() / max(1, masks.sum())
    assert found.absent or found.dice == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_dice_is_monais():
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    masks = np.random.default_rng(0).random((2, 7, 20, 30)) < 0.4
    pair = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    expected = float(metrics.compute_dice(*pair, include_background=True))
    assert evaluate_case(*masks, SPACING).dice == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_sensitivity_precision_and_iou_are_monais():
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    masks = np.random.default_rng(1).random((2, 7, 20, 30)) < 0.4
    pair = [torch.from_numpy(mask)[None, None].float() for mask in masks]
    names = ("sensitivity", "precision", "threat score")  # the threat score is another name of the IoU
    counts = metrics.get_confusion_matrix(*pair, include_background=True)
    expected = [float(metrics.compute_confusion_matrix_metric(name, counts)) for name in names]
    found = evaluate_case(*masks, SPACING)
    assert [found.sensitivity, found.precision, found.iou] == pytest.approx(expected, abs=1e-6)


def test_iou_sensitivity_and_volume_similarity_are_simpleitks():
    sitk = pytest.importorskip("SimpleITK")
    reference = np.random.default_rng(2).random((7, 20, 30)) < 0.4
    prediction = reference & (np.random.default_rng(3).random((7, 20, 30)) < 0.7)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)]
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(*images)
    found = evaluate_case(prediction, reference, SPACING)
    assert found.iou == pytest.approx(measured.GetJaccardCoefficient(1))
    # Its false negative error is 1 - sensitivity; the direction of its other errors differs between versions.
    assert 1 - found.sensitivity == pytest.approx(measured.GetFalseNegativeError(1))
    # SimpleITK's figure is signed and twice as large.
    assert found.volume_similarity == pytest.approx(1 - abs(measured.GetVolumeSimilarity(1)) / 2)


def test_a_row_holds_every_metric_and_every_count():
    row = evaluate_case(box(1, 3), box(1, 5), SPACING, case="one", organ="liver").as_row()
    assert list(row)[:4] == ["case", "organ", "dice", "iou"]
    assert set(METRICS) < set(row)
    assert (row["sensitivity"], row["precision"], row["reference_voxels"]) == (0.5, 1, 80)


def test_the_summary_has_the_papers_form_and_more():
    dice = [0.90, 0.95, 0.80, 0.99, 0.97, 0.96, 0.94, 0.93, 0.92, 0.91, 0.70]
    (summary,) = summarise_cases([case(dice=value) for value in dice])
    found = summary.metrics["dice"]
    assert (summary.organ, summary.cases, found.count) == ("liver", 11, 11)
    assert (found.mean, found.sd) == (pytest.approx(np.mean(dice)), pytest.approx(np.std(dice, ddof=1)))
    assert (found.minimum, found.maximum, found.median) == (0.70, 0.99, 0.93)
    assert found.worst_tenth == pytest.approx(0.75)  # two of eleven


def test_the_worst_distances_are_the_large_ones():
    (summary,) = summarise_cases([case(hd95_mm=value) for value in (1.0, 7.0, 3.0)])
    assert summary.metrics["hd95_mm"].worst_tenth == 7


def test_absent_organs_are_counted_and_not_averaged():
    empty = evaluate_case(box(0, 0), box(0, 0), SPACING, organ="liver")
    (summary,) = summarise_cases([case(dice=0.5), empty, empty])
    assert (summary.cases, summary.absent, summary.metrics["dice"].count) == (3, 2, 1)
    assert summary.metrics["dice"].mean == 0.5
    assert math.isnan(summary.metrics["dice"].sd)
    assert summary.empty_slices == 3 + 6 + 6


def test_missed_and_invented_organs_are_infinite_but_for_the_mean():
    missed = evaluate_case(box(0, 0), box(1, 3), SPACING, organ="liver")
    invented = evaluate_case(box(1, 3), box(0, 0), SPACING, organ="liver")
    (summary,) = summarise_cases([case(hd95_mm=4.0), missed, invented])
    found = summary.metrics["hd95_mm"]
    assert (summary.missed, summary.invented, summary.false_positive_slices) == (1, 1, 2)
    assert (found.count, found.infinite, found.mean, found.minimum) == (3, 2, 4, 4)
    assert found.maximum == found.median == found.worst_tenth == math.inf
    assert summary.metrics["dice"].mean == pytest.approx(1 / 3)


def test_organs_are_summarised_apart():
    found = summarise_cases([case(), case(organ="spleen", dice=0.5), case()])
    assert [(s.organ, s.cases, s.metrics["dice"].mean) for s in found] == [
        ("liver", 2, 1),
        ("spleen", 1, 0.5),
    ]
    assert summarise_cases([]) == ()


def test_only_absent_cases_give_a_summary_without_numbers():
    empty = evaluate_case(box(0, 0), box(0, 0), SPACING, organ="liver")
    found = summarise_cases([empty])[0].metrics["dice"]
    assert found.count == found.infinite == 0
    assert all(math.isnan(v) for v in (found.mean, found.sd, found.minimum, found.median, found.worst_tenth))


def test_the_largest_component_stays_and_nothing_else():
    mask = np.zeros((5, 9, 9), bool)
    mask[1:4, 1:4, 1:4] = True
    mask[4, 4, 4] = True  # touches by a corner
    kept = mask.copy()
    mask[1, 7, 7] = mask[4, 8, 0] = True
    before = mask.copy()
    np.testing.assert_array_equal(keep_largest_component(mask), kept)
    np.testing.assert_array_equal(mask, before)


def test_cleaning_a_small_organ_of_a_large_ct_takes_little_memory():
    mask = np.zeros((60, 200, 200), bool)
    mask[10:20, 40:60, 40:60] = mask[15, 70, 70] = True
    mask[15, 50, 50] = False
    tracemalloc.start()
    cleaned = clean_up(mask, "largest+holes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cleaned.sum() == 4000
    assert peak < 2.5 * mask.nbytes  # numbering the parts of the whole CT would take twelve times as much


@settings(max_examples=50, deadline=None)
@given(mask=npst.arrays(bool, st.sampled_from([(3, 5, 6), (7, 8), (1, 1, 1)])))
def test_keeping_the_largest_component_twice_is_keeping_it_once(mask):
    kept = keep_largest_component(mask)
    assert kept is not mask
    assert not (kept & ~mask).any()
    assert kept.any() == mask.any()
    np.testing.assert_array_equal(keep_largest_component(kept), kept)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_functions_are_public():
    assert kerasbalance.evaluate_case is evaluate_case
    assert kerasbalance.summarise_cases is summarise_cases
