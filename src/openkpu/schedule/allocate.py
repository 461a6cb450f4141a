"""Place buffers in a memory so that no two that live at the same time overlap.

A *body* is a set of buffers with fixed distances (feature maps that must lie side by side); each buffer has its own
lifetime. The lower bound is the most bytes that live at one time. Several first-fit orders and then a deterministic
local search look for a plan that meets it; the result says how far it is away.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SEARCH_STEPS = 300


@dataclass(frozen=True, slots=True)
class Piece:
    """A buffer of a body: its place in the body, its size, and the first and last step at which it holds data."""

    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Start address of each body, the peak that follows, and the lower bound of any plan for this order of steps."""

    starts: tuple[int, ...]
    peak: int
    bound: int

    @property
    def is_optimal(self) -> bool:
        """Whether no plan can be smaller."""
        return self.peak == self.bound


def lower_bound(bodies: Sequence[Sequence[Piece]]) -> int:
    """Return the most bytes alive at one time."""
    pieces = [p for b in bodies for p in b]
    return max((sum(q.size for q in pieces if q.first <= t <= q.last) for t in {p.first for p in pieces}), default=0)


def conflict(body: Sequence[Piece]) -> tuple[int, int] | None:
    """Return two pieces of one body that overlap in space and time, if any."""
    for i, a in enumerate(body):
        for j in range(i):
            b = body[j]
            if _overlap(a, a.offset, b, b.offset):
                return j, i
    return None


def allocate(bodies: Sequence[Sequence[Piece]], align: int) -> Plan:
    """Return the best plan found. Sizes and offsets must be multiples of ``align``."""
    bound = lower_bound(bodies)
    if not bodies:
        return Plan((), 0, 0)

    def size(b: Sequence[Piece]) -> int:
        return max(p.offset + p.size for p in b)

    def life(b: Sequence[Piece]) -> int:
        return max(p.last for p in b) - min(p.first for p in b) + 1

    index = range(len(bodies))
    orders = [
        sorted(index, key=lambda i: (-size(bodies[i]), min(p.first for p in bodies[i]))),
        sorted(index, key=lambda i: (-size(bodies[i]) * life(bodies[i]), i)),
        sorted(index, key=lambda i: (-life(bodies[i]), -size(bodies[i]))),
        sorted(index, key=lambda i: (min(p.first for p in bodies[i]), -size(bodies[i]))),
    ]
    best_order, best = None, None
    for order in orders:
        plan = _first_fit(bodies, order, align, bound)
        if best is None or plan.peak < best.peak:
            best_order, best = order, plan
    assert best is not None
    assert best_order is not None
    rng = random.Random(0)
    for _ in range(SEARCH_STEPS if len(bodies) > 1 else 0):
        if best.is_optimal:
            break
        order = list(best_order)
        # bring a body that reaches the peak nearer to the front, where it finds lower space
        tops = [k for k, i in enumerate(order) if best.starts[i] + size(bodies[i]) == best.peak]
        k = rng.choice(tops)
        body = order.pop(k)
        order.insert(rng.randrange(k + 1) if k else 0, body)
        if rng.random() < 0.5:
            a, b = rng.randrange(len(order)), rng.randrange(len(order))
            order[a], order[b] = order[b], order[a]
        plan = _first_fit(bodies, order, align, bound)
        if plan.peak <= best.peak:
            best_order, best = order, plan
    return best


def _first_fit(bodies: Sequence[Sequence[Piece]], order: Sequence[int], align: int, bound: int) -> Plan:
    """Place the bodies one after the other, each at the lowest address where none of its pieces collides."""
    placed: list[tuple[int, Piece]] = []
    starts = [0] * len(bodies)
    for i in order:
        start = 0
        moved = True
        while moved:
            moved = False
            for piece in bodies[i]:
                for base, other in placed:
                    if _overlap(piece, start + piece.offset, other, base):
                        start = base + other.size - piece.offset
                        start += -start % align
                        moved = True
        starts[i] = start
        placed += [(start + p.offset, p) for p in bodies[i]]
    peak = max(base + p.size for base, p in placed)
    return Plan(tuple(starts), peak, bound)


def _overlap(a: Piece, a_start: int, b: Piece, b_start: int) -> bool:
    in_time = a.first <= b.last and b.first <= a.last
    return in_time and a_start < b_start + b.size and b_start < a_start + a.size
