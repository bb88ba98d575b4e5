"""What a notebook shows: tables of results, and slices with their contours."""

import numpy as np
import pytest
from made.runs import made_stack, store_of_stacks
from made.training import arrays, segmenter

import kerasbalance as kb

RED, BLUE = "#d62728", "#2a78d6"


def test_a_mining_result_shows_its_lowest_scores_first():
    sampler = kb.HardSliceSampler([0], range(1, 21), kb.lowest(0.1))
    table = sampler.update(np.linspace(1, 0, 20))._repr_html_()
    assert table.count("<tr>") == 11
    assert "MiningResult(2 hard of 20, Lowest(share=0.1), iteration None); the lowest 10 scores" in table
    assert table.index("<td>20</td>") < table.index("<td>19</td>")


def test_a_split_and_a_summary_are_tables_with_escaped_text():
    split = kb.split_cases([{"patient": i, "slices": 10, "positive": 5} for i in range(6)])
    assert split._repr_html_().count("<tr>") == 4
    mask = np.ones((2, 4, 4), bool)
    case = kb.evaluate_case(mask, mask, spacing_mm=(1, 1, 1), organ="<liver>")
    table = kb.summarise_cases([case])[0]._repr_html_()
    assert "&lt;liver&gt;: 1 cases, 0 absent" in table
    assert "<td>dice</td>" in table


def test_a_store_shows_its_organs(tmp_path):
    store = store_of_stacks(tmp_path / "store", [made_stack(seed) for seed in range(2)], organs=("liver",))
    assert "SliceStore: 2 cases, " in store._repr_html_()
    assert "<td>liver</td><td>2</td>" in store._repr_html_()


def lines(axes):
    from matplotlib.colors import to_hex

    return [to_hex(drawn.get_edgecolor()[0]) for drawn in axes.collections]


def test_slices_are_drawn_with_reference_and_prediction():
    pytest.importorskip("matplotlib")
    x, y = arrays(6)
    figure = kb.show(kb.ArraySource(x, y), [1, 3, 5], model=segmenter(), threshold=0.0, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["ref 1", "ref 3", "ref 5"]
    assert lines(figure.axes[0]) == [BLUE]  # all is predicted, so the prediction has no contour
    empty = kb.show(kb.ArraySource(x, y), [0])
    assert lines(empty.axes[0]) == []
    rgb = kb.show(kb.ArraySource(np.repeat(x, 3, axis=-1), y[..., 0]), [1], window=(0, 1))
    assert rgb.axes[0].images[0].get_array().shape == (8, 8, 3)


def test_what_has_no_image_and_mask_is_not_drawn():
    pytest.importorskip("matplotlib")
    with pytest.raises(
        ValueError, match=r"2 samples that are not images with one mask each; expected .*; pass refs"
    ):
        kb.show(kb.ArraySource(np.zeros((4, 5)), np.zeros(4)), [0, 1])
    with pytest.raises(ValueError, match="received no refs; expected at least one image"):
        kb.show(kb.ArraySource(*arrays(4)), [])
