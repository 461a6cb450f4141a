from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.schedule.allocate import Piece, allocate, conflict, lower_bound

ALIGN = 64


@st.composite
def bodies(draw, most=12):
    found = []
    for _ in range(draw(st.integers(0, most))):
        offset, body = 0, []
        for _ in range(draw(st.integers(1, 3))):
            first = draw(st.integers(-1, 12))
            size = ALIGN * draw(st.integers(1, 9))
            body.append(Piece(offset, size, first, first + draw(st.integers(0, 8))))
            offset += size
        found.append(body)
    return found


def overlaps(plan, items):
    placed = [(s + p.offset, p) for s, b in zip(plan.starts, items, strict=True) for p in b]
    return [
        (a, b)
        for i, (sa, a) in enumerate(placed)
        for sb, b in placed[:i]
        if a.first <= b.last and b.first <= a.last and sa < sb + b.size and sb < sa + a.size
    ]


@given(bodies())
@settings(max_examples=150)
def test_nothing_overlaps_and_the_peak_is_true(items):
    plan = allocate(items, ALIGN)
    assert overlaps(plan, items) == []
    assert all(s >= 0 and s % ALIGN == 0 for s in plan.starts)
    top = max((s + p.offset + p.size for s, b in zip(plan.starts, items, strict=True) for p in b), default=0)
    assert plan.peak == top
    assert plan.bound == lower_bound(items) <= plan.peak
    total = sum(max(p.offset + p.size for p in b) for b in items)
    assert plan.peak <= total


@given(bodies(most=4))
@settings(max_examples=100)
def test_small_plans_are_as_good_as_every_order(items):
    def first_fit(order):
        starts = {}
        for i in order:
            start = 0
            while overlaps_one(start, items[i], [(starts[j], items[j]) for j in starts]):
                start += ALIGN
            starts[i] = start
        return max((starts[i] + p.offset + p.size for i in order for p in items[i]), default=0)

    best = min(first_fit(o) for o in permutations(range(len(items))))
    assert allocate(items, ALIGN).peak <= best * 1.25


def overlaps_one(start, body, placed):
    return any(
        a.first <= b.last
        and b.first <= a.last
        and start + a.offset < s + b.offset + b.size
        and s + b.offset < start + a.offset + a.size
        for a in body
        for s, other in placed
        for b in other
    )


def test_a_chain_needs_two_maps():
    sizes = [ALIGN * n for n in (10, 8, 6, 9, 3)]
    plan = allocate([[Piece(0, n, i, i + 1)] for i, n in enumerate(sizes)], ALIGN)
    assert plan.is_optimal
    assert plan.peak == max(a + b for a, b in pairwise(sizes))


def test_the_same_bodies_give_the_same_plan():
    items = [[Piece(0, ALIGN * (1 + i * 7 % 5), i % 4, i % 4 + i % 3)] for i in range(12)]
    assert allocate(items, ALIGN) == allocate(items, ALIGN)


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (Piece(0, 128, 0, 3), Piece(64, 64, 3, 4), (0, 1)),
        (Piece(0, 128, 0, 3), Piece(64, 64, 4, 5), None),
        (Piece(0, 64, 0, 3), Piece(64, 64, 0, 3), None),
    ],
)
def test_conflicts_inside_a_body(a, b, found):
    assert conflict([a, b]) == found


def test_nothing_to_place():
    assert allocate([], ALIGN).peak == 0
