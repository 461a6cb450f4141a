"""The best 16 straight segments for a curve, by dynamic programming.

Every segment starts at a whole output number (the table's result bias) and rises or stays level. Falling slopes are
not used: the chip's rounding of negative products moves values up to two away (see ``kpu.reference.activate``), and no
shipped file has one; falling parts become levels. The error is weighted by how often calibration met each input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import ACTIVATION_SEGMENTS
from openkpu.quantize.native import loops

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Segment:
    """For inputs over ``start``: ``y = bias + slope * (x - start)``."""

    start: float
    slope: float
    bias: int


def fit(x: Floats, target: Floats, weight: Floats) -> list[Segment]:
    """Fit at most 16 segments to ``target`` (0..255) at the rising points ``x``; the first starts at -inf, level.

    O(n^2) in the number of points; a few hundred are enough.
    """
    w = weight / weight.sum()
    native = loops()
    if native is not None:
        return [Segment(*s) for s in native.fit_segments(*map(np.ascontiguousarray, (x, target, w)))]
    n = len(x)
    t = np.clip(target, 0, 255)
    cost, slope, bias = _all_pairs(x, t, w)
    zero = np.zeros(1)
    sw, st, stt = (np.concatenate([zero, np.cumsum(v)]) for v in (w, w * t, w * t * t))
    level = np.clip(np.rint(np.divide(st, sw, out=np.zeros(n + 1), where=sw > 0)), 0, 255)
    level[0] = np.rint(t[0])
    # best[k][j]: least cost of the first j points with k segments; a segment covers points i..j-1 and starts at i - 1
    best = stt - 2 * level * st + level**2 * sw
    back: list[NDArray[np.int64]] = []
    history = [best]
    for _ in range(ACTIVATION_SEGMENTS - 1):
        options = best[:n, None] + cost[:n, :]  # [i, j]
        choice = options.argmin(0)
        candidate = np.concatenate([best[:1], options[choice, np.arange(n)]])
        improved = candidate < best - 1e-15
        improved[0] = False
        back.append(np.where(improved, np.concatenate([[0], choice]), -1))
        best = np.where(improved, candidate, best)
        history.append(best)
    segments: list[Segment] = []
    j = n
    for k in range(ACTIVATION_SEGMENTS - 2, -1, -1):
        i = int(back[k][j])
        if i < 0:
            continue
        anchor = max(i - 1, 0)
        segments.append(Segment(float(x[anchor]), float(slope[i, j - 1]), int(bias[i, j - 1])))
        j = i
        if j == 0:
            break
    segments.append(Segment(-np.inf, 0.0, int(level[j])))
    return segments[::-1]


def _all_pairs(x: Floats, t: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """For every first point i and last point j: the least cost, slope and bias of one segment that starts at i - 1."""
    n = len(x)
    zero = np.zeros(1)
    sums = [np.concatenate([zero, np.cumsum(v)]) for v in (w, w * x, w * x * x, w * t, w * t * x, w * t * t)]
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    d = [s[j + 1] - s[i] for s in sums]
    valid = j >= i
    anchor = np.maximum(i - 1, 0)
    a = x[anchor]
    dx = d[1] - a * d[0]
    dxx = d[2] - 2 * a * d[1] + a * a * d[0]
    dtx = d[4] - a * d[3]
    cost = np.full((n, n), np.inf)
    slope, bias = np.zeros((n, n)), np.zeros((n, n))
    for delta in (-1, 0, 1, 2):
        b = np.clip(np.floor(t[anchor]) + delta, 0, 255) * np.ones_like(d[0])
        m = np.maximum(np.divide(dtx - b * dx, dxx, out=np.zeros_like(dxx), where=dxx > 1e-300), 0)
        c = d[5] - 2 * b * d[3] + b * b * d[0] - 2 * m * (dtx - b * dx) + m * m * dxx
        better = valid & (c < cost)
        cost, slope, bias = np.where(better, c, cost), np.where(better, m, slope), np.where(better, b, bias)
    return cost, slope, bias
