"""Slice: a part of a map costs nothing, the next layer works on the whole map; a tile becomes a map of its own."""

from __future__ import annotations

from dataclasses import replace

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.ir import Node
from openkpu.k210 import MAX_HEIGHT, MAX_WIDTH, MIN_SIZE
from openkpu.lower import decide
from openkpu.lower.context import Context
from openkpu.lower.ops import makes_u8
from openkpu.lower.view import View


def lower_slice(ctx: Context, node: Node) -> None:
    """Rows and columns of a map are a part of it (see below); a tile is cut out in main RAM."""
    a = node.attrs
    x = node.inputs[0]
    plain = len(x.shape) == 4 and set(a["axes"]) <= {2, 3} and all(s == 1 for s in a["steps"])
    v = ctx.map(x) if plain else None
    made = v.tensor.producer if v is not None else None
    while made is not None and made.op == "Reshape":
        made = made.inputs[0].producer
    if v is None or not (made is None or makes_u8(made)) or min(node.output.shape[2:]) < 2:
        raise UnsupportedError(
            "E284",
            "Slice in another form than rows and columns of a uint8 map",
            where=node.label,
            why=f"axes {tuple(a['axes'])}, steps {tuple(a['steps'])} of {'x'.join(map(str, x.shape))}",
            fix="slice height and width with step 1 behind a convolution",
        )
    start = dict(zip(a["axes"], a["starts"], strict=True))
    top, left = (range(x.shape[i])[start.get(i, 0)] if start.get(i, 0) else 0 for i in (2, 3))
    h, w = node.output.shape[2:]
    part = replace(v, top=v.top + top * v.step, left=v.left + left * v.step, height=h, width=w)
    if not a.get("cut"):
        ctx.values[id(node.output)] = part
        return
    if ctx.target.version == 3 and made is None:
        _check_v3_picture(node, v)
    before = ctx.spent
    version = ctx.target.version
    on_cpu = price.cpu_cut_us(0, (v.channels, h, w), version=version)
    on_kpu = price.kpu_rows_us(v.channels, h, v.physical[1], version=version, layer_us=ctx.layer_us)
    if v.step == 1 and w == v.width and h >= MIN_SIZE and on_kpu < on_cpu:
        rows = ctx.emit("KpuRows", [v.tensor], (1, v.channels, h, v.physical[1]), node.output.name,
                        first=(part.top,), count=(h,), shift=(0,))  # fmt: skip
        ctx.values[id(node.output)] = View(rows, 0, v.left, h, w)
        ctx.spent += on_kpu
        how = "rows copied within AI RAM, a group of channels at a time"
        decide.kpu_rewrite(ctx, node, how, ctx.spent - before)
        return
    out = ctx.emit(
        "CpuMaxPool",
        [v.tensor],
        node.output.shape,
        node.output.name,
        kernel=(1, 1),
        stride=(v.step, v.step),
        origin=(part.top, part.left),
        size=(h, w),
    )
    ctx.values[id(node.output)] = View.whole(out)
    ctx.spent += on_cpu
    decide.on_cpu(
        ctx, node, "a tile of a map that is too large for the KPU", "use a smaller picture", ctx.spent - before
    )


def _check_v3_picture(node: Node, picture: View) -> None:
    """V3 brings the picture to main RAM by a KPU layer, which must take it whole."""
    h, w = picture.physical
    if h > MAX_HEIGHT or w > MAX_WIDTH:
        raise UnsupportedError(
            "E213",
            "a layer is larger than the KPU takes",
            where=node.label,
            why=f"the picture is {w}x{h}, limit {MAX_WIDTH}x{MAX_HEIGHT}; kmodel V3 puts it straight into AI RAM, "
            "where only a KPU layer can read it, whole",
            fix="use --target v4 or v5, which cut the picture in main RAM, or a smaller input picture",
        )
