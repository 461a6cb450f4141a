"""Over dimensions, with the arithmetic of nncase 1.9: reductions, softmax, running sums, greatest elements.

Sums run one element after the other in row-major order, each step rounded to float32.
Source: nncase v1.9.0, ``kernels/cpu/reference``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import ReduceOp

Array = NDArray[Any]
_TIE: Final = np.float32(0.000001)
_SMALLEST: Final = np.finfo(np.float32).tiny


def _rows(x: Array, axes: tuple[int, ...]) -> Array:
    """The elements that are reduced together, side by side: (..., n)."""
    kept = [i for i in range(x.ndim) if i not in axes]
    moved = x.transpose([*kept, *sorted(axes)])
    return moved.reshape(*(x.shape[i] for i in kept), -1)


def _sum(rows: Array, init: Any) -> Array:
    """Add one after the other, from ``init`` on."""
    total = np.full(rows.shape[:-1], init, rows.dtype)
    if rows.shape[-1] <= 64:
        for i in range(rows.shape[-1]):
            total = total + rows[..., i]
        return total
    first = np.concatenate([total[..., None], rows], -1)
    result: Array = np.add.accumulate(first, -1, dtype=rows.dtype)[..., -1]
    return result


def reduce(op: ReduceOp, x: Array, axes: tuple[int, ...], init: float, out: tuple[int, ...]) -> Array:
    """Reduce over ``axes`` to shape ``out``; float32, int32, int64. ``init`` has no effect on MIN and MAX."""
    rows = _rows(x, axes)
    with np.errstate(all="ignore"):
        if op is ReduceOp.MIN:
            return _extreme(rows, least=True).reshape(out)
        if op is ReduceOp.MAX:
            return _extreme(rows, least=False).reshape(out)
        total = _sum(rows, x.dtype.type(init))
        if op is ReduceOp.MEAN:
            n = rows.shape[-1]
            total = total / np.float32(n) if x.dtype == np.float32 else _truncated(total, n)
        return total.astype(x.dtype).reshape(out)


def _truncated(total: Array, n: int) -> Array:
    quotient: Array = np.abs(total) // n
    return np.where(total < 0, -quotient, quotient)


def _extreme(rows: Array, *, least: bool) -> Array:
    """The least or greatest; what is not a number never counts."""
    if rows.dtype == np.float32:
        info: Any = np.finfo(np.float32)
        bound = info.max if least else info.min
        rows = np.where(np.isnan(rows), bound, rows)
    else:
        info = np.iinfo(rows.dtype)
        bound = info.max if least else info.min
    found = rows.min(-1) if least else rows.max(-1)
    result: Array = np.minimum(found, bound) if least else np.maximum(found, bound)
    return result.astype(rows.dtype)


def reduce_prod(x: Array, axes: tuple[int, ...], out: tuple[int, ...]) -> Array:
    """Multiply over ``axes``, one after the other."""
    rows = _rows(x, axes)
    total = np.ones(rows.shape[:-1], x.dtype)
    with np.errstate(all="ignore"):
        for i in range(rows.shape[-1]):
            total = total * rows[..., i]
    return total.reshape(out)


def reduce_arg(
    x: NDArray[np.float32], axis: int, dtype: np.dtype[Any], out: tuple[int, ...], *, greatest: bool, last: bool
) -> Array:
    """The index of the greatest or least element; of those within 1e-6 of it as they come, the first or the last."""
    rows = np.moveaxis(x, axis, -1)
    best = np.full(rows.shape[:-1], -np.finfo(np.float32).max if greatest else np.finfo(np.float32).max, np.float32)
    index = np.zeros(rows.shape[:-1], np.int64)
    with np.errstate(all="ignore"):
        for i in range(rows.shape[-1]):
            v = rows[..., i]
            better = v > best if greatest else v < best
            tie = ~better & (np.abs(v - best) < _TIE) if last else np.zeros_like(better)
            index = np.where(better | tie, i, index)
            best = np.where(better, v, best)
    return index.astype(dtype).reshape(out)


def softmax_tensor(x: NDArray[np.float32], axis: int, beta: float) -> NDArray[np.float32]:
    """``exp((x - max) * beta) / sum`` along ``axis``."""
    with np.errstate(all="ignore"):
        v = (x - x.max(axis, keepdims=True)) * np.float32(beta)
        e = np.exp(v.astype(np.float64)).astype(np.float32)
        total = np.expand_dims(_sum(np.moveaxis(e, axis, -1), np.float32(0)), axis)
        result: NDArray[np.float32] = e / total
        return result


def cumulative_sum(x: Array, axis: int, *, exclusive: bool, reverse: bool) -> Array:
    """Running sum along ``axis``."""
    rows = np.flip(x, axis) if reverse else x
    with np.errstate(all="ignore"):
        total = np.add.accumulate(rows, axis, dtype=x.dtype)
    if exclusive:
        total = np.roll(total, 1, axis)
        total[(slice(None),) * axis + (0,)] = 0
    result: Array = np.flip(total, axis) if reverse else total
    return result


def hard_max(x: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """1 at the first greatest element along ``axis``; no 1 where none is greater than 1.2e-38."""
    best = np.argmax(np.where(np.isnan(x), -np.inf, x), axis)
    result = np.zeros_like(x)
    top = np.expand_dims(best, axis)
    np.put_along_axis(result, top, (np.take_along_axis(x, top, axis) > _SMALLEST).astype(np.float32), axis)
    return result


def top_k(x: NDArray[np.float32], k: int, axis: int, *, largest: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k greatest or least elements along ``axis``, best first, and their indices.

    The runtime keeps the best k in a heap ordered by (value, index), and a newcomer must beat the worst by its value:
    among equals at the edge the early ones stay, and equals come out by falling (greatest) or falling (least) index.
    """
    rows = np.moveaxis(x, axis, -1)
    order = np.argsort(-rows if largest else rows, -1, kind="stable")[..., :k]
    values = np.take_along_axis(rows, order, -1)
    # equal values: best first means the greater index first for the greatest, the smaller first for the least
    key = np.lexsort((-order, -values), -1) if largest else np.lexsort((order, values), -1)
    order = np.take_along_axis(order, key, -1)
    values = np.take_along_axis(rows, order, -1)
    return np.moveaxis(values, -1, axis), np.moveaxis(order, -1, axis)


def layer_norm(
    x: NDArray[np.float32], scale: NDArray[np.float32], bias: NDArray[np.float32], axis: int, epsilon: float
) -> NDArray[np.float32]:
    """Normalise over the dimensions from ``axis`` on."""
    rows = x.reshape(*x.shape[:axis], -1)
    n = np.float32(rows.shape[-1])
    with np.errstate(all="ignore"):
        centred = rows - _sum(rows / n, np.float32(0))[..., None]
        spread = _sum(centred * centred / n, np.float32(0))[..., None]
        normal = centred / np.sqrt(spread + np.float32(epsilon))
        scaled: Array = normal * scale.reshape(-1) + bias.reshape(-1)
        return scaled.reshape(x.shape)
