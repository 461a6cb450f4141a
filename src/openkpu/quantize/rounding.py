"""Rounding weights so that their errors cancel on typical inputs (error feedback, known as OBQ or GPTQ).

Rounding a weight to the grid moves the layer's output; the weights not yet rounded of the same output channel are
adjusted to make up for it, as far as the inputs are correlated. With H the second moment of the inputs and U the upper
Cholesky factor of its inverse, the remaining row moves by ``error_i / U_ii * U_i``. Neighbouring pixels are strongly
correlated, so depthwise 3x3 layers gain most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.lower.ops import POOLS

MOST_COLUMNS: Final = 2048
STRIPE: Final = 32
SMALL: Final = 64
LARGEST_BLOCK: Final = 768
DAMPING: Final = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """The factors U of a layer's inputs: depthwise one array (C, k*k, k*k), else one for each block."""

    factors: list[NDArray[np.float32]]


def correlation(
    x: NDArray[np.uint8], kernel: int, zero_point: int, pool: str, depthwise: bool, damping: float = DAMPING
) -> Correlation:
    """Look at a layer's inputs (N, C, H, W) on calibration pictures; ``damping``: how little they are trusted."""
    windows = _windows(x, kernel, zero_point, pool)  # (C, k*k, n)
    if depthwise:
        return Correlation([_factor(windows @ windows.transpose(0, 2, 1), damping)])
    c, taps, n = windows.shape
    columns = windows.reshape(c * taps, n)
    step = max(1, LARGEST_BLOCK // taps) * taps
    parts = (columns[first : first + step] for first in range(0, c * taps, step))
    return Correlation([_factor((part @ part.T)[None], damping) for part in parts])


def compensated(w: Floats, scale: Floats, inputs: Correlation, depthwise: bool) -> NDArray[np.int64]:
    """Round effective weights (oc, ic or 1, k, k) to whole numbers -128..127 times ``scale`` (oc,)."""
    unit = w.reshape(w.shape[0], -1) / scale[:, None]
    if depthwise:
        return _feedback(unit[:, None, :], inputs.factors[0]).reshape(w.shape).astype(np.int64)
    result = np.empty_like(unit)
    first = 0
    for factor in inputs.factors:
        last = first + factor.shape[1]
        result[:, first:last] = _feedback(unit[None, :, first:last], factor)[0]
        first = last
    return result.reshape(w.shape).astype(np.int64)


def _factor(h: NDArray[Any], damping: float) -> NDArray[np.float32]:
    """Return U with ``inverse(h) = U.T @ U`` for second moments (batch, d, d), damped so that the inverse exists."""
    h = h.astype(np.float64)
    diagonal = np.einsum("bii->bi", h)
    h = h + np.eye(h.shape[1]) * (damping * diagonal.mean(1) + 1e-6)[:, None, None]
    # h = R R^T with R upper, from the Cholesky factor of h turned round; then U is the inverse of R
    lower = np.linalg.cholesky(h[:, ::-1, ::-1])
    return np.asarray(_inverse_of_lower(lower)[:, ::-1, ::-1], np.float32)


def _inverse_of_lower(a: Floats) -> Floats:
    """Invert lower triangular matrices (batch, d, d): halves by recursion, a third of the work of a general inverse."""
    d = a.shape[1]
    if d <= SMALL:
        return np.asarray(np.linalg.inv(a), np.float64)
    half = d // 2
    first, last = _inverse_of_lower(a[:, :half, :half]), _inverse_of_lower(a[:, half:, half:])
    result = np.zeros_like(a)
    result[:, :half, :half], result[:, half:, half:] = first, last
    result[:, half:, :half] = -last @ (a[:, half:, :half] @ first)
    return result


def _feedback(w: Floats, upper: NDArray[np.float32]) -> Floats:
    """Round ``w`` (batch, rows, d) in order, feeding errors forward by ``upper`` (batch, d, d)."""
    d = w.shape[2]
    rest = w.astype(np.float32)
    out = np.empty_like(w)
    # within a stripe step by step, then everything behind it in one product
    for first in range(0, d, STRIPE):
        last = min(first + STRIPE, d)
        errors = np.empty((w.shape[0], w.shape[1], last - first), np.float32)
        for i in range(first, last):
            q = np.clip(np.rint(rest[:, :, i]), -128, 127)
            out[:, :, i] = q
            error = (rest[:, :, i] - q) / upper[:, i, i][:, None]
            errors[:, :, i - first] = error
            rest[:, :, i + 1 : last] -= error[:, :, None] * upper[:, None, i, i + 1 : last]
        if last < d:
            rest[:, :, last:] -= errors @ upper[:, first:last, last:]
    return out


def _windows(x: NDArray[np.uint8], kernel: int, zero_point: int, pool: str) -> NDArray[np.float32]:
    """Sample the inputs of each tap: float32 (C, k*k, n) without their mean.

    The mean does not count: the bias correction makes up for it.
    """
    n, c, h, w = x.shape
    _, stride, window = POOLS[pool]
    step = stride if window == 1 else 1
    left = 1 if pool == "right_top2" else 0
    grid_y, grid_x = np.meshgrid(np.arange(0, h - h % step, step), np.arange(left, w, step), indexing="ij")
    thin = -(-grid_y.size // max(1, MOST_COLUMNS // n)) | 1
    ys, xs = grid_y.reshape(-1)[::thin], grid_x.reshape(-1)[::thin]
    r = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)), constant_values=zero_point) if r else x
    taps = np.stack([padded[:, :, ys + i, xs + j] for i in range(kernel) for j in range(kernel)])  # (k*k, N, C, n)
    result: NDArray[np.float32] = (
        np.ascontiguousarray(taps.transpose(2, 0, 1, 3)).reshape(c, kernel * kernel, -1).astype(np.float32)
    )
    result -= result.mean(2, keepdims=True, dtype=np.float32)
    return result
