"""Rounding weights so that their errors cancel on typical inputs (error feedback, known as OBQ or GPTQ).

Rounding a weight to the grid moves the layer's output; the weights not yet rounded of the same output channel are
adjusted to make up for it, as far as the inputs are correlated: what they are rounded to comes from a triangular factor
of the inputs' second moments. Neighbouring pixels are strongly correlated, so depthwise 3x3 layers gain most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.quantize.native import loops
from openkpu.quantize.taps import positions

MOST_COLUMNS: Final = 1024
STRIPE: Final = 32
LARGEST_BLOCK: Final = 256
DAMPING: Final = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """The factors of a layer's inputs (``_factor``): depthwise one array (C, k*k, k*k), else one for each block."""

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


def compensated(w: Floats, scale: Floats, inputs: Correlation, depthwise: bool) -> NDArray[np.int16]:
    """Round effective weights (oc, ic or 1, k, k) to whole numbers -128..127 times ``scale`` (oc,)."""
    unit = (w.reshape(w.shape[0], -1) / scale[:, None]).astype(np.float32)
    if depthwise:
        return _feedback(unit[:, None, :], inputs.factors[0]).reshape(w.shape)
    result = np.empty(unit.shape, np.int16)
    first = 0
    for factor in inputs.factors:
        last = first + factor.shape[1]
        result[:, first:last] = _feedback(np.ascontiguousarray(unit[None, :, first:last]), factor)[0]
        first = last
    return result.reshape(w.shape)


def _factor(h: NDArray[Any], damping: float) -> NDArray[np.float32]:
    """Return how the error of each weight moves what those after it are rounded to: float32 (batch, d, d), row by row.

    ``h`` (batch, d, d) are second moments, damped so that they can be factored: ``h = R R^T`` with R upper. A sum of
    errors e costs ``|R^T e|^2``, whose term k is least where ``e_k = -sum of R_ik e_i / R_kk`` over the i before it.
    """
    h = h.astype(np.float64)
    diagonal = np.einsum("bii->bi", h)
    diagonal += (damping * diagonal.mean(1) + 1e-6)[:, None]
    # R from the Cholesky factor of h turned round
    upper = np.linalg.cholesky(h[:, ::-1, ::-1])[:, ::-1, ::-1]
    return np.ascontiguousarray(upper / np.einsum("bii->bi", upper)[:, None, :], np.float32)


def _feedback(w: NDArray[np.float32], factor: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round ``w`` (batch, rows, d) in order, each error moving the aims of the weights after it by ``factor``."""
    batch, rows, d = w.shape
    aim, out = w.copy(), np.empty(w.shape, np.int16)
    # within a stripe step by step, then everything behind it in one product
    for first in range(0, d, STRIPE):
        last = min(first + STRIPE, d)
        errors = np.empty((batch, rows, last - first), np.float32)
        _stripe(w, factor, aim, out, errors, first, last)
        if last < d:
            aim[:, :, last:] += errors @ factor[:, first:last, last:]
    return out


def _stripe(
    w: NDArray[np.float32],
    factor: NDArray[np.float32],
    aim: NDArray[np.float32],
    out: NDArray[np.int16],
    errors: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Round columns ``first`` to ``last - 1``; the aims of columns behind them stay as they are."""
    native = loops()
    if native is not None:
        native.feedback(w, factor, aim, out, errors, first, last)
        return
    for i in range(first, last):
        out[:, :, i] = np.clip(np.rint(aim[:, :, i]), -128, 127)
        error = w[:, :, i] - out[:, :, i]
        errors[:, :, i - first] = error
        aim[:, :, i + 1 : last] += error[:, :, None] * factor[:, None, i, i + 1 : last]


def _windows(x: NDArray[np.uint8], kernel: int, zero_point: int, pool: str) -> NDArray[np.float32]:
    """Sample the inputs of each tap: float32 (C, k*k, n) without their mean.

    The mean does not count: the bias correction makes up for it.
    """
    n, c, h, w = x.shape
    step, left = positions(pool)
    columns = -(-(w - left) // step)
    thin = -(-((h // step) * columns) // max(1, MOST_COLUMNS // n)) | 1
    native = loops()
    if native is not None:
        x = np.ascontiguousarray(x)
        count = native.window_count(x, kernel, step, left, thin)
        result = np.empty((c, kernel * kernel, n * count), np.float32)
        native.windows(x, kernel, step, left, thin, zero_point, result)
        return result
    grid_y, grid_x = np.meshgrid(np.arange(0, h - h % step, step), np.arange(left, w, step), indexing="ij")
    ys, xs = grid_y.reshape(-1)[::thin], grid_x.reshape(-1)[::thin]
    r = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)), constant_values=zero_point) if r else x
    taps = np.stack([padded[:, :, ys + i, xs + j] for i in range(kernel) for j in range(kernel)])  # (k*k, N, C, n)
    result = np.ascontiguousarray(taps.transpose(2, 0, 1, 3)).reshape(c, kernel * kernel, -1).astype(np.float32)
    result -= result.mean(2, keepdims=True, dtype=np.float64).astype(np.float32)
    return result
