"""Weights: symmetric, one scale for each output channel; zero point 128, or 32768 where they have 16 bits.

The scale of 8-bit weights comes from a small search for the least squared error. Rows with few weights (an identity, a
sum of two maps) get a finer search, since with a suitable scale all their weights are whole numbers almost exactly.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.quantize.native import loops

ZERO_POINT: Final = 128
SHRINK: Final = (1.0, 0.98, 0.96, 0.93, 0.9, 0.85)
FEW: Final = 4


def scales(w: NDArray[Any]) -> NDArray[np.float64]:
    """Return the scale of each row of float weights (oc, n): ``q = round(w / scale)`` lies in -128..127."""
    w = np.ascontiguousarray(w, np.float32)
    native = loops()
    if native is not None and w.size:
        found = np.empty(len(w))
        native.weight_scales(w, np.array(SHRINK), FEW, found)
        return found
    base = np.maximum(w.max(1) / 127, -w.min(1) / 128)
    # a row of zeros takes the finest scale of the others, so that it does not coarsen the layer's fixed-point numbers
    finest = base[base > 0].min(initial=np.inf)
    base = np.where(base > 0, base, finest if np.isfinite(finest) else 1.0).astype(np.float64)
    best = np.full(len(w), np.inf)
    result = base.copy()
    few = (w != 0).sum(1) <= FEW
    for f in SHRINK:
        _improve(w, base * f, ~few, best, result)
    if few.any():
        result[few] = _few_scales(w[few], base[few])
    return result


def _few_scales(w: NDArray[np.float32], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best of 96 scales for rows with at most ``FEW`` weights that are not 0; the finest of equal ones."""
    order = np.argsort(w == 0, axis=1, kind="stable")[:, :FEW]
    part = np.take_along_axis(w, order, 1)[:, :, None]
    candidates = base[:, None] * 127 / np.arange(127, 31, -1)
    s = candidates.astype(np.float32)[:, None, :]
    error = ((np.clip(np.rint(part * (1 / s)), -128, 127) * s - part) ** 2).sum(1)
    good = error <= error.min(1, keepdims=True) * (1 + 1e-9)
    return np.asarray(np.take_along_axis(candidates, good.argmax(1)[:, None], 1)[:, 0])


def zero_point(bits: int) -> int:
    """Return the number that stands for 0 in weights of 8 or 16 bits."""
    return 1 << (bits - 1)


def fine_scales(w: NDArray[Any], coarsest: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """Return the scale of each row of float weights (oc, n) for 16 bits: the finest that holds its largest weight.

    Not under ``coarsest``, the scale under which the factors behind the layer lose more than the weights gain.
    """
    top = np.abs(np.asarray(w, np.float64)).max(1) / (zero_point(16) - 1)
    least = top[top > 0].min(initial=np.inf)
    return np.maximum(np.where(top > 0, top, least if np.isfinite(least) else 1.0), coarsest)


def on_grid(w: NDArray[Any]) -> NDArray[np.float64]:
    """Return for each row (oc, n) the largest step of which all its weights are whole multiples up to 255; else NaN.

    So weights that were integers times a scale are recognised, whatever moved them in between: a row of zeros and any
    row with one weight are on a grid too. A float32 product is within 1e-7 of its place; 1e-3 of a step is allowed, and
    the odds that other weights fall there are 0.002 each.
    """
    w = np.asarray(w, np.float64)
    top = np.abs(w).max(1)
    step = np.where(top > 0, np.nan, 1.0)
    few = np.argsort(-np.abs(w), axis=1)[:, :24]
    sample = np.take_along_axis(w, few, 1) / np.where(top > 0, top, 1.0)[:, None]
    for k in range(1, 256):
        open_rows = np.flatnonzero(np.isnan(step))
        likely = open_rows[(np.abs(sample[open_rows] * k - np.rint(sample[open_rows] * k)) < 1e-3).all(1)]
        unit = w[likely] * (k / top[likely, None])
        step[likely[(np.abs(unit - np.rint(unit)) < 1e-3).all(1)]] = k
    found = ~np.isnan(step) & (top > 0)
    step[found] = top[found] / step[found]
    return step


def _improve(
    w: NDArray[np.float32],
    s: NDArray[np.float64],
    rows: NDArray[np.bool_],
    best: NDArray[np.float64],
    result: NDArray[np.float64],
) -> None:
    if not rows.any():
        return
    part, sp = w[rows] if not rows.all() else w, s[rows, None].astype(np.float32)
    error = ((np.clip(np.rint(part * (1 / sp)), -128, 127) * sp - part) ** 2).sum(1)
    better = error < best[rows] * (1 - 1e-9)
    index = np.flatnonzero(rows)[better]
    best[index] = error[better]
    result[index] = s[index]


def quantize(w: NDArray[Any], scale: NDArray[np.float64], bits: int = 8) -> NDArray[np.int16]:
    """Round float weights (oc, ...) to whole numbers -128..127, or those of 16 bits."""
    s = scale.reshape(-1, *[1] * (w.ndim - 1))
    half = zero_point(bits)
    q = np.rint(w / s)
    return np.clip(q, -half, half - 1, out=q).astype(np.int16)


def weigh(
    wq: NDArray[np.int16], means: NDArray[np.float64], *, apart: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row of whole weights (oc, n...) its product with the means of the taps (``apart``: a row's own).

    And the sums of its positive and of its negative weights, int64 (oc,).
    """
    flat = wq.reshape(len(wq), -1)
    native = loops()
    if native is None:
        rows = flat.astype(np.int64)
        product = (rows * means.reshape(flat.shape)).sum(1) if apart else rows @ means.reshape(-1)
        return product, np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    product, up, down = np.empty(len(flat)), np.empty(len(flat), np.int64), np.empty(len(flat), np.int64)
    native.weigh(flat, means.reshape(-1), apart, product, up, down)
    return product, up, down
