"""Connected regions: what flood_fill and find_blobs share.

The firmware walks along rows with a stack (OpenMV's ``blob.c``). Which pixels it reaches does not depend on the order,
so here the runs of each row are numbered and joined with their neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.core import RGB565
from openkpu.maixpy.image.operands import Ints, Mask
from openkpu.maixpy.image.pixels import fields


def label(inside: Mask, right: Mask | None = None, down: Mask | None = None) -> NDArray[np.int64]:
    """Number the 4-connected regions of ``inside`` (h, w); -1 outside.

    ``right`` (h, w-1) and ``down`` (h-1, w) say which neighbours belong together; without them all that are inside do.
    Numbers rise in the order of the regions' first pixels.
    """
    h, w = inside.shape
    linked = inside[:, 1:] & inside[:, :-1]
    if right is not None:
        linked = linked & right
    starts = inside.copy()
    starts[:, 1:] &= ~linked
    runs = (np.cumsum(starts.reshape(-1)) - 1).reshape(h, w)
    below = inside[1:] & inside[:-1]
    if down is not None:
        below = below & down
    roots = _join(int(starts.sum()), runs[:-1][below], runs[1:][below])
    _, numbers = np.unique(roots, return_inverse=True)
    if not numbers.size:
        return np.full((h, w), -1, np.int64)
    return np.where(inside, numbers.reshape(-1)[np.maximum(runs, 0)], -1)


def _join(count: int, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each of ``count`` nodes the least node that it is connected with."""
    root = np.arange(count, dtype=np.int64)
    if first.size:
        pairs = np.unique(np.stack([first, second], axis=1), axis=0)
        first, second = pairs[:, 0], pairs[:, 1]
    while first.size:
        a, b = root[first], root[second]
        apart = a != b
        if not apart.any():
            break
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:  # let everybody point at the end of the chain
            further = root[root]
            if np.array_equal(further, root):
                break
            root = further
    return root


def similar(
    kind: str, pixels: NDArray[Any], seed: tuple[int, int], limits: tuple[int, int], filled: Mask | None = None
) -> Mask:
    """Return what flood_fill reaches from (x, y), with what was ``filled`` before and stops it.

    Pixels count that differ from the seed, and from the neighbour over which they are reached, by no more than the two
    limits (words of 5/6/5 limits for RGB565). The seed itself always counts.
    """
    x, y = seed
    channels = list(fields(pixels)) if kind == RGB565 else [pixels.astype(np.int32)]
    parts = [[int(v) for v in fields(np.array(n, np.uint16))] if kind == RGB565 else [n] for n in limits]
    near = np.ones(pixels.shape, np.bool_) if filled is None else ~filled
    near[y, x] = True
    right, down = np.ones(_less(pixels, 1), np.bool_), np.ones(_less(pixels, 0), np.bool_)
    for c, from_seed, from_neighbour in zip(channels, *parts, strict=True):
        near &= np.abs(c - c[y, x]) <= from_seed
        right &= _steps(c, 1) <= from_neighbour
        down &= _steps(c, 0) <= from_neighbour
    numbers = label(near, right, down)
    mask: Mask = numbers == numbers[y, x]
    return mask if filled is None else mask | filled


def _steps(channel: Ints, axis: int) -> Ints:
    return np.abs(np.diff(channel, axis=axis))


def _less(pixels: NDArray[Any], axis: int) -> tuple[int, ...]:
    return tuple(n - (i == axis) for i, n in enumerate(pixels.shape))
