"""Add (and Sub) of two maps, and Concat.

``Add`` is a 1x1 convolution over both maps lying side by side in AI RAM, with the identity for each. A linear 1x1
convolution before it joins the same layer: ``w * h + a`` is one convolution over ``[h, a]`` with the kernel ``[w, I]``,
which saves a layer and one rounding. ``Concat`` of channels is placement only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import AI_RAM_BYTES, MAX_CHANNELS, MIN_SIZE
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.lower import decide, moves, tensor
from openkpu.lower.context import Context
from openkpu.lower.conv import lower_deferred
from openkpu.lower.pool import pool_after, pool_for_view
from openkpu.lower.tail import follow
from openkpu.lower.view import View


def lower_add(ctx: Context, node: Node) -> None:
    """Lower Add or Sub of two maps of the same shape."""
    before = ctx.spent
    a, b = node.inputs
    if a.is_constant or b.is_constant or a.shape != b.shape:
        raise UnsupportedError(
            "E215",
            f"{node.op} that broadcasts or has a constant map",
            where=node.label,
            why=f"shapes {_dims(a)} and {_dims(b)}; V3 adds two maps of one shape, or a constant for each channel",
            fix="fold the constant into the convolution before it",
        )
    if len(a.shape) != 4 or min(a.shape[2:]) < MIN_SIZE:
        _add_on_cpu(ctx, node)
        return
    _leave_out_large(ctx, node)
    terms = [_term(ctx, t, sign) for t, sign in ((a, 1.0), (b, -1.0 if node.op == "Sub" else 1.0))]
    v0, v1 = terms[0][0], terms[1][0]
    moved = None if v0.same_place(v1) else moves.shifted(ctx, v1, v0, node.output.name)
    if moved is not None:
        terms[1] = moved, *terms[1][1:]
        v1 = moved
    if not v0.same_place(v1) or v0.step != 1 or min(v0.physical) < MIN_SIZE:
        terms = [_term(ctx, t, sign, cut=True) for t, sign in ((a, 1.0), (b, -1.0 if node.op == "Sub" else 1.0))]
        v0, v1 = terms[0][0], terms[1][0]
    terms.sort(key=lambda t: not t[0].fills_lines)
    if terms[0][0].tensor is not terms[1][0].tensor:
        v0, w0, b0 = terms[0]
        t, w0 = ctx.whole_lines(v0.tensor, w0, v0.tensor.name)
        terms[0] = v0.on(t), w0, b0
    v0 = terms[0][0]
    if v0.channels + terms[1][0].channels > MAX_CHANNELS or min(v0.physical) < MIN_SIZE:
        raise UnsupportedError(
            "E215",
            f"{node.op} of maps that cannot lie side by side in AI RAM",
            where=node.label,
            why=f"{v0.channels} + {terms[1][0].channels} channels of {v0.physical[1]}x{v0.physical[0]}; together "
            f"at most {MAX_CHANNELS}, on maps of at least 4x4",
            fix="use fewer channels",
        )
    for t in {id(t): t for t in node.inputs}.values():
        if id(t) in ctx.deferred:
            decide.conv(ctx, ctx.deferred[id(t)], [], 0.0, joined=True)
    tail = follow(ctx, node.output)
    stem = tail.before_pool.name
    if terms[0][0].tensor is terms[1][0].tensor:
        x, w = terms[0][0].tensor, terms[0][1] + terms[1][1]
    else:
        x = ctx.concat([t[0].tensor for t in terms], f"{stem}.terms")
        w = np.concatenate([t[1] for t in terms], axis=1)
    name = pool_for_view(ctx, v0, tail.pool) if tail.pool is not None else None
    out = v0.on(
        ctx.kpu_conv(x, w, terms[0][2] + terms[1][2], stem, fn=tail.fn, pool=name.split("+")[0] if name else "none")
    )
    taken = [n for n in tail.nodes if n is not tail.pool]
    if tail.pool is not None and name is not None:
        ctx.values[id(tail.end)] = pool_after(
            ctx, View(out.tensor, v0.top, v0.left, v0.height, v0.width), tail.pool, name, tail.end.name
        )
        taken.append(tail.pool)
    else:
        ctx.values[id(tail.before_pool)] = out
    ctx.done |= {id(n) for n in taken}
    decide.kpu_rewrite(ctx, node, "a 1x1 convolution over both maps side by side", ctx.spent - before, taken)


def _leave_out_large(ctx: Context, node: Node) -> None:
    """Run waiting convolutions on their own where all maps together are too many channels or bytes."""

    def need() -> tuple[int, int]:
        sources = [ctx.deferred[id(t)].inputs[0] if id(t) in ctx.deferred else t for t in node.inputs]
        maps = [ctx.map(t).layout for t in sources]
        channels = sum(m.channels for m in maps)
        h, w = maps[0].height, maps[0].width
        return channels, sum(m.bytes for m in maps) + FeatureMapLayout(node.output.shape[1], h, w).bytes

    for t in sorted(node.inputs, key=lambda t: -ctx.deferred[id(t)].inputs[0].shape[1] if id(t) in ctx.deferred else 0):
        channels, size = need()
        if channels > MAX_CHANNELS or size > AI_RAM_BYTES:
            lower_deferred(ctx, t)


Term = tuple[View, NDArray[Any], NDArray[Any]]
"""A summand: a map, the 1x1 kernel applied to it, and its bias."""


def _term(ctx: Context, t: Tensor, sign: float, cut: bool = False) -> Term:
    conv = ctx.deferred.get(id(t))
    if conv is not None:
        v = ctx.map(conv.inputs[0])
        if v.step != 1:
            v = moves.sampled(ctx, v, t.name) or v
        if v.step != 1 or cut:
            v = ctx.materialize(v, t.name)
        w, b = conv.weights_and_bias()
        return v, sign * w, sign * b
    v = ctx.map(t)
    if v.step != 1:
        v = moves.sampled(ctx, v, t.name) or v
    if cut or v.step != 1:
        v = ctx.materialize(v, t.name)
    c = v.channels
    return v, sign * np.eye(c, dtype=np.float32).reshape(c, c, 1, 1), np.zeros(c, np.float32)


def _add_on_cpu(ctx: Context, node: Node) -> None:
    """Add vectors and maps under 4x4 on the CPU, in float."""
    if node.op != "Add":
        raise UnsupportedError(
            "E215",
            f"{node.op} of vectors or small maps",
            where=node.label,
            why="the V3 runtime adds on the CPU; it has no subtraction",
            fix="negate the layer before it",
        )
    for t in node.inputs:
        lower_deferred(ctx, t)
    a, b = (ctx.shaped(t) for t in node.inputs)
    out = ctx.emit("CpuAdd", [a, b], a.shape, node.output.name)
    ctx.values[id(node.output)] = View.whole(out) if len(out.shape) == 4 else out
    decide.on_cpu(ctx, node, "vectors and maps under 4x4 are added on the CPU", "", 0.0, expected=True)


def lower_concat(ctx: Context, node: Node) -> None:
    """Lower Concat: of channels by placement in AI RAM, of anything contiguous by copying on the CPU."""
    before = ctx.spent
    axis, out = node.attrs["axis"], node.output
    if any(t.is_constant for t in node.inputs):
        raise UnsupportedError(
            "E216",
            "Concat with a constant",
            where=node.label,
            why="neither the KPU nor the V3 runtime places constants beside computed values",
            fix="leave the constant out",
        )
    spatial = len(out.shape) == 4 and axis == 1 and min(out.shape[2:]) > 1
    if spatial and _side_by_side(ctx, node):
        decide.kpu_rewrite(ctx, node, "placement side by side in AI RAM", ctx.spent - before)
        return
    if node.attrs.get("tiles") and axis == 2 and _one_below_the_other(ctx, node):
        decide.kpu_rewrite(ctx, node, "rows of the tiles copied within AI RAM", ctx.spent - before)
        return
    if ctx.target.has("Concat") or node.attrs.get("tiles"):
        tensor.concat(ctx, node, copied=spatial and _padded(ctx, node))
    elif int(np.prod(out.shape[:axis])) != 1:
        raise UnsupportedError(
            "E216",
            f"Concat along axis {axis}",
            where=node.label,
            why=f"the parts of a {_dims(out)} tensor are not one after the other in memory there",
            fix="concatenate along the channels (axis 1)",
        )
    else:
        parts = [ctx.shaped(t) for t in node.inputs]
        ctx.values[id(out)] = ctx.emit("CpuConcat", parts, out.shape, out.name, axis=axis)
        ctx.spent += int(np.prod(out.shape)) * 4 * ctx.rates.copy.ns / 1000
    if node.attrs.get("tiles"):
        why = "the tiles of a map that is too large for the KPU are put together"
        decide.on_cpu(ctx, node, why, "use a smaller picture", ctx.spent - before)
        return
    decide.on_cpu(
        ctx,
        node,
        "its result is used on the CPU" if not spatial else "the parts differ in size or alignment",
        "",
        ctx.spent - before,
        expected=True,
    )


def _padded(ctx: Context, node: Node) -> bool:
    """Whether a convolution with padding reads a concatenation."""
    return any(u.op == "Conv" and any(u.attrs["pads"]) for u in ctx.users.get(id(node.output), []))


def _side_by_side(ctx: Context, node: Node) -> bool:
    views = [ctx.map(t) for t in node.inputs]
    views = [(moves.sampled(ctx, v, node.output.name) or v) if v.step != 1 else v for v in views]
    views = [moves.shifted(ctx, v, views[0], node.output.name) or v for v in views]
    if any(not v.same_place(views[0]) or v.step != 1 for v in views):
        views = [ctx.materialize(v, node.output.name) for v in views]
    first = views[0]
    if min(first.physical) < MIN_SIZE or node.output.shape[1] > MAX_CHANNELS:
        return False
    tensors: list[Tensor] = []
    for i, v in enumerate(views):
        t = v.tensor
        # a map can lie in one place only; a second appearance, and one that is not aligned, needs a copy of its own
        if i < len(views) - 1 and not v.fills_lines:
            return False
        # the picture's zero point is given, and padding behind needs one that all parts can have
        if any(t is u for u in tensors) or (t.producer is None and _padded(ctx, node)):
            t = ctx.identity(t, f"{t.name}.copy")
        tensors.append(t)
    ctx.values[id(node.output)] = first.on(ctx.concat(tensors, node.output.name))
    return True


def _one_below_the_other(ctx: Context, node: Node) -> bool:
    """Put tiles of rows together in AI RAM; False where the CPU is faster or a tile is too low for a layer."""
    views = [ctx.map(t) for t in node.inputs]
    views = [(moves.sampled(ctx, v, node.output.name) or v) if v.step != 1 else v for v in views]
    first, version = views[0], ctx.target.version
    alike = all(
        (v.channels, v.physical[1], v.left, v.width, v.step)
        == (first.channels, first.physical[1], first.left, first.width, 1)
        for v in views
    )
    height = sum(v.height for v in views)
    out = node.output.shape
    on_kpu = sum(
        price.kpu_rows_us(v.channels, v.height, v.physical[1], version=version, layer_us=ctx.layer_us) for v in views
    )
    on_cpu = sum(
        price.cpu_cut_us(v.channels * v.height * v.width, (v.channels, *v.size), version=version) for v in views
    )
    if not alike or min(v.height for v in views) < MIN_SIZE or on_kpu > on_cpu:
        return False
    rows = ctx.emit(
        "KpuRows",
        [v.tensor for v in views],
        (1, first.channels, height, first.physical[1]),
        node.output.name,
        first=tuple(v.top for v in views),
        count=tuple(v.height for v in views),
        shift=(0,) * len(views),
    )
    ctx.spent += on_kpu
    ctx.values[id(node.output)] = View(rows, 0, first.left, out[2], out[3])
    return True


def _dims(t: Tensor) -> str:
    return "x".join(map(str, t.shape))
