"""Mul of two maps, or of a map and a number for each channel or pixel, as KPU layers.

``a * b = ((p a + b / p)^2 - (p a - b / p)^2) / 4`` for any p: two layers over both maps side by side, whose activation
is the square, and a 1x1 convolution that takes the difference. A square falls and rises, for which the chip has no good
table, so each becomes two channels, ``relu(v)^2`` and ``relu(-v)^2``. A linear 1x1 convolution behind the product takes
the difference in. Gates of squeeze-and-excite are spread over a map by the runtime's resize.

V3 has no product at all. V4 and V5 multiply on the CPU, V4 in whole numbers, V5 in float; there the KPU takes over
where that is estimated to cost less than half, since the squares round once more.

Which p gives the least rounding follows from the ranges: ``quantize.products`` sets it before calibration.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.errors import UnsupportedError
from openkpu.estimate import price
from openkpu.graph.elementwise import Expr, X, const
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import AI_RAM_BYTES, MAX_CHANNELS, MIN_SIZE
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.lower import decide
from openkpu.lower.context import Context
from openkpu.lower.conv import lower_conv
from openkpu.lower.ops import makes_u8
from openkpu.lower.tail import follow
from openkpu.lower.view import View

HALF_SQUARE: Final = Expr("Square", (Expr("Max", (X, const(0))),))
"""``relu(x)^2``."""
ROOM: Final = 0.7
"""The share of AI RAM that operands and squares together may take where the CPU could multiply too."""
READERS: Final = ("Conv", "Add", "Sub", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Elementwise", "Mul")
"""Operators that read a product on the KPU."""
MOST: Final = 64
"""Channels that are multiplied in one go: the weights of the squares, mostly zeros, grow with their square."""


def lower_mul(ctx: Context, node: Node) -> None:
    """Lower Mul of computed tensors; what V4 and V5 multiply at less cost on the CPU is refused here."""
    a, b = node.inputs
    if a.is_constant or b.is_constant:
        raise _refused(node, "V3 multiplies by constants of one number for each channel only")
    if a.shape != node.output.shape:
        a, b = b, a
    _, c, h, w = a.shape if len(a.shape) == 4 else (0, 0, 0, 0)
    if len(a.shape) != 4 or a.shape != node.output.shape or h * w == 1:
        raise _refused(node, f"its shapes are {_dims(a)} and {_dims(b)}; the KPU multiplies maps")
    full = (1,) * (4 - len(b.shape)) + b.shape
    if full not in ((1, c, h, w), (1, c, 1, 1), (1, 1, h, w)) or (len(b.shape) != 4 and full != (1, c, 1, 1)):
        raise _refused(node, f"{_dims(b)} is neither a map, a number for each channel nor one for each pixel")
    if ctx.target.has("Mul") and not _worth_it(ctx, node, a, b, full):
        raise _refused(node, "the CPU multiplies it at about the same cost")
    before = ctx.spent
    first, second = _operands(ctx, node, a, b, full)
    view, terms = _terms(ctx, first, second, node.output.name)
    _difference(ctx, node, view, terms)
    how = "the difference of two squares, each the activation of a 1x1 convolution over both maps"
    decide.kpu_rewrite(ctx, node, how, ctx.spent - before)


def _worth_it(ctx: Context, node: Node, a: Tensor, b: Tensor, full: tuple[int, ...]) -> bool:
    """Whether the KPU costs less than half of what the CPU does: maps that are on the KPU, for readers on the KPU."""
    _, c, h, w = a.shape
    spread = full[2:] == (1, 1)
    readers = ctx.users.get(id(node.output), [])
    if ctx.source.is_output(node.output) or not all(r.op in READERS for r in readers):
        return False
    values = [ctx.values[id(t)] for t in ((a,) if spread else (a, b))]
    made = [v.tensor.producer if isinstance(v, View) else None for v in values]
    if not all(p is not None and makes_u8(p) for p in made):
        return False
    maps = 6 * FeatureMapLayout(c, max(h, MIN_SIZE), max(w, MIN_SIZE)).bytes
    if maps > ROOM * AI_RAM_BYTES:
        return False
    r, version, n = ctx.rates, ctx.target.version, c * h * w
    if version == 4:
        each = (r.quantized_broadcast if spread else r.quantized_add).ns
    else:
        each = (2 - spread) * r.dequantize.ns + (r.broadcast if spread else r.binary).ns + r.quantize.ns
    moved = (2 - spread) * r.download.ns + price.upload_ns(w, version)
    on_cpu = n * (each + moved) / 1000
    part = min(c, MOST)
    squares = price.kpu_layer_us(2 * part, h, w, 2 * part, kernel=1, depthwise=False, version=version)
    last = price.kpu_layer_us(min(4 * c, MAX_CHANNELS), h, w, c, kernel=1, depthwise=False, version=version)
    on_kpu = 4 * squares * -(-c // part) + last  # a copy of each operand at worst
    on_kpu += n * (r.resize.ns + price.upload_ns(w, version)) / 1000 if spread else 0.0
    return 2 * on_kpu <= on_cpu


def _operands(ctx: Context, node: Node, a: Tensor, b: Tensor, full: tuple[int, ...]) -> tuple[View, Tensor]:
    """Return the first map, and the second spread to the same place."""
    stem = node.output.name
    v = _large_enough(ctx, ctx.map(a), stem)
    c, (h, w) = v.channels, v.physical
    if full[2:] == (1, 1):
        t = ctx.flat(b)
        t = ctx.emit("Reshape", [t], (1, c, 1, 1), f"{t.name}.pixel", shape=(1, c, 1, 1))
        wide = ctx.emit("CpuResize", [t], (1, c, h, w), f"{stem}.gates", size=(h, w))
        us = c * h * w * (ctx.rates.resize.ns + price.upload_ns(w, ctx.target.version)) / 1000
        ctx.spent += us
        return v, wide
    u = _large_enough(ctx, ctx.map(b), stem)
    if not u.same_place(v):
        v, u = (_large_enough(ctx, ctx.materialize(ctx.map(t), stem), stem) for t in (a, b))
    other = u.tensor
    if u.channels != c:
        other = ctx.kpu_conv(other, np.ones((c, 1, 1, 1), np.float32), np.zeros(c, np.float32), f"{stem}.spread")
    return v, other


def _large_enough(ctx: Context, v: View, stem: str) -> View:
    """Return a map as the KPU takes it: every pixel, at least 4x4, if need be with a frame that does not count."""
    if v.step != 1 or (min(v.physical) < MIN_SIZE and not v.is_whole):
        v = ctx.materialize(v, stem)
    h, w = v.size
    if min(v.physical) >= MIN_SIZE:
        return v
    frame = (0, 0, max(0, MIN_SIZE - h), max(0, MIN_SIZE - w))
    why = f"the KPU takes maps of at least {MIN_SIZE}x{MIN_SIZE}; this is {w}x{h}"
    return View(ctx.pad(v, frame, stem, why, "keep maps at 4x4 or more").tensor, 0, 0, h, w)


def _terms(ctx: Context, v: View, other: Tensor, stem: str) -> tuple[View, list[tuple[Tensor, range]]]:
    """Emit the squares: tensors of four terms for each channel of a range, in the order sum +-, difference +-."""
    c = v.channels
    x, _ = ctx.whole_lines(v.tensor, np.zeros((1, c, 1, 1), np.float32), f"{stem}.first")
    if x is other:
        other = ctx.identity(other, f"{stem}.copy")
    parts: list[tuple[Tensor, range]] = []
    for start in range(0, c, MOST):
        taken = range(start, min(start + MOST, c))
        counts = [MOST if taken.stop < c else t.shape[1] - start for t in (x, other)]
        sides = [ctx.channels(t, start, n, f"{stem}.part{start}") for t, n in zip((x, other), counts, strict=True)]
        both = ctx.concat(sides, f"{stem}.both")
        parts.append((_squares(ctx, both, len(taken), f"{stem}.{start}"), taken))
    return v, parts


def _squares(ctx: Context, both: Tensor, c: int, stem: str) -> Tensor:
    """Emit the layers of the sum and of the difference; ``product`` names the channels of each operand."""
    second = both.shape[1] - _second_channels(both)
    made: list[Tensor] = []
    for name, sign in (("sum", 1.0), ("difference", -1.0)):
        w = np.zeros((2 * c, both.shape[1], 1, 1), np.float32)
        w[range(c), range(c)] = 1
        w[range(c), range(second, second + c)] = sign
        w[c:] = -w[:c]
        t = ctx.kpu_conv(both, w, np.zeros(2 * c, np.float32), f"{stem}.{name}", fn=HALF_SQUARE)
        producers = [t] if t.producer is not None and t.producer.op == "KpuConv" else list(_parts(t))
        for p in producers:
            assert p.producer is not None
            p.producer.attrs["product"] = (c, second)
        wide, _ = ctx.whole_lines(t, np.zeros((1, 2 * c, 1, 1), np.float32), f"{stem}.{name}") if not made else (t, w)
        made.append(wide)
    return ctx.concat(made, f"{stem}.terms")


def _second_channels(both: Tensor) -> int:
    assert both.producer is not None
    return both.producer.inputs[1].shape[1]


def _parts(t: Tensor) -> list[Tensor]:
    return list(t.producer.inputs) if t.producer is not None else []


def _difference(ctx: Context, node: Node, v: View, parts: list[tuple[Tensor, range]]) -> None:
    """Take the difference of the squares, in the linear 1x1 convolution behind where there is one."""
    c = v.channels
    x = ctx.concat([t for t, _ in parts], f"{node.output.name}.squares") if _fit(parts) else None
    user = ctx.only_user(node.output)
    if x is not None and user is not None and _is_pointwise(user, node.output):
        w, b = user.weights_and_bias()
        matrix = w[:, :, 0, 0] @ _matrix(parts, c)
        weights = Tensor(
            ctx.name(f"{user.output.name}.product"), (*matrix.shape, 1, 1), "float32", matrix[:, :, None, None]
        )
        bias = Tensor(ctx.name(f"{user.output.name}.bias"), b.shape, "float32", b)
        squares = Tensor(f"{node.output.name}.terms", (1, x.shape[1], *node.output.shape[2:]))
        ctx.values[id(squares)] = v.on(x)
        conv = Node("Conv", [squares, weights, bias], [user.output], dict(user.attrs), user.source)
        ctx.kept.append(squares)
        try:
            lower_conv(ctx, conv)
        finally:
            user.output.producer = user  # the source graph stays as it was
        ctx.done.add(id(user))
        return
    tail = follow(ctx, node.output, pools=False)
    stem = tail.end.name
    made = []
    for t, taken in parts:
        w = np.ascontiguousarray(_matrix([(t, range(len(taken)))], len(taken)))
        name = stem if len(parts) == 1 else f"{stem}.part{taken.start}"
        made.append(ctx.kpu_conv(t, w[:, :, None, None], np.zeros(len(taken), np.float32), name, fn=tail.fn))
    ctx.done |= {id(n) for n in tail.nodes}
    ctx.values[id(tail.end)] = v.on(ctx.concat(made, stem))


def _fit(parts: list[tuple[Tensor, range]]) -> bool:
    return sum(t.shape[1] for t, _ in parts) <= MAX_CHANNELS


def _is_pointwise(user: Node, t: Tensor) -> bool:
    """Whether a node is a 1x1 convolution of stride 1 that is not itself computed from anything else."""
    if user.op != "Conv" or user.inputs[0] is not t or not all(i.is_constant for i in user.inputs[1:]):
        return False
    a, kernel = user.attrs, user.inputs[1].shape[2:]
    return a["group"] == 1 and kernel == (1, 1) and tuple(a["strides"]) == (1, 1) and not any(a["pads"])


def _matrix(parts: list[tuple[Tensor, range]], c: int) -> np.ndarray:
    """Return the matrix (c, terms) that takes the difference: a quarter of the sum's squares less the other's."""
    columns = []
    for t, taken in parts:
        n = len(taken)
        assert t.producer is not None
        sums, differences = (i.shape[1] for i in t.producer.inputs)
        m = np.zeros((c, sums + differences), np.float32)
        for first, sign in ((0, 0.25), (n, 0.25), (sums, -0.25), (sums + n, -0.25)):
            m[list(taken), range(first, first + n)] = sign
        columns.append(m)
    return np.concatenate(columns, axis=1)


def _dims(t: Tensor) -> str:
    return "x".join(map(str, t.shape)) or "scalar"


def _refused(node: Node, why: str) -> UnsupportedError:
    return UnsupportedError(
        "E275",
        "a product of computed tensors in a form that kmodel V3 does not have",
        where=node.label,
        why=why,
        fix="multiply a map by a map, or by a number for each channel or pixel",
    )
