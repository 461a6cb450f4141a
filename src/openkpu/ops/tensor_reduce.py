"""Tensor operators that sum up: reduction, softmax, matrix product; float32, in the order of the runtime's C loops.

Source: nncase v0.2.0-beta4, ``neutral_kernels.h``.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import NO_CLAMP, Clamp, ReduceOp
from openkpu.ops.tensor_elementwise import clamp, exp, maximum, minimum

F32 = NDArray[np.float32]


def reduce(op: ReduceOp, x: F32, axes: tuple[int, ...], init: float) -> F32:
    """Reduce ``axes`` to size 1, from ``init`` on; a mean multiplies the sum by the float32 ratio of the sizes."""
    rows, shape = rows_of(x, axes)
    with np.errstate(all="ignore"):
        out = np.full(rows.shape[1:], init, np.float32)
        for row in rows:  # one addition after the other, as the runtime's float sum
            if op is ReduceOp.MIN:
                out = minimum(out, row)
            elif op is ReduceOp.MAX:
                out = maximum(out, row)
            else:
                out = out + row
        return finish(op, out.reshape(shape), x.size)


def rows_of(x: F32, axes: tuple[int, ...]) -> tuple[F32, tuple[int, ...]]:
    """Bring what is summed to the front, (count, the rest); also return the result's shape, with size 1 on ``axes``."""
    axes = tuple(a % x.ndim for a in axes)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return x.transpose(*axes, *kept).reshape(prod(x.shape[i] for i in axes), *(x.shape[i] for i in kept)), shape


def finish(op: ReduceOp, out: F32, count: int) -> F32:
    """Make a mean of a sum over ``count`` elements; leave the others."""
    return out * (np.float32(out.size) / np.float32(count)) if op is ReduceOp.MEAN else out


def softmax(x: F32, beta: float) -> F32:
    """Softmax of ``beta * x`` along the last axis."""
    with np.errstate(all="ignore"):
        e = exp((x - x.max(axis=-1, keepdims=True)) * np.float32(beta))
        return np.divide(e, np.add.accumulate(e, axis=-1)[..., -1:], dtype=np.float32)


def matmul(a: F32, b: F32, bias: F32, limits: Clamp = NO_CLAMP) -> F32:
    """(rows, inner) by (inner, columns), bias (columns,) first, then one product after the other."""
    out = np.broadcast_to(bias, (a.shape[0], b.shape[1])).astype(np.float32)
    with np.errstate(all="ignore"):
        for i in range(a.shape[1]):
            out = out + a[:, i : i + 1] * b[i]
        return clamp(out, limits)
