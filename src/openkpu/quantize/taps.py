"""Means of a convolution's inputs at each tap: they give the mean pre-activation without running the layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.lower.ops import POOLS
from openkpu.quantize.native import loops

Pad = float | NDArray[np.float64]


def tap_means(
    x: NDArray[Any], kernel: int, pool: str, pad: Pad, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the mean of ``x`` (N, C, H, W) at each tap over the positions that reach the output: (C, k, k).

    ``pad`` is the value outside the picture (one number, or one a channel). Selecting poolings leave out the
    positions they drop. ``out`` takes the result.
    """
    c = x.shape[1]
    step, left = positions(pool)
    native = loops()
    if native is not None and x.dtype in (np.uint8, np.float32):
        out = np.empty((c, kernel, kernel)) if out is None else out
        run = native.tap_means_u8 if x.dtype == np.uint8 else native.tap_means_f32
        run(np.ascontiguousarray(x), kernel, step, left, np.full(c, pad, np.float64), out)
        return out
    if kernel == 1:
        part = x[:, :, ::step, left::step]
        found = _sums(part).reshape(c, 1, 1) / (part.size / c)
    else:
        found = _every(x, pad) if step == 1 else _selected(x, step, left, pad)
    if out is None:
        return np.asarray(found)
    out[:] = found
    return out


def positions(pool: str) -> tuple[int, int]:
    """Return which positions a selecting pooling keeps: every how many-th row and column, and the first column."""
    _, stride, window = POOLS[pool]
    return stride if window == 1 else 1, int(pool == "right_top2")


def _every(x: NDArray[Any], pad: Pad) -> NDArray[np.float64]:
    """All positions: the whole sum without the row and column that a shifted window leaves out."""
    n, c, h, w = x.shape
    whole = _sums(x)
    rows = {-1: _sums(x[:, :, h - 1 :, :]), 0: np.zeros(c), 1: _sums(x[:, :, :1, :])}
    cols = {-1: _sums(x[:, :, :, w - 1 :]), 0: np.zeros(c), 1: _sums(x[:, :, :, :1])}
    result = np.empty((c, 3, 3))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, z = (h - 1 if dy < 0 else 0), (w - 1 if dx < 0 else 0)
            both = _sums(x[:, :, y : y + 1, z : z + 1]) if dy and dx else 0.0
            outside = h * w - (h - abs(dy)) * (w - abs(dx))
            result[:, dy + 1, dx + 1] = (whole - rows[dy] - cols[dx] + both + pad * n * outside) / (n * h * w)
    return result


def _selected(x: NDArray[Any], step: int, left: int, pad: Pad) -> NDArray[np.float64]:
    """Only every ``step``-th position, columns from ``left`` on."""
    n, c, h, w = x.shape
    rows, cols = h // step, w // step
    result = np.empty((c, 3, 3))
    for i in range(3):
        y0, y1 = _inside(i - 1, rows, step, h)
        for j in range(3):
            x0, x1 = _inside(j - 1 + left, cols, step, w)
            part = x[:, :, y0:y1:step, x0:x1:step]
            outside = rows * cols - part.shape[2] * part.shape[3]
            result[:, i, j] = (_sums(part) + pad * n * outside) / (n * rows * cols)
    return result


def _sums(x: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over everything but the channels."""
    rows = x.sum(3, dtype=np.uint32 if x.dtype == np.uint8 else np.float64)
    return np.asarray(rows.sum((0, 2), dtype=np.float64))


def _inside(offset: int, count: int, step: int, size: int) -> tuple[int, int]:
    """Return the slice of positions ``offset + step*o`` (o < count) that lie inside 0..size-1."""
    first = offset if offset >= 0 else offset + step * (-(offset // step))
    last = offset + step * (count - 1)
    return first, min(last, size - 1) + 1
