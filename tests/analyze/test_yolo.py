import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.analyze.yolo import Box, decode
from openkpu.errors import InputError

ANCHORS = (1.0, 2.0, 3.0, 1.5)


def quiet(classes: int = 3, rows: int = 4, columns: int = 5) -> np.ndarray:
    """An output with nothing in it."""
    out = np.zeros((2, 5 + classes, rows, columns), np.float32)
    out[:, 4] = -20
    return out


def put(out: np.ndarray, anchor: int, row: int, column: int, label: int, objectness: float = 8.0) -> None:
    out[anchor, 4, row, column] = objectness
    out[anchor, 5 + label, row, column] = 12


def boxes(out: np.ndarray, **options):
    return decode(out.reshape(-1, *out.shape[2:]), ANCHORS, **options)


def test_a_box_lies_where_its_cell_is():
    out = quiet()
    put(out, 1, 2, 3, label=2)
    (box,) = boxes(out)
    assert box.label == 2
    assert box.score == pytest.approx(1, abs=1e-3)
    # sigmoid(0) = 0.5 in the cell, exp(0) = 1 times the anchor (3, 1.5), a grid of 5 x 4 cells
    assert (box.left, box.right) == pytest.approx(((3.5 - 1.5) / 5, (3.5 + 1.5) / 5))
    assert (box.top, box.bottom) == pytest.approx(((2.5 - 0.75) / 4, (2.5 + 0.75) / 4))


def test_pixels_are_cut_off():
    assert Box(0, 1.0, 0.25, 0.505, 0.5, 1.1).pixels(321, 240) == (80, 121, 160, 264)


def test_nothing_gives_no_boxes():
    assert boxes(quiet()) == []


def test_the_better_of_two_overlapping_boxes_stays():
    out = quiet()
    put(out, 0, 1, 1, label=0, objectness=3)
    put(out, 0, 1, 2, label=0, objectness=5)
    assert len(boxes(out, nms=0.5)) == 2  # they do not overlap: the anchor is one cell wide
    out[0, 2] = 1  # e times as wide
    (best,) = boxes(out, nms=0.2)
    assert best.left > 0.2
    out[0, 5:, 1, 1] = 0
    put(out, 0, 1, 1, label=1, objectness=3)
    assert {b.label for b in boxes(out, nms=0.2)} == {0, 1}  # other classes do not suppress each other


def test_negative_corners_are_zero_in_pixels():
    out = quiet()
    put(out, 1, 0, 0, label=0)
    assert boxes(out)[0].pixels(320, 240)[:2] == (0, 0)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.floats(0, 1))
def test_scores_pass_the_threshold_and_higher_ones_give_fewer(seed, threshold, nms):
    out = np.random.default_rng(seed).normal(0, 2, quiet().shape)
    found = boxes(out, threshold=threshold, nms=nms)
    assert all(b.score > threshold for b in found)
    assert len(boxes(out, threshold=min(1, threshold + 0.1), nms=1)) <= len(boxes(out, threshold=threshold, nms=1))
    assert len(found) <= len(boxes(out, threshold=threshold, nms=1))


@pytest.mark.parametrize(
    ("shape", "anchors", "options"),
    [
        ((17, 4, 4), ANCHORS, {}),
        ((10, 4, 4), ANCHORS, {}),
        ((16, 4, 4), ANCHORS, {"classes": 4}),
        ((16, 4, 4), (1.0, 2.0, 3.0), {}),
        ((16, 4, 4), (), {}),
        ((16, 4, 4), (1.0, -2.0, 3.0, 1.5), {}),
        ((16, 4, 4), (1.0, float("nan"), 3.0, 1.5), {}),
        ((16, 16), ANCHORS, {}),
        ((16, 4, 4), ANCHORS, {"threshold": 1.5}),
        ((16, 4, 4), ANCHORS, {"nms": -0.1}),
    ],
)
def test_what_does_not_fit_is_refused(shape, anchors, options):
    with pytest.raises(InputError) as caught:
        decode(np.zeros(shape, np.float32), anchors, **options)
    assert caught.value.code == "E433"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e4, float("inf"), float("nan")])
def test_absurd_values_do_not_break_it(value):
    out = quiet()
    put(out, 0, 1, 1, label=0)
    out[0, 2:4] = value
    for box in boxes(out):
        assert all(0 <= side <= 1 << 31 for side in box.pixels(320, 240))


def test_bytes_are_no_region_output():
    with pytest.raises(InputError):
        decode(np.zeros((16, 4, 4), np.uint8), ANCHORS)
