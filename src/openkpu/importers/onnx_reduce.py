"""Handlers of operators over whole dimensions: reductions, positions of maxima, vectors of length 1."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call, handles
from openkpu.importers.onnx_fold import keep_name

PICTURE: Final = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
"""Reductions that are a pooling where they go over height and width only."""


@handles(*PICTURE, "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def reduce(call: Call) -> None:
    """Over H, W or both of a picture a mean, sum, maximum or minimum is a pooling; others keep their name."""
    x, given = call.x, call.axes()
    rank, keep = len(x.shape), call.integer("keepdims", 1)
    if keep not in (0, 1):
        raise call.damaged(f"keepdims is {keep}, not 0 or 1")
    if not given:
        if call.integer("noop_with_empty_axes", 0):
            call.alias(x)
            return
        given = list(range(rank))
    if x.dtype != "float32":
        keep_name(call)
        return
    axes = {call.axis(a, rank) for a in given}
    kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    final = kept if keep else tuple(d for i, d in enumerate(x.shape) if i not in axes)
    wide = {a for a in axes if x.shape[a] != 1} or axes
    if rank != 4 or not wide <= {2, 3} or call.op not in PICTURE:
        call.emit(call.op, [x], final, axes=tuple(sorted(axes)), keepdims=keep)
        return
    kernel = tuple(x.shape[i] if i in wide else 1 for i in (2, 3))
    t = _pooled(call, x, kept, (kernel[0], kernel[1]), last=final == kept)
    if final != kept:
        call.emit("Reshape", [t], final, shape=final)


def _pooled(call: Call, x: Tensor, shape: tuple[int, ...], kernel: tuple[int, int], *, last: bool) -> Tensor:
    """Reduce over a window that spans whole rows, columns or both; ``last``: this is the operator's output."""
    end = call.emit if last else call.step
    window = {"kernel": kernel, "strides": (1, 1), "pads": (0, 0, 0, 0)}
    if call.op == "ReduceMax":
        return end("MaxPool", [x], shape, **window)
    if call.op == "ReduceMin":
        highest = call.step("MaxPool", [call.step("Neg", [x], x.shape)], shape, **window)
        return end("Neg", [highest], shape)
    mean = end if call.op == "ReduceMean" else call.step
    if kernel == x.shape[2:]:
        t = mean("GlobalAveragePool", [x], shape)
    else:
        t = mean("AveragePool", [x], shape, **window, count_include_pad=0)
    if call.op == "ReduceMean":
        return t
    return end("Mul", [t, call.number(np.float32(math.prod(kernel)), "count")], shape)


@handles("ReduceLogSum", "ReduceLogSumExp")
def reduce_log(call: Call) -> None:
    """The logarithm of a sum, of the exponentials with LogSumExp."""
    x, rank = call.x, len(call.x.shape)
    given, keep = call.axes() or [], call.integer("keepdims", 1)
    if not given and call.integer("noop_with_empty_axes", 0):
        raise call.refuse(f"{call.op} over no axis")
    axes = tuple(sorted({call.axis(a, rank) for a in given or range(rank)}))
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    terms = call.step("Exp", [x], x.shape) if call.op == "ReduceLogSumExp" else x
    total = call.step("ReduceSum", [terms], shape, axes=axes, keepdims=int(keep != 0))
    call.emit("Log", [total], shape)


@handles("ArgMax", "ArgMin")
def arg_max(call: Call) -> None:
    """The position is a whole number; of equal ones the first, unless the file says the last."""
    x = call.x
    axis, keep = call.axis(call.integer("axis", 0), len(x.shape)), call.integer("keepdims", 1)
    shape = [1 if i == axis else d for i, d in enumerate(x.shape) if keep or i != axis]
    attrs = {"axis": axis, "keepdims": int(keep != 0), "select_last_index": call.integer("select_last_index", 0)}
    call.emit_many(call.op, [(call.outputs[0], tuple(shape), "int64")], attrs)


@handles("LpNormalization")
def lp_normalization(call: Call) -> None:
    """``x / norm(x)`` along one axis, with the 1- or the 2-norm."""
    p = call.integer("p", 2)
    if p not in (1, 2):
        raise call.damaged(f"LpNormalization with p = {p}")
    axis = call.axis(call.integer("axis", -1), len(call.x.shape))
    call.emit("LpNormalization", [call.x], call.x.shape, axis=axis, p=p)
