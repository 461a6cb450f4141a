"""Means of a convolution's inputs at each tap, for comparing float and quantised pre-activations without running them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.lower.ops import POOLS


def tap_means(x: NDArray[Any], kernel: int, pool: str, pad: float) -> NDArray[np.float64]:
    """Return the mean of ``x`` (N, C, H, W) at each tap over the positions that reach the output: (C, k, k).

    ``pad`` is the value outside the picture. Selecting poolings leave out the positions they drop.
    """
    _, c, h, w = x.shape
    _, stride, window = POOLS[pool]
    step = stride if window == 1 else 1
    left = 1 if pool == "right_top2" else 0
    if kernel == 1:
        return np.asarray(x[:, :, ::step, left::step].mean((0, 2, 3), dtype=np.float64)).reshape(c, 1, 1)
    rows = (h // step) if step > 1 else h
    cols = (w // step) if step > 1 else w
    total = np.empty((c, 3, 3))
    for i in range(3):
        y0, y1 = _inside(i - 1, rows, step, h)
        for j in range(3):
            x0, x1 = _inside(j - 1 + left, cols, step, w)
            part = x[:, :, y0:y1:step, x0:x1:step]
            n = part.shape[2] * part.shape[3]
            sums = part.sum((0, 2, 3), dtype=np.float64)
            total[:, i, j] = (sums + pad * x.shape[0] * (rows * cols - n)) / (x.shape[0] * rows * cols)
    return total


def _inside(offset: int, count: int, step: int, size: int) -> tuple[int, int]:
    """Return the slice of positions ``offset + step*o`` (o < count) that lie inside 0..size-1."""
    first = offset if offset >= 0 else offset + step * (-(offset // step))
    last = offset + step * (count - 1)
    return first, min(last, size - 1) + 1
