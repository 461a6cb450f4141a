"""GlobalAveragePool: the KPU averages blocks of pixels, the CPU the blocks; or the CPU everything.

Two depthwise layers give the mean of a block of 4x4 pixels (or 3x3) at its centre; one pixel a block is then cut out,
turned into floats and averaged. That is a sixteenth of the pixels, and rounding a block's mean to 8 bits weighs little
where many blocks are averaged.
"""

from __future__ import annotations

import numpy as np

from openkpu.estimate import price
from openkpu.graph.ir import Node, Tensor
from openkpu.lower import decide, moves
from openkpu.lower.context import Context
from openkpu.lower.view import View
from openkpu.passes.block_means import Blocks, blocks

LEAST_GAIN_US = 50.0
"""What the two roundings more must be worth."""


def lower_global_average_pool(ctx: Context, node: Node) -> None:
    """Average a whole map; the result is a vector (1, C)."""
    before = ctx.spent
    v = ctx.map(node.inputs[0])
    c, (h, w) = v.channels, v.size
    if (h, w) == (1, 1):
        t = ctx.materialize(v, node.output.name).tensor
        ctx.values[id(node.output)] = ctx.emit("Reshape", [t], (1, c), node.output.name, shape=(1, c))
        return
    if v.step != 1:
        v = moves.sampled(ctx, v, node.output.name) or ctx.materialize(v, node.output.name)
    version = ctx.target.version
    plan = blocks(h), blocks(w)
    note = "the runtime averages over a whole map on the CPU"
    alone = price.cpu_average_us(c, h, w, version=version)
    us, source = alone, None
    if plan[0] is not None and plan[1] is not None and not ctx.source.scales:
        on_kpu = price.kpu_average_us(c, *v.physical, (plan[0].count, plan[1].count), version=version)
        if on_kpu < alone - LEAST_GAIN_US:
            whole = v if v.is_whole or v.clean else moves.clean(ctx, v, node.output.name)
            if whole is not None:
                us, source = on_kpu, _block_means(ctx, node, whole, plan[0], plan[1])
    if source is None:
        source, us = ctx.materialize(v, node.output.name).tensor, alone
    else:
        taken = source.shape[2] * source.shape[3]
        cost = f"{us / 1000:.2f} ms instead of {alone / 1000:.2f}"
        note = f"the KPU averages blocks, the CPU {taken} of {h * w} pixels: {cost}"
    ctx.values[id(node.output)] = ctx.emit("CpuGlobalAveragePool", [source], (1, c), node.output.name)
    ctx.spent = before + us
    decide.on_cpu(ctx, node, note, "", ctx.spent - before, expected=True)


def _block_means(ctx: Context, node: Node, v: View, rows: Blocks, cols: Blocks) -> Tensor:
    """Emit the two layers and the cut: a map (1, C, blocks, blocks) whose mean is the picture's."""
    c, stem = v.channels, node.output.name
    t = v.tensor
    scale = rows.count * cols.count / (v.height * v.width)
    for i in (0, 1):
        kernel = np.outer(rows.taps[i], cols.taps[i]).astype(np.float32)
        # the first layer takes a mean, the second what is left of the factor
        factor = 1 / kernel.sum()
        scale /= factor
        weights = np.tile(kernel * (factor if i == 0 else scale * factor), (c, 1, 1, 1)).astype(np.float32)
        t = ctx.kpu_conv(t, weights, np.zeros(c, np.float32), f"{stem}.blocks{i}", depthwise=c > 1)
    size = rows.count, cols.count
    return ctx.emit(
        "CpuMaxPool",
        [t],
        (1, c, *size),
        f"{stem}.centres",
        kernel=(1, 1),
        stride=(rows.stride, cols.stride),
        origin=(v.top + rows.first, v.left + cols.first),
        size=size,
    )
