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
Clashes = list[list[tuple[int, int, int]]]
"""For each body: another one, and the open range of distances at which they overlap."""


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
    clashes = _clashes(bodies)
    for order in orders:
        plan = _first_fit(bodies, order, align, bound, clashes)
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
        plan = _first_fit(bodies, order, align, bound, clashes)
        if plan.peak <= best.peak:
            best_order, best = order, plan
    return best


def _clashes(bodies: Sequence[Sequence[Piece]]) -> Clashes:
    """Return for each body the others that live when it does, each with the distances at which pieces would overlap.

    Body i must not start between ``low`` and ``high`` (both excluded) behind the start of body j.
    """
    result: Clashes = [[] for _ in bodies]
    lives = [(min(p.first for p in b), max(p.last for p in b)) for b in bodies]
    alive: list[int] = []
    for i in sorted(range(len(bodies)), key=lambda i: lives[i]):
        alive = [j for j in alive if lives[j][1] >= lives[i][0]]
        for j in alive:
            for p in bodies[i]:
                for q in bodies[j]:
                    if p.first <= q.last and q.first <= p.last:
                        low, high = q.offset - p.offset - p.size, q.offset + q.size - p.offset
                        result[i].append((j, low, high))
                        result[j].append((i, -high, -low))
        alive.append(i)
    return result


def _first_fit(
    bodies: Sequence[Sequence[Piece]], order: Sequence[int], align: int, bound: int, clashes: Clashes
) -> Plan:
    """Place the bodies one after the other, each at the lowest address where none of its pieces collides."""
    starts = [-1] * len(bodies)
    for i in order:
        start = 0
        for low, high in sorted((starts[j] + low, starts[j] + high) for j, low, high in clashes[i] if starts[j] >= 0):
            if start <= low:
                break  # all that follow lie behind
            if start < high:
                start = high + -high % align
        starts[i] = start
    peak = max(starts[i] + p.offset + p.size for i, b in enumerate(bodies) for p in b)
    return Plan(tuple(starts), peak, bound)


def _overlap(a: Piece, a_start: int, b: Piece, b_start: int) -> bool:
    in_time = a.first <= b.last and b.first <= a.last
    return in_time and a_start < b_start + b.size and b_start < a_start + a.size
