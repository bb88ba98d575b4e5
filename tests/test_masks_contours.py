"""How contours of one ROI on one slice combine; boxes around whole pixels, so that areas are exact."""

from itertools import permutations

import numpy as np
import pytest
from skimage.draw import polygon2mask

from kerasbalance.data.errors import DataError
from kerasbalance.data.masks import contours
from kerasbalance.data.masks.contours import combine

SHAPE = (60, 70)


def box(row, column, rows, columns):
    low, high = np.array([row, column]) - 0.5, np.array([row + rows, column + columns]) - 0.5
    return np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])


def circle(centre, radius, count=200):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def rhombus(row, column, radius):
    return np.array(
        [[row - radius, column], [row, column + radius], [row + radius, column], [row, column - radius]]
    )


def facts(*polygons):
    found = combine(polygons, SHAPE)
    return int(found.inside.sum()), found.crossing, found.repeated


def test_nested_contours_alternate_in_any_order_down_to_the_third_level():
    nest = [box(5, 5, 40, 40), box(10, 10, 30, 30), box(15, 15, 20, 20), box(20, 20, 10, 10)]
    for order in permutations(nest):
        assert facts(*order) == (1600 - 900 + 400 - 100, 0, 0)


def test_crossing_contours_unite_and_are_counted():
    assert facts(box(10, 10, 20, 20), box(20, 20, 20, 20)) == (700, 2, 0)
    union = polygon2mask(SHAPE, circle((25.2, 25.3), 15)) | polygon2mask(SHAPE, circle((32.1, 38.4), 15))
    found = combine([circle((25.2, 25.3), 15), circle((32.1, 38.4), 15)], SHAPE)
    np.testing.assert_array_equal(found.inside, union)


def test_a_cross_of_two_bars_is_whole():
    assert facts(box(20, 5, 6, 40), box(5, 20, 40, 6)) == (240 + 240 - 36, 2, 0)


def test_a_hole_in_one_of_two_crossing_contours_stays_a_hole():
    assert facts(box(14, 14, 3, 3), box(10, 10, 20, 20), box(20, 20, 20, 20)) == (700 - 9, 2, 0)


def test_crossing_holes_unite_as_holes():
    assert facts(box(5, 5, 50, 50), box(10, 10, 10, 10), box(15, 15, 10, 10)) == (2500 - 175, 2, 0)


def test_a_contour_inside_another_one_that_a_third_links_to_it_is_no_hole():
    assert facts(box(10, 10, 20, 20), box(12, 22, 4, 4), box(8, 24, 6, 20)) == (400 + 120 - 24, 3, 0)


@pytest.mark.parametrize("digits", [0.0, 1e-6, 0.02])
def test_the_same_contour_again_counts_once_however_it_is_written(digits):
    outline = circle((30.4, 30.7), 12.3)
    moved = outline + digits * np.random.default_rng(0).uniform(-1, 1, outline.shape)
    for again in (
        moved,
        moved[::-1],
        np.roll(moved, 57, axis=0),
        np.concatenate([moved, moved[:1]]),
        moved[::2],
    ):
        found = combine([outline, again, outline], SHAPE)
        np.testing.assert_array_equal(found.inside, polygon2mask(SHAPE, outline))
        assert (found.crossing, found.repeated) == (0, 2)


def test_a_repeated_hole_stays_a_hole():
    assert facts(box(5, 5, 30, 30), box(10, 10, 10, 10), box(10, 10, 10, 10)) == (800, 0, 1)


def test_touching_contours_are_no_crossing():
    assert facts(box(10, 10, 10, 10), box(10, 20, 10, 10)) == (200, 0, 0)  # side by side
    assert facts(box(10, 10, 20, 20), rhombus(20, 14.4, 5)) == (400 - 50, 0, 0)  # a hole at the edge
    assert facts(box(10, 10, 10, 10), box(20, 20, 10, 10)) == (200, 0, 0)  # corner to corner


@pytest.mark.parametrize("digits", [0.0, 0.01])
def test_a_stroke_inside_another_one_along_its_line_is_no_hole(digits):
    assert facts(box(10, 10, 20, 20), box(10, 10, 20, 15) - digits) == (400, 2, 0)
    assert facts(box(10, 10, 3, 5), box(10, 10, 3, 4) + digits) == (15, 2, 0)


def test_a_hole_of_one_pixel_is_one():
    assert facts(box(10, 10, 9, 9), box(14, 14, 1, 1)) == (80, 0, 0)
    assert facts(box(10, 10, 9, 9), box(14.3, 14.3, 0.5, 0.5)) == (80, 0, 0)


def test_small_contours_that_cross_unite():
    assert facts(box(10, 10, 2, 2), box(11, 11, 2, 2)) == (7, 2, 0)


def test_a_keyhole_is_a_hole_whatever_the_way_round_it():
    outer, inner = box(5, 5, 30, 30), box(10, 10, 10, 10)
    for ring in (inner, inner[::-1]):
        assert facts(np.concatenate([outer, outer[:1], ring, ring[:1], outer[:1]])) == (800, 0, 0)


def test_contours_outside_the_image_or_reaching_out_are_cut():
    assert facts(box(-5, -5, 10, 10), box(100, 100, 5, 5), box(-1, 66, 3, 20)) == (25 + 8, 0, 0)
    assert facts() == (0, 0, 0)


def test_too_many_contours_of_one_slice_are_refused(monkeypatch):
    monkeypatch.setattr(contours, "MAX_CONTOURS_OF_SLICE", 2)
    with pytest.raises(DataError, match="3 contours of one ROI on one slice"):
        combine([box(1, 1, 2, 2)] * 3, SHAPE)


def test_a_contour_of_absurd_length_is_refused(monkeypatch):
    monkeypatch.setattr(contours, "MAX_LENGTH_PIXELS", 79)
    with pytest.raises(DataError, match="a contour of 80 pixels' length"):
        combine([box(1, 1, 20, 20)], SHAPE)
