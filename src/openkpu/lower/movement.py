"""Operators that move values, and those on flat values: Reshape, Transpose, Pad, Resize, Softmax, Elementwise."""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.basic import basic
from openkpu.graph.elementwise import X
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import MIN_SIZE
from openkpu.lower import decide
from openkpu.lower.context import Context, Value
from openkpu.lower.dense import emit_function
from openkpu.lower.tensor import float_function
from openkpu.lower.view import View

MOST_SOFTMAX_VECTORS = 64
AVERAGES = ("GlobalAveragePool", "ReduceMean", "ReduceSum")
INTERLEAVED: Final[dict[tuple[int, ...], tuple[str, int]]] = {
    (0, 3, 4, 1, 5, 2): ("DCR", 1),
    (0, 1, 4, 2, 5, 3): ("CRD", 2),
}
"""Orders that put channels between the pixels: the order of the channels, and where the block sizes are."""


def lower_reshape(ctx: Context, node: Node) -> None:
    """A Reshape keeps the order of the values in memory, so it costs nothing once they are there."""
    x = ctx.flat(node.inputs[0])
    shape = node.output.shape
    if tuple(x.shape) == shape:
        ctx.values[id(node.output)] = x
        return
    if len(shape) == 4 and shape[2:] == (1, 1):
        shape = shape[:2]
        if tuple(x.shape) == shape:
            ctx.values[id(node.output)] = x
            return
    ctx.values[id(node.output)] = ctx.emit("Reshape", [x], shape, node.output.name, shape=shape)


def lower_transpose(ctx: Context, node: Node) -> None:
    """NCHW -> NHWC is the runtime's Flatten; a transpose that only moves axes of length 1 is a Reshape.

    Channels between the pixels (DepthToSpace, transposed convolutions) are copies and a Flatten in V3.
    """
    x = ctx.shaped(node.inputs[0])
    perm = tuple(node.attrs["perm"])
    shape = node.inputs[0].shape
    moved = [p for p in perm if shape[p] != 1]
    if moved == sorted(moved):
        ctx.values[id(node.output)] = ctx.emit(
            "Reshape", [x], node.output.shape, node.output.name, shape=node.output.shape
        )
        return
    if perm == (0, 2, 3, 1):
        ctx.values[id(node.output)] = ctx.emit("CpuToHWC", [x], node.output.shape, node.output.name)
        us = int(np.prod(shape)) * ctx.rates.transpose.ns / 1000
        ctx.spent += us
        decide.on_cpu(ctx, node, "the runtime reorders CHW to HWC on the CPU", "", us, expected=True)
        return
    if ctx.target.version == 3 and perm in INTERLEAVED:
        _interleave(ctx, node, x, perm)
        return
    raise UnsupportedError(
        "E217",
        f"Transpose with order {perm}",
        where=node.label,
        why=f"kmodel V3 can turn (1, C, H, W) into (1, H, W, C) only; this is {'x'.join(map(str, shape))}",
        fix="remove the transpose, or end the model before it (outputs=[...])",
    )


def _interleave(ctx: Context, node: Node, x: Tensor, perm: tuple[int, ...]) -> None:
    order, at = INTERLEAVED[perm]
    blocks = (x.shape[at], x.shape[at + 1])
    attrs = {"perm": perm, "blocks": blocks, "order": order}
    ctx.values[id(node.output)] = ctx.emit("CpuInterleave", [x], node.output.shape, node.output.name, **attrs)
    r = ctx.rates
    each = r.dequantize.ns + r.transpose.ns + r.quantize.ns if blocks[1] > 1 else 0.0
    us = int(np.prod(x.shape)) * (each + 2 * r.copy.ns) / 1000
    ctx.spent += us
    why = "channels are put between the pixels by copies and the runtime's reordering, on the CPU"
    decide.on_cpu(ctx, node, why, "use nearest-neighbour Resize and a 3x3 convolution", us)


def lower_pad(ctx: Context, node: Node) -> None:
    """Pad H and W with zeros on the CPU."""
    p, x = node.attrs["pads"], ctx.map(node.inputs[0])
    if len(p) != 8 or any(p[i] for i in (0, 1, 4, 5)) or node.attrs["value"] != 0 or min(p) < 0:
        raise UnsupportedError(
            "E218",
            "Pad of other axes or with another value than 0",
            where=node.label,
            why=f"pads {tuple(p)}, value {node.attrs['value']}",
            fix="pad height and width with 0",
        )
    exact = ctx.materialize(x, node.output.name)
    out = ctx.emit("CpuPad", [exact.tensor], node.output.shape, node.output.name, pads=(p[2], p[3], p[6], p[7]))
    ctx.values[id(node.output)] = View.whole(out)
    n = int(np.prod(node.output.shape))
    us = price.cpu_pool_us(
        int(np.prod(exact.tensor.shape)), n, 1, width=node.output.shape[3], version=ctx.target.version
    )
    ctx.spent += us
    decide.on_cpu(ctx, node, "a Pad that no convolution takes in runs on the CPU", "pad inside the convolution", us)


