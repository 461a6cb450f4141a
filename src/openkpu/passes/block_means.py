"""A mean over a whole side of a map as means over blocks of 3 or 4 pixels, which depthwise 3x3 layers can take.

Blocks of 4 need two layers, each with two taps of weight 1: (y - 1, y + 1) and then (y - 1, y); together rows
``y - 2 .. y + 1``. Blocks of 3 need one, with three taps. Rows outside the map count as zeros, but between the layers
everything outside is zero too: so a block may stick out of the map only where the layers' order allows it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocks:
    """Centres of the blocks along one side: ``first + stride * i`` for i below ``count``; the taps of both layers."""

    first: int
    stride: int
    count: int
    taps: tuple[tuple[int, int, int], tuple[int, int, int]]


def blocks(n: int) -> Blocks | None:
    """Return the blocks that cover n pixels exactly, as few as there are; None for sides under 4 (no KPU layer)."""
    if n < 4:
        return None
    if n % 4 in (0, 3):  # y - 2 .. y + 1
        return Blocks(2, 4, -(-n // 4), ((1, 0, 1), (1, 1, 0)))
    if n % 4 == 2:  # y - 1 .. y + 2
        return Blocks(1, 4, -(-n // 4), ((0, 1, 1), (1, 0, 1)))
    first = 0 if n % 3 == 1 else 1
    return Blocks(first, 3, (n - 1 - first) // 3 + 1, ((1, 1, 1), (0, 1, 0)))
