"""Reductions: over channels a 1x1 convolution, over neighbouring dimensions a pooling whose window is all of them.

``ReduceMean`` and ``ReduceSum`` over the channels of a map are a 1x1 convolution with one output. Every other reduction
over dimensions that lie side by side is a pooling: seen as (outer, reduced, inner), the window is (reduced, 1). V3 has
poolings only; V4 and V5 reduce in general (``tensor``).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from openkpu.errors import UnsupportedError
from openkpu.graph.elementwise import Expr, X, const
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MIN_SIZE
from openkpu.lower import decide
from openkpu.lower.average import lower_global_average_pool
from openkpu.lower.context import Context
from openkpu.lower.conv import lower_conv
from openkpu.lower.dense import emit_function
from openkpu.lower.movement import MOST_SOFTMAX_VECTORS, lower_reshape
from openkpu.lower.pool import lower_pool
from openkpu.lower.view import View

NEGATED: Final = Expr("Neg", (X,))


def lower_reduce(ctx: Context, node: Node) -> None:
    """Lower ReduceMean, ReduceSum, ReduceMax or ReduceMin."""
    x, axes = node.inputs[0], axes_of(node)
    v = ctx.values[id(x)]
    sums = node.op in ("ReduceMean", "ReduceSum")
    if sums and 1 in axes and len(x.shape) == 4 and isinstance(v, View) and min(v.physical) >= MIN_SIZE:
        _over_channels(ctx, node, axes)
        return
    if ctx.target.has(node.op):
        raise _refused(node, f"axes {axes} are reduced on the CPU")
    _pooled(ctx, node, axes)


def axes_of(node: Node) -> tuple[int, ...]:
    """Return the axes of a reduction, counted from the front; those of size 1 only where there are no others."""
    shape, given = node.inputs[0].shape, node.attrs.get("axes")
    if len(node.inputs) > 1 and node.inputs[1].data is not None:
        given = np.asarray(node.inputs[1].data).reshape(-1).tolist()
    rank = len(shape)
    axes = sorted({int(a) % rank for a in given}) if given is not None and len(given) else list(range(rank))
    return tuple(a for a in axes if shape[a] != 1) or tuple(axes)


def _over_channels(ctx: Context, node: Node, axes: tuple[int, ...]) -> None:
    """Sum up the channels in a 1x1 convolution, then average over height and width."""
    x, out = node.inputs[0], node.output
    _, c, h, w = x.shape
    rest = [a for a in axes if a in (2, 3)]
    factor = 1 / c if node.op == "ReduceMean" else float(math.prod(x.shape[a] for a in rest))
    name = ctx.name(f"{out.name}.weights")
    weights = Tensor(name, (1, c, 1, 1), "float32", np.full((1, c, 1, 1), factor, np.float32))
    attrs: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    summed = Tensor(f"{out.name}.channels", (1, 1, h, w))
    lower_conv(ctx, Node("Conv", [x, weights], [summed], attrs, node.source))
    last = summed
    if rest:
        kernel = tuple(x.shape[a] if a in rest else 1 for a in (2, 3))
        last = Tensor(f"{out.name}.pooled", (1, 1, h // kernel[0], w // kernel[1]))
        if len(rest) == 2:
            lower_global_average_pool(ctx, Node("GlobalAveragePool", [summed], [last], {}, node.source))
        else:
            window = {"kernel": kernel, "strides": (1, 1), "pads": (0, 0, 0, 0), "count_include_pad": 0}
            lower_pool(ctx, Node("AveragePool", [summed], [last], window, node.source))
    if last.shape == out.shape:
        ctx.values[id(out)] = ctx.values[id(last)]
        return
    lower_reshape(ctx, Node("Reshape", [last], [Tensor(out.name, out.shape)], {"shape": out.shape}, node.source))
    made = ctx.nodes[-1].output
    ctx.values[id(out)] = made if made.shape in (out.shape, out.shape[:2]) else ctx.values[id(last)]


def _pooled(ctx: Context, node: Node, axes: tuple[int, ...]) -> None:
    """Reduce block after block of neighbouring dimensions, the last one first."""
    x, out = node.inputs[0], node.output
    t = ctx.shaped(x)
    shape = list(x.shape)
    before = ctx.spent
    if node.op == "ReduceMin":
        t = emit_function(ctx, t, NEGATED, f"{out.name}.negated")
    for first, stop in reversed(_blocks(axes)):
        outer, size, inner = (math.prod(shape[a:b]) for a, b in ((0, first), (first, stop), (stop, len(shape))))
        shape[first:stop] = [1] * (stop - first)
        seen = (1, outer, size, inner)
        t = ctx.emit("Reshape", [t], seen, f"{out.name}.seen", shape=seen)
        result = (1, outer, 1, inner)
        if node.op in ("ReduceMax", "ReduceMin"):
            where = {"kernel": (size, 1), "stride": (1, 1), "origin": (0, 0), "size": (1, inner)}
            t = ctx.emit("CpuMaxPool", [t], result, f"{out.name}.most", **where)
        else:
            window = {"kernel": (size, 1), "stride": (1, 1), "pads": (0, 0, 0, 0)}
            t = ctx.emit("CpuAveragePool", [t], result, f"{out.name}.mean", **window)
        ctx.spent += outer * inner * (ctx.rates.pool_output.ns + size * ctx.rates.pool_tap.ns) / 1000
    if node.op == "ReduceMin":
        t = emit_function(ctx, t, NEGATED, f"{out.name}.least")
    elif node.op == "ReduceSum":
        count = const(math.prod(x.shape[a] for a in axes))
        t = emit_function(ctx, t, Expr("Mul", (X, count)), f"{out.name}.sum")
    made = ctx.emit("Reshape", [t], out.shape, out.name, shape=out.shape)
    ctx.values[id(out)] = View.whole(made) if len(out.shape) == 4 and out.shape[2:] != (1, 1) else made
    why = f"reduction over axes {axes} is a pooling on the CPU"
    decide.on_cpu(ctx, node, why, "", ctx.spent - before, expected=True)


def _blocks(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the runs (first, stop) of neighbouring axes."""
    blocks: list[tuple[int, int]] = []
    for a in axes:
        if blocks and blocks[-1][1] == a:
            blocks[-1] = (blocks[-1][0], a + 1)
        else:
            blocks.append((a, a + 1))
    return blocks


