"""Average precision against a slow transcription, and against cases that a person can check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.evaluation.dataset import Truth
from openkpu.evaluation.metrics import average_precisions, overlap, share_interval

LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)


def test_overlap() -> None:
    assert overlap(LEFT, LEFT) == 1
    assert overlap(LEFT, RIGHT) == 0
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)


def test_a_known_answer() -> None:
    """Three objects; right, wrong, right by falling score: (1/1 + 2/3) / 3 of the area."""
    truth = [[Truth(0, LEFT), Truth(0, RIGHT)], [Truth(0, LEFT)]]
    found = [[(0, 0.9, *LEFT), (0, 0.8, 0.4, 0.4, 0.5, 0.5)], [(0, 0.7, *LEFT)]]
    (result,) = average_precisions(found, truth, 0.5)
    assert (result.label, result.objects) == (0, 3)
    assert result.precision == pytest.approx((1 + 2 / 3) / 3)
    # COCO: recalls 0..0.33 have precision 1, up to 0.66 2/3, above nothing
    (result,) = average_precisions(found, truth, 0.5, points=101)
    assert result.precision == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_the_second_box_on_an_object_is_wrong_and_ignored_objects_count_neither_way() -> None:
    truth = [[Truth(0, LEFT), Truth(0, RIGHT, ignore=True)]]
    twice = [[(0, 0.9, *LEFT), (0, 0.8, *LEFT)]]
    assert average_precisions(twice, truth, 0.5)[0].precision == 1  # the wrong one comes after full recall
    twice = [[(0, 0.8, *LEFT), (0, 0.9, *LEFT), (0, 0.95, *RIGHT), (0, 0.95, *RIGHT)]]
    assert average_precisions(twice, truth, 0.5)[0].precision == 1
    assert average_precisions([[]], truth, 0.5)[0].precision == 0
    assert average_precisions([[(1, 0.9, *LEFT)]], [[Truth(0, RIGHT, ignore=True)]], 0.5) == []


corner = st.integers(0, 6).map(lambda v: v / 8)
box = st.tuples(corner, corner, st.sampled_from([0.125, 0.25]), st.sampled_from([0.125, 0.25])).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
picture = st.tuples(
    st.lists(st.tuples(st.integers(0, 1), box), max_size=4),
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 99), box), max_size=5),
)


def slow(found: list, truth: list, label: int, iou: float) -> float:
    """The definition: for every score as a threshold, precision and recall; area under the falling hull."""
    total = sum(t.label == label for p in truth for t in p)
    ranked = sorted(
        ((d[1], i, d[2:]) for i, p in enumerate(found) for d in p if d[0] == label), key=lambda r: (-r[0], *r[1:])
    )
    taken: set[tuple[int, int]] = set()
    points = [(0.0, 1.0)]
    right = 0
    for n, (_, i, b) in enumerate(ranked, 1):
        best = max(
            ((overlap(b, t.box), -k) for k, t in enumerate(truth[i]) if t.label == label and (i, k) not in taken),
            default=(0.0, 0),
        )
        if best[0] >= iou:
            taken.add((i, -best[1]))
            right += 1
        points.append((right / total, right / n))
    return sum((points[k][0] - points[k - 1][0]) * max(p for _, p in points[k:]) for k in range(1, len(points)))


@settings(max_examples=150, deadline=None)
@given(st.lists(picture, min_size=1, max_size=3), st.sampled_from([0.3, 0.5, 0.75]))
def test_against_the_definition(pictures: list, iou: float) -> None:
    truth = [[Truth(label, b) for label, b in t] for t, _ in pictures]
    found = [[(label, s / 100, *b) for label, s, b in d] for _, d in pictures]
    for result in average_precisions(found, truth, iou):
        assert result.precision == pytest.approx(slow(found, truth, result.label, iou), abs=1e-12)
        assert 0 <= result.precision <= 1


def test_interval() -> None:
    low, high = share_interval(90, 100)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)  # Wilson's formula by hand
    assert share_interval(0, 0) == (0.0, 1.0)
    assert np.isclose(share_interval(0, 10)[0], 0)