def lower_resize(ctx: Context, node: Node) -> None:
    """Nearest-neighbour resize on the CPU."""
    a = node.attrs
    x = ctx.materialize(ctx.map(node.inputs[0]), node.output.name)
    (h, w), (oh, ow) = x.size, node.output.shape[2:]
    whole = oh % h == 0 and ow % w == 0
    same = a["coordinate"] == "asymmetric" and a["rounding"] == "floor"
    if a["mode"] != "nearest" or not (same or (whole and _same_indices(h, oh, a) and _same_indices(w, ow, a))):
        raise UnsupportedError(
            "E219",
            f"Resize with mode {a['mode']}, {a['coordinate']}, {a['rounding']}",
            where=node.label,
            why="the V3 runtime resizes by nearest neighbour, source index floor(o * in / out)",
            fix="use nearest neighbour with an integer factor",
        )
    out = ctx.emit("CpuResize", [x.tensor], node.output.shape, node.output.name, size=(oh, ow))
    ctx.values[id(node.output)] = View.whole(out)
    values = x.channels * oh * ow
    there = x.channels * h * w * ctx.rates.download.ns
    us = (there + values * (ctx.rates.resize.ns + price.upload_ns(ow, ctx.target.version))) / 1000
    ctx.spent += us
    decide.on_cpu(ctx, node, "the runtime resizes on the CPU", "", us, expected=True)


def _same_indices(n: int, out: int, attrs: dict[str, str]) -> bool:
    """Whether the resize's own index rule picks the same pixels as floor(o * in / out)."""
    o = np.arange(out)
    kind = attrs["coordinate"]
    if kind in ("half_pixel", "pytorch_half_pixel"):
        x = (o + 0.5) * n / out - 0.5
    elif kind == "align_corners":
        x = o * (n - 1) / max(1, out - 1)
    else:
        x = o * n / out
    rule = attrs["rounding"]
    index = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
    }[rule]
    return bool((np.clip(index, 0, n - 1) == np.floor(o * n / out)).all())


def lower_softmax(ctx: Context, node: Node) -> None:
    """Softmax over one or a few vectors on the CPU."""
    x = ctx.flat(node.inputs[0])
    shape = node.inputs[0].shape
    axis = node.attrs["axis"]
    vectors = int(np.prod(shape)) // shape[axis]
    inner = int(np.prod(shape[axis + 1 :]))
    if inner != 1 or vectors > MOST_SOFTMAX_VECTORS:
        raise UnsupportedError(
            "E220",
            f"Softmax over axis {axis} of {'x'.join(map(str, shape))}",
            where=node.label,
            why=f"kmodel V3 has a softmax over one vector; this has {vectors} vectors"
            + (f" whose values lie {inner} apart" if inner > 1 else f", limit {MOST_SOFTMAX_VECTORS}"),
            fix="end the model before the softmax (outputs=[...]) and apply it in the script",
        )
    if x.shape[-1] != shape[axis]:
        x = ctx.emit("Reshape", [x], shape[: axis + 1], f"{node.output.name}.vectors", shape=shape[: axis + 1])
    ctx.values[id(node.output)] = ctx.emit("CpuSoftmax", [x], tuple(x.shape), node.output.name, length=shape[axis])
    us = int(np.prod(shape)) * ctx.rates.exp.ns / 1000
    decide.on_cpu(ctx, node, "softmax runs on the CPU, in float", "", us, expected=True)


def _stays_float(ctx: Context, node: Node, v: Value) -> bool:
    """Whether a function of differences, products and the like is only averaged: as in the variance of a map."""
    made = v.tensor.producer if isinstance(v, View) and v.is_whole else None
    if (
        made is None
        or made.op != "TensorBinary"
        or not ctx.target.has("Elementwise")
        or basic(node.attrs["fn"]) is None
    ):
        return False
    readers = ctx.users.get(id(node.output), [])
    return not ctx.source.is_output(node.output) and all(r.op in AVERAGES for r in readers)


def lower_elementwise(ctx: Context, node: Node) -> None:
    """A function that no layer took in: a 1x1 depthwise KPU layer on a map, the CPU on anything else."""
    before = ctx.spent
    fn = node.attrs["fn"]
    v = ctx.values[id(node.inputs[0])]
    if fn == X:
        ctx.values[id(node.output)] = v
        return
    if _stays_float(ctx, node, v):
        float_function(ctx, node)
        decide.on_cpu(ctx, node, "a function between operators on floats", "", ctx.spent - before, expected=True)
        return
    if isinstance(v, Tensor) or min(v.physical) < MIN_SIZE:
        t: Tensor = ctx.flat(node.inputs[0])
        ctx.values[id(node.output)] = emit_function(ctx, t, fn, node.output.name)
        decide.on_cpu(ctx, node, "a function of a vector or small map runs on the CPU", "", 0.0, expected=True)
        return
    ctx.values[id(node.output)] = v.on(ctx.identity(v.tensor, node.output.name, fn=fn))
    decide.kpu_rewrite(ctx, node, "a depthwise 1x1 convolution with the function as activation", ctx.spent - before)
