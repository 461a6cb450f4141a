"""MaxPool and AveragePool: inside a convolution, in a KPU layer of their own, or on the CPU.

A 3x3 maximum with stride 2 is two KPU poolings: ``max2s1`` (rows y, y+1) and then ``max2`` (maps 2o, 2o+1 of that: rows
2o..2o+2). A pooling layer of its own is an identity 1x1 convolution with the pooling in it.
"""

from __future__ import annotations

from dataclasses import replace

from openkpu.estimate import price
from openkpu.graph.ir import Node
from openkpu.lower import decide, moves
from openkpu.lower.context import Context
from openkpu.lower.ops import POOLS
from openkpu.lower.tail import kpu_pool
from openkpu.lower.view import View


def pool_for_view(ctx: Context, v: View, pool: Node) -> str | None:
    """Return the KPU pooling (see ``kpu_pool``) that computes ``pool`` on this part of the map, or None."""
    name = kpu_pool(pool)
    if name is None or v.step != 1:
        return None
    ph, pw = v.physical
    # windows that reach out of the picture must also reach out of the map, where the KPU ignores them
    reach = name in ("max2s1", "max2s1+max2")
    if reach and any(pool.attrs["pads"]) and not (v.top + v.height == ph and v.left + v.width == pw):
        return None
    last = name.split("+")[-1]
    stride = POOLS[last][1]
    if v.top % stride or v.left % stride or not ctx.pool_fits(v.physical, last):
        return None
    oh, ow = pool.output.shape[2:]
    if v.top // stride + oh > ph // stride or v.left // stride + ow > pw // stride:
        return None
    return name


def pool_after(ctx: Context, v: View, pool: Node, name: str, stem: str) -> View:
    """Return the view after the pooling whose first part is already in the layer that made ``v.tensor``."""
    steps = name.split("+")
    stride = POOLS[steps[-1]][1]
    t = v.tensor
    t = moves.emit(ctx, t, [moves.attributes(pool=step) for step in steps[1:]], stem)
    oh, ow = pool.output.shape[2:]
    return View(t, v.top // stride, v.left // stride, oh, ow)


def lower_pool(ctx: Context, node: Node) -> None:
    """Lower a pooling that no convolution took in."""
    before = ctx.spent
    x = ctx.map(node.inputs[0])
    if x.step != 1:
        x = moves.sampled(ctx, x, node.output.name) or ctx.materialize(x, node.output.name)
    name = pool_for_view(ctx, x, node)
    oh, ow = node.output.shape[2:]
    stem = node.output.name
    c = x.channels
    version = ctx.target.version
    on_cpu = price.cpu_pool_us(c * x.height * x.width, c * oh * ow, _taps(node), width=ow, version=version)
    moved = moves.max_pool(ctx, x, node) if node.op == "MaxPool" else None
    if moved is not None and moved[0] <= on_cpu:
        _, steps, place = moved
        t = moves.emit(ctx, x.tensor, steps, stem)
        ctx.values[id(node.output)] = replace(place, tensor=t)
        price_text = f"{moved[0] / 1000:.2f} ms; on the CPU: {on_cpu / 1000:.2f}"
        decide.kpu_rewrite(ctx, node, f"{_how(steps)} ({price_text})", ctx.spent - before)
        return
    if name is not None:
        parts = name.split("+")
        cost = sum(price.kpu_layer_us(c, *x.physical, c, kernel=1, depthwise=False, version=version) for _ in parts)
        if cost <= on_cpu:
            t = ctx.identity(x.tensor, f"{stem}.pool", pool=parts[0])
            ctx.values[id(node.output)] = pool_after(ctx, x.on(t), node, name, stem)
            decide.kpu_rewrite(ctx, node, "a 1x1 identity convolution with the pooling in it", ctx.spent - before)
            return
    kernel, strides, pads = node.attrs["kernel"], node.attrs["strides"], node.attrs["pads"]
    if node.op == "MaxPool":
        # the chip's pooling sees the map's surroundings, so the picture must be a map of its own unless it fits inside
        inside = (
            not any(pads)
            and (oh - 1) * strides[0] + kernel[0] <= x.height
            and (ow - 1) * strides[1] + kernel[1] <= x.width
        )
        if not inside:
            x = ctx.materialize(x, stem)
        out = ctx.emit(
            "CpuMaxPool",
            [x.tensor],
            (1, c, oh, ow),
            stem,
            kernel=tuple(kernel),
            stride=tuple(strides),
            origin=(x.top - pads[0], x.left - pads[1]),
            size=(oh, ow),
        )
        ctx.spent += on_cpu
    else:
        x = ctx.materialize(x, stem)
        source = x.tensor
        if node.attrs["count_include_pad"] and any(pads):
            # the runtime divides by the taps inside, so the zeros that count must be there
            padded = (1, c, x.height + pads[0] + pads[2], x.width + pads[1] + pads[3])
            source, pads = ctx.emit("CpuPad", [source], padded, f"{stem}.pad", pads=tuple(pads)), (0, 0, 0, 0)
        out = ctx.emit(
            "CpuAveragePool",
            [source],
            (1, c, oh, ow),
            stem,
            kernel=tuple(kernel),
            stride=tuple(strides),
            pads=tuple(pads),
        )
        elements = c * oh * ow
        r = ctx.rates
        pooling = r.pool_output.ns + _taps(node) * r.pool_tap.ns + r.quantize.ns + price.upload_ns(ow, version)
        ctx.spent += (c * x.height * x.width * (r.download.ns + r.dequantize.ns) + elements * pooling) / 1000
    ctx.values[id(node.output)] = View.whole(out)
    decide.on_cpu(
        ctx,
        node,
        "the KPU pools 2x2 or 4x4 windows; this one has "
        f"kernel {kernel[0]}x{kernel[1]}, stride {strides[0]}x{strides[1]}, pads {tuple(pads)} on "
        f"{x.width}x{x.height}",
        "use 2x2 pooling with stride 2 on an even size",
        ctx.spent - before,
    )


def _how(steps: list[moves.Attributes]) -> str:
    """Say how a maximum is taken on the KPU."""
    text = "a chain of 2x2 maxima of the KPU" if len(steps) > 1 else "a 2x2 maximum of the KPU"
    more = ["shifted"] if any(a["shift"] != (0, 0) for a in steps) else []
    more += ["freed of what surrounds the picture"] if any(a["keep"] for a in steps) else []
    return f"{text}, on the map {' and '.join(more)}" if more else text


def _taps(node: Node) -> int:
    k = node.attrs["kernel"]
    return int(k[0] * k[1])