def _refused(node: Node, why: str) -> UnsupportedError:
    return UnsupportedError("E272", f"{node.op} in a form that the KPU does not have", where=node.label, why=why)


def lower_normalization(ctx: Context, node: Node) -> None:
    """``x`` over its norm along one axis, in float on the CPU: V3 has the 2-norm of whole vectors."""
    x, axis, p = node.inputs[0], node.attrs["axis"], node.attrs["p"]
    inner = math.prod(x.shape[axis + 1 :])
    vectors = math.prod(x.shape) // x.shape[axis]
    if ctx.target.version == 3 and (inner != 1 or p != 2 or vectors > MOST_SOFTMAX_VECTORS):
        raise UnsupportedError(
            "E273",
            f"normalisation by the {p}-norm over axis {axis} of {'x'.join(map(str, x.shape))}",
            where=node.label,
            why="kmodel V3 has the 2-norm of one vector; "
            + (f"the {p}-norm is not among its operators" if p != 2 else f"these are {vectors} vectors"),
            fix="end the model before it (outputs=[...]) and normalise in the script",
        )
    t = ctx.shaped(x)
    out = ctx.emit("CpuNormalize", [t], x.shape, node.output.name, axis=axis, p=p)
    ctx.values[id(node.output)] = View.whole(out) if len(x.shape) == 4 and x.shape[2:] != (1, 1) else out
    us = math.prod(x.shape) * 2 * ctx.rates.average.ns / 1000
    ctx.spent += us
    decide.on_cpu(ctx, node, "vectors are normalised on the CPU, in float", "", us, expected=True)
